"""The tick: 50 times a second, for all legs of the process together.

    readers                                 WebRTC's packets, read by its ingress -> Leg.push_pcm
    sockets.read -> plane.incoming.push     what arrived, a pass of at most one datagram a leg at a time
    timers.take_read                        what calls, holds and pauses wait for is read: legs close, gates move
    plane.ready, plane.tick                 audio to send, gates that moved, voices -> `Leg.on_output`
    timers.take_due                         deadlines of turns and key presses, the backstop of a call that has ended
    reports.run                             RTCP

It runs on the event loop at absolute times. One that comes late is measured (`Load`), and new calls are refused before
running ones suffer. A bug in one leg ends that leg; a bug in a piece of the tick is logged, and the tick goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any, TypeVar

import structlog

from bridge.clock import thread_time
from bridge.load import Load
from bridge.media.outputs import Failure, Output
from bridge.timers import Timers
from bridge.wiring import Seat, Wiring

FLOODED_AFTER = 10.0  # s of reading and still being behind: that is no standstill, somebody sends more than is read
TURNS = 4  # of the loop between two ticks, late ones too: so many it takes from a provider's final to Redis
T = TypeVar("T")
log = structlog.get_logger()


class Tick:
    """`readers` are called with `now` first of all, `each_second` once a second, for what need not be looked at more
    often."""

    def __init__(
        self,
        wiring: Wiring,
        timers: Timers,
        *,
        load: Load,
        readers: Sequence[Callable[[float], None]],
        each_second: Callable[[float], None],
    ) -> None:
        self._wiring = wiring
        self._timers = timers
        self._load = load
        self._readers = readers
        self._each_second = each_second
        self.beats = 0
        "Ticks so far: whoever supervises us sees whether they go on."
        self._behind_since = inf
        "When `read` began to leave something behind."
        self._second_ends = 0.0

    async def run(self, period: float) -> None:
        """Ticks every `period` seconds until cancelled. A beat that was missed is not made up for: the next one takes
        all that is there."""
        clock, metrics = self._wiring.now, self._wiring.metrics
        due = before = clock()
        spent = thread_time()
        while True:
            due += period
            for _ in range(TURNS):
                await asyncio.sleep(0)
            await asyncio.sleep(max(due - clock(), 0.0))
            now = clock()
            late = max(now - due, 0.0)
            metrics.tick_lateness.observe(late)
            spent, spent_before = thread_time(), spent
            self._load.note(cpu=spent - spent_before, wall=now - before, late=late)
            before = now
            self.beat(now)
            metrics.tick_seconds.observe(clock() - now)
            due += late // period * period

    def beat(self, now: float) -> None:
        """One tick. What arrived is read first, so that a call that has ended loses nothing of its last 20 ms."""
        wiring = self._wiring
        self.beats += 1
        for read in tuple(self._readers):
            self._shielded(read, now)
        for batch in wiring.sockets.read():
            for then in self._timers.take_read(batch.heads):
                self._shielded(then, now)
            self._shielded(wiring.plane.incoming.push, batch)
        for then in self._timers.take_read() if wiring.sockets.read_to == inf else ():
            self._shielded(then, now)
        read_to = self._read_to(now)  # after a standstill of the process media is caught up with over some beats, ...
        self._dispatch_all(self._shielded(wiring.plane.ready) or (), now)
        self._dispatch_all(self._shielded(wiring.plane.tick, min(now, read_to)) or (), now)
        now_read = min(wiring.now(), read_to)  # ... and what was not read yet is not taken for silence
        for timed in self._timers.take_due(now_read):
            self._shielded(timed.handle_timer, now_read)
        self._shielded(wiring.reports.run, now)
        if now >= self._second_ends:
            self._second_ends = now + 1.0
            self._shielded(self._each_second, now)

    def _read_to(self, now: float) -> float:
        """Up to when all is read. Not of a socket that is flooded: it would keep every call's turns waiting."""
        read_to = self._wiring.sockets.read_to
        self._behind_since = inf if read_to == inf else min(self._behind_since, now)
        return inf if now - self._behind_since > FLOODED_AFTER else read_to

    def _dispatch_all(self, outputs: Iterable[Output], now: float) -> None:
        for output in outputs:
            leg = self._wiring.seats[output.row]
            if leg is not None:
                self._dispatch(leg, output, now)

    def _dispatch(self, leg: Seat, output: Output, now: float) -> None:
        try:
            if isinstance(output, Failure):
                raise output.error
            leg.on_output(output, now)
        except Exception:  # the boundary of one leg
            log.exception("leg failed", leg=leg.id)
            leg.failed()

    def _shielded(self, work: Callable[..., T], *args: Any) -> T | None:
        """The boundary of one piece of the tick."""
        try:
            return work(*args)
        except Exception:
            log.exception("tick failed", state=getattr(work, "__qualname__", ""))
            return None
