"""The same audio, at the same pace, into the same provider stand-in, by other people's programs.

Each is the smallest program that does it well enough: one UDP port a leg, G.711 decoded by a table, the library's own
Deepgram client. Neither has a jitter buffer, a gate, a voice detector, turns, or anywhere to publish to.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.bench.house import Bench
from tests.bench.processes import get, running
from tests.bench.rows import Row

WHAT = {"pipecat": "a pipecat pipeline with DeepgramSTTService", "livekit": "LiveKit's Deepgram client alone"}
UP_WITHIN = 90.0  # s; both import for seconds
SETTLE = 3.0  # s
BYTES_PER_SECOND = 16000  # linear16, 8 kHz


def missing(program: str) -> str:
    """Why it cannot be measured here, or nothing."""
    name = program.upper()
    folder = os.environ.get(name, "")
    if not folder:
        return f"{name} names no virtual environment that has it"
    return "" if (Path(folder) / "bin" / "python").exists() else f"{name}: {folder} is no virtual environment"


def measure_peer(bench: Bench, row: Row) -> dict[str, Any]:
    """Raises BenchError."""
    python = str(Path(os.environ[row.program.upper()]) / "bin" / "python")
    script = str(Path(__file__).with_name(f"peer_{row.program}.py"))
    env = {**os.environ, "PYTHONPATH": ""}
    with (
        bench.sink() as (_, port, stats),
        running(
            [python, script, str(row.legs), str(port)], cpus=bench.own, log=bench.folder / "peer.log", env=env
        ) as peer,
    ):  # fmt: skip
        ports = peer.hear(UP_WITHIN)["line"].split()[1:]
        with bench.generator("PCMU", "--ports", ",".join(ports), "--legs", str(row.legs)) as generator:
            generator.hear(UP_WITHIN)
            time.sleep(SETTLE)
            heard = json.loads(get(stats))["audio_bytes"]
            start, spent = time.monotonic(), measure.cpu_s(peer.pid)
            time.sleep(bench.options.seconds)
            took = time.monotonic() - start
            percent = 100 * (measure.cpu_s(peer.pid) - spent) / took
            heard = json.loads(get(stats))["audio_bytes"] - heard
            rss = measure.rss_kb(peer.pid)
            generator.ask("stop")
    return {
        "what": WHAT[row.program], "legs": row.legs, "cpu_percent": percent, "cpu_per_leg_percent": percent / row.legs,
        "rss_mb": rss / 1024, "share": heard / (row.legs * BYTES_PER_SECOND * took),
    }  # fmt: skip
