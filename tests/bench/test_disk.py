from __future__ import annotations

import time
from pathlib import Path

from tests.bench.disk import DiskProbe


def test_a_probe_syncs_while_something_else_runs_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with DiskProbe(tmp_path) as probe:
        deadline = time.monotonic() + 10.0
        while len(probe.taken) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    n = len(probe.taken)
    assert n >= 3
    assert all(seconds > 0 for seconds in probe.taken)
    time.sleep(0.12)
    assert len(probe.taken) == n
    assert list(tmp_path.iterdir()) == []
