"""The only place that reads a clock. Everything pure is handed `now`.

`now` is monotonic seconds (the event loop's own clock); the wall clock is read once per event.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

READ_WITHIN = 20e-6  # s between two readings of a clock, a hundred times what they take: longer, and something else ran
READ_TRIES = 4
STEP = 0.005  # s; of the wall clock against the monotonic one: NTP slews both alike

_speed = 1.0
_since = 0.0


def monotonic() -> float:
    """Seconds of the clock that asyncio's loops use (CLOCK_MONOTONIC), unless it is `running_at` another speed."""
    now = time.monotonic()
    return now if _speed == 1.0 else _since + (now - _since) * _speed


@contextlib.contextmanager
def running_at(speed: float) -> Iterator[None]:
    """Within the block a second of `monotonic` takes 1 / `speed` real ones. For replays: timers of the loop itself stay
    real, so what waits on them waits a little longer than it needs to. No time may be kept beyond the block."""
    global _speed, _since
    _since, _speed = time.monotonic(), speed
    try:
        yield
    finally:
        _speed = 1.0


def unix_ms() -> int:
    """Wall clock, milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


def unix_offset(unix_ns: Callable[[], int] = time.time_ns, now: Callable[[], float] = time.monotonic) -> float:
    """Seconds from the real monotonic clock to Unix time, both of one moment.

    A process that is preempted between its two readings would take the pause for part of the offset: every packet whose
    kernel stamp is then converted seems to have come that much too early, and capture times go by the earliest packets.
    """
    best, offset = float("inf"), 0.0
    for _ in range(READ_TRIES):
        before = now()
        unix = unix_ns() / 1e9
        took = now() - before
        if took < best:
            best, offset = took, unix - before - took / 2
        if took < READ_WITHIN:
            break
    return offset


class StampClock:
    """Kernel stamps of datagrams, which are Unix time, as monotonic times: over steps of the wall clock too (NTP, a
    leap second, a host that was moved). What waits unread then was stamped by the clock as it was, and would seem to
    have come that much too early, or in the future."""

    def __init__(self, offset: Callable[[], float] = unix_offset) -> None:
        self._ask = offset
        self.offset = offset()
        "Seconds from monotonic to Unix time, as of the last `begin`."
        self._before: float | None = None

    def begin(self) -> None:
        """Reading begins."""
        offset = self._ask()
        if abs(offset - self.offset) > STEP and self._before is None:
            self._before = self.offset
        self.offset = offset

    def end(self) -> None:
        """Nothing is left to be read that came before `begin`."""
        self._before = None

    @property
    def has_stepped(self) -> bool:
        """Of what is read now some may bear stamps of the clock as it was: ask `corrected`."""
        return self._before is not None

    def corrected(self, at: float, now: float) -> float:
        """When a datagram came that came `at`, were its stamp of the clock as it is now: of both clocks the later time
        that is not in the future. At worst as much too late as it has waited; late packets move no word."""
        if self._before is None:
            return at
        return max((time for time in (at, at + self.offset - self._before) if time <= now), default=now)


def thread_time() -> float:
    """Seconds of CPU that the calling thread has spent."""
    return time.thread_time()
