"""How long callbridge takes to be there: from the start of the process to /readyz, and `import bridge`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from tests.bench.house import START_WITHIN, Bench
from tests.bench.processes import ROOT, wait_for_http
from tests.redis_server import RedisServer

TIMES = 5
POLL = 0.01  # s; how exactly the start is timed
IMPORT = "import time; began = time.perf_counter(); import {0}; print(time.perf_counter() - began)"
IMPORTED = ("bridge", "bridge.subscribe", "bridge.app")  # all; what a subscriber needs; the whole service
IMPORT_WITHIN = 60.0  # s


def measure_start(bench: Bench, redis: RedisServer, legs: int = 1000) -> dict[str, Any]:
    """Medians of `TIMES`, and the slowest start, seconds. Python's own start is part of `ready`, not of `import`."""
    ready = []
    with bench.sink() as (_, sink_port, _):
        for _ in range(TIMES):
            config, _, http = bench.configure(legs, redis, sink_port, is_wss=False)
            began = time.monotonic()
            with bench.serve(config) as service:
                wait_for_http(f"http://127.0.0.1:{http}/readyz", service, within=START_WITHIN, every=POLL)
                ready.append(time.monotonic() - began)
    imports = {name: statistics.median(import_s(name) for _ in range(TIMES)) for name in IMPORTED}
    return {"ready_s": statistics.median(ready), "ready_worst_s": max(ready), "import_s": imports}


def import_s(name: str) -> float:
    """In a fresh interpreter."""
    told = subprocess.run(
        [sys.executable, "-c", IMPORT.format(name)],
        capture_output=True, text=True, cwd=ROOT, timeout=IMPORT_WITHIN, check=True,
    )  # fmt: skip
    return float(told.stdout)
