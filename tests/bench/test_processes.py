from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench.processes import BenchError, running

CPUS = os.sched_getaffinity(0)


def python(program: str) -> list[str]:
    return [sys.executable, "-uc", program]


def test_a_child_answers_line_by_line() -> None:
    program = "import json, sys\nprint(json.dumps({'port': 7}))\nfor line in sys.stdin: print('heard', line.strip())"
    with running(python(program), cpus=CPUS) as child:
        assert child.hear(10.0) == {"port": 7}
        assert child.ask("stop", 10.0) == {"line": "heard stop\n"}


def test_a_child_that_says_nothing_is_waited_for_until_the_deadline_only(tmp_path: Path) -> None:
    program = "import sys, time\nsys.stderr.write('I am stuck')\ntime.sleep(60)"
    with running(python(program), cpus=CPUS, log=tmp_path / "log") as child:
        with pytest.raises(BenchError, match="no answer within"):
            child.hear(0.5)
        assert child.is_running
    assert child.process.returncode is not None


def test_a_child_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    program = "import sys\nsys.exit('no room at the inn')"
    with running(python(program), cpus=CPUS, log=tmp_path / "log") as child:
        with pytest.raises(BenchError, match=r"(?s)ended with 1.*no room at the inn") as told:
            child.ask("stats", 10.0)
        assert "-uc" in str(told.value)
