"""Coverage-guided fuzzing of everything that a stranger can send, for a bounded time (`make soak`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECONDS = max(5, min(600, int(float(os.environ.get("CALLBRIDGE_SOAK_S", "420")) / 7)))
"Of each target."
SLOWEST = 1  # s of one input that libFuzzer takes for a hang; the 10 ms of one message are the other fuzzer's to judge
RSS_MB = 1024
TARGETS = ("sip", "sdp", "multipart", "metadata", "digest", "rtp", "rtcp")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed (`make soak` tries to)"),
]


@pytest.mark.parametrize("target", TARGETS)
def test_no_input_makes_it_raise_hang_or_grow(tmp_path: Path, target: str) -> None:
    limits = [f"-max_total_time={SECONDS}", f"-timeout={SLOWEST}", f"-rss_limit_mb={RSS_MB}", "-max_len=8000"]
    command = [sys.executable, "-m", "tests.wire.fuzz", target, str(tmp_path), f"-artifact_prefix={tmp_path}/", *limits]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 120, check=False)
    told = done.stderr + done.stdout
    assert done.returncode == 0, told[-4000:]
    runs = re.search(r"Done (\d+) (?:runs|in)", told)
    assert runs is not None, told[-2000:]
    print(f"{target}: {runs[1]} inputs in {SECONDS} s")
    assert int(runs[1]) > 1000
