"""The command line: one clear sentence and the right exit status."""

from __future__ import annotations

import os
import subprocess
import sys


def callbridge(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALLBRIDGE_")}
    environment |= {"REDIS_URL": "redis://127.0.0.1:1/0"}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_a_report_without_redis_fails_with_a_sentence() -> None:
    done = callbridge("report", "a-call")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "callbridge: redis.url: not reachable: ConnectionError\n"
