"""The only place that reads a clock. Everything pure is handed `now`.

`now` is monotonic seconds (the event loop's own clock); the wall clock is read once per event.
"""

from __future__ import annotations

import time


def monotonic() -> float:
    """Seconds of the clock that asyncio's loops use (CLOCK_MONOTONIC)."""
    return time.monotonic()


def unix_ms() -> int:
    """Wall clock, milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
