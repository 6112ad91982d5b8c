"""Every call of this process: admitted, ticked, counted, drained.

The tick is the heart: read what arrived, let the plane work, hand its outputs to the legs. It runs on the event loop
at absolute times; one that comes late is measured, and new calls are refused before running ones suffer.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol, TypeVar

import structlog

from bridge.call import Call
from bridge.clock import thread_time
from bridge.config import Settings, TrunkSettings
from bridge.errors import CapacityError
from bridge.ingress.contract import CallControl, CallOffer
from bridge.leg import Leg
from bridge.load import Load
from bridge.media.outputs import Failure, Output
from bridge.metrics import Metrics
from bridge.plans import ProviderTables, plan_for, with_tables
from bridge.publish.events import Event, Published
from bridge.publish.redact import Redactor
from bridge.web.contract import Feed, Verb
from bridge.web.feed import Feeds
from bridge.wiring import Timed, Wiring

COLLECT_EVERY = 60.0  # s between full garbage collections when there is little to do
COLLECT_AT_LATEST = 1800.0  # s
COLLECT_AFTER = 2000  # calls: each still leaves a few small objects in cycles, and a process may always be busy
COLLECT_BELOW = 0.25  # share of the core: about 200 legs, a collection of some 20 ms
FLOODED_AFTER = 10.0  # s of reading and still being behind: that is no standstill, somebody sends more than is read
LOOK_EVERY = 1.0  # s between two looks for calls that were forgotten
T = TypeVar("T")
log = structlog.get_logger()


class Outbox(Protocol):
    """Where events go; `publish` never waits. Answers the event's number, 0 where it was dropped or has none yet."""

    def publish(self, event: Event) -> int: ...


class Store(Protocol):
    """What was published, read back for the console."""

    def history(self, call: str, after: str) -> AsyncIterator[Published]: ...

    async def recent(self, limit: int) -> Sequence[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Health:
    """What readiness depends on, asked when somebody asks us."""

    sip_bound: Callable[[], bool]
    sink_writable: Callable[[], bool]
    instance: str


class Service:
    """The `Host` of every ingress and the `Calls` of the web server."""

    def __init__(self, settings: Settings, *, metrics: Metrics, outbox: Outbox, store: Store, feeds: Feeds) -> None:
        self._settings = settings
        self._metrics = metrics
        self._outbox = outbox
        self._store = store
        self._feeds = feeds
        self._redact = Redactor(settings.privacy)
        self._provided: ProviderTables = {}
        self._calls: dict[str, Call] = {}
        self._timers: list[tuple[float, int, Timed]] = []
        self._armed = 0
        self.beats = 0
        "Ticks so far: whoever supervises us sees whether they go on."
        self._after_read: list[tuple[float, Callable[[float], None]]] = []
        "Each with when it was asked for."
        self._behind_since = inf
        "When `read` began to leave something behind."
        self._load = Load()
        self._is_draining = False
        self._look_at = 0.0
        self._collected_at = 0.0
        self._over_since = 0
        self._idle = asyncio.Event()
        self._idle.set()
        metrics.calls.read_from(lambda: float(len(self._calls)))
        metrics.draining.read_from(lambda: float(self._is_draining))
        metrics.legs.read_from(lambda: float(self._open_legs()))
        metrics.legs_limit.read_from(lambda: float(self._settings.service.max_legs))

    def wire(self, wiring: Wiring, health: Health) -> None:
        """The composition root's last word, before anything runs."""
        self._wiring = wiring
        self._health = health

    # -- what legs use --------------------------------------------------------------------------------------------

    def publish(self, event: Event) -> None:
        """To the outbox and to whoever watches live, redacted as `[privacy]` says. Never waits."""
        if not self._redact.is_idle:
            event = self._redact(event)
        seq = self._outbox.publish(event)
        self._metrics.events.add(1, event.type)
        if len(self._feeds):
            self._feeds.offer(shown(event, seq))

    def arm(self, target: Timed, at: float) -> None:
        """See `Wiring.arm`."""
        self._armed += 1
        heapq.heappush(self._timers, (at, self._armed, target))

    def after_read(self, then: Callable[[float], None]) -> None:
        """See `Wiring.after_read`."""
        self._after_read.append((self._wiring.now(), then))

    # -- Host -------------------------------------------------------------------------------------------------------

    @property
    def is_accepting(self) -> bool:
        """See `Host`."""
        return (
            not self._is_draining and not self._load.is_too_much and self._open_legs() < self._settings.service.max_legs
        )

    def _open_legs(self) -> int:
        return sum(1 for call in self._calls.values() for leg in call.legs if not leg.is_closed)

    def _admit(self, n: int) -> None:
        if self._open_legs() + n > self._settings.service.max_legs:
            raise CapacityError("max_legs is reached")

    def trunk(self, offer: CallOffer) -> TrunkSettings:
        """See `Host`."""
        return plan_for(offer, self._settings).sip

    def open_call(self, offer: CallOffer, control: CallControl, now: float) -> Call:
        """See `Host`."""
        try:
            if self._is_draining:
                raise CapacityError("draining", retry_after=30)
            if self._load.is_too_much:
                raise CapacityError("the media plane is at its limit")
            self._admit(len(offer.legs))
            call = Call(
                offer,
                plan=plan_for(offer, self._settings),
                control=control,
                wiring=self._wiring,
                admit=self._admit,
                on_over=self._forget,
                now=now,
            )
        except CapacityError as error:
            self._metrics.calls_refused.add(1, offer.ingress, str(error))
            raise
        self._calls[call.id] = call
        self._idle.clear()
        return call

    def find_call(self, correlation: str, value: str) -> Call | None:
        """See `Host`. Under `call` it is the call's own id."""
        if correlation == "call":
            found = self._calls.get(value)
            return None if found is None or found.is_ending else found
        for call in self._calls.values():
            if call.offer.correlation.get(correlation) == value and not call.is_ending:
                return call
        return None

    def _forget(self, call: Call) -> None:
        self._calls.pop(call.id, None)
        self._over_since += 1
        self._metrics.calls_ended.add(1, call.offer.ingress, call.reason)
        if not self._calls:
            self._idle.set()

    # -- the tick ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Ticks until cancelled. A beat that was missed is not made up for: the next tick takes all that is there."""
        tick = self._settings.service.tick_ms / 1000
        clock = self._wiring.now
        due = before = clock()
        spent = thread_time()
        while True:
            due += tick
            await asyncio.sleep(max(due - clock(), 0.0))
            now = clock()
            late = max(now - due, 0.0)
            self._metrics.tick_lateness.observe(late)
            spent, spent_before = thread_time(), spent
            self._load.note(cpu=spent - spent_before, wall=now - before, late=late)
            before = now
            self.tick(now)
            self._metrics.tick_seconds.observe(clock() - now)
            due += late // tick * tick

    def tick(self, now: float) -> None:
        """One beat. What arrived is read first, so that a call that has ended loses nothing of its last 20 ms."""
        wiring = self._wiring
        self.beats += 1
        for batch in wiring.sockets.read():
            self._shielded(wiring.plane.incoming.push, batch)
        self._call_back(wiring.sockets.read_to, now)
        read_to = self._read_to(now)  # after a standstill of the process media is caught up with over some beats, ...
        self._dispatch_all(self._shielded(wiring.plane.ready) or (), now)
        self._dispatch_all(self._shielded(wiring.plane.tick, min(now, read_to)) or (), now)
        self._serve_timers(min(wiring.now(), read_to))  # ... and what was not read yet is not taken for silence
        self._shielded(wiring.reports.run, now)
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._shielded(self._end_idle, now)
            self._collect(now)

    def _read_to(self, now: float) -> float:
        """Up to when all is read. Not of a socket that is flooded: it would keep every call's turns waiting."""
        read_to = self._wiring.sockets.read_to
        self._behind_since = inf if read_to == inf else min(self._behind_since, now)
        return inf if now - self._behind_since > FLOODED_AFTER else read_to

    def _call_back(self, read_to: float, now: float) -> None:
        """Whoever waits until all that had arrived is read: what a pause or a call ends behind may still be in the
        kernel after a standstill."""
        waiting, self._after_read = self._after_read, []
        for asked_at, then in waiting:
            if asked_at <= read_to:
                self._shielded(then, now)
            else:
                self._after_read.append((asked_at, then))

    def _serve_timers(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            self._shielded(heapq.heappop(self._timers)[2].handle_timer, now)

    def _collect(self, now: float) -> None:
        """Full garbage collections stop everything for 100 ms at a thousand legs, and the interpreter would run them
        every few seconds. What a call leaves behind is freed by reference counts but for a few cycles; those wait
        for a quiet moment, but not for ever: a process that is always busy would grow."""
        waited = now - self._collected_at
        is_due = waited > COLLECT_AT_LATEST or self._over_since >= COLLECT_AFTER
        if is_due or (waited > COLLECT_EVERY and self._load.busy < COLLECT_BELOW):
            self._collected_at, self._over_since = now, 0
            gc.collect()

    def _end_idle(self, now: float) -> None:
        """External media has no signalling that could end it: silence for `rtp.idle_end_s` does. RTP silence never
        ends any other call."""
        for call in list(self._calls.values()):
            if call.offer.ingress == "external" and call.idle_for(now) > self._settings.rtp.idle_end_s:
                call.hang_up("timeout", now)

    def _dispatch_all(self, outputs: Iterable[Output], now: float) -> None:
        for output in outputs:
            leg = self._wiring.seats[output.row]
            if leg is not None:
                self._dispatch(leg, output, now)

    def _dispatch(self, leg: Leg, output: Output, now: float) -> None:
        try:
            if isinstance(output, Failure):
                raise output.error
            leg.on_output(output, now)
        except Exception:
            log.exception("leg failed", leg=leg.id)
            leg.failed()

    def _shielded(self, work: Callable[..., T], *args: Any) -> T | None:
        """The boundary of one piece of the tick: a bug there is logged and must not stop the tick of all others."""
        try:
            return work(*args)
        except Exception:
            log.exception("tick failed", state=getattr(work, "__qualname__", ""))
            return None

    # -- draining ---------------------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        """No new calls from here on."""
        self._is_draining = True

    async def drain(self, timeout: float) -> bool:
        """No new calls; waits up to `timeout` seconds for the running ones. False: calls were still running."""
        self.stop_accepting()
        log.info("draining", n=len(self._calls))
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def end_all(self, reason: str, timeout: float) -> None:
        """Hangs up whatever still runs and waits up to `timeout` seconds for last words; then the calls end without."""
        self.stop_accepting()
        for call in list(self._calls.values()):
            call.hang_up(reason, self._wiring.now())
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("last words not waited for", n=len(self._calls))
        for call in list(self._calls.values()):
            call.give_up(self._wiring.now())

    def reload(self, settings: Settings) -> None:
        """For new calls; what is bound and sized at the start stays as it was."""
        now = self._settings
        service = replace(now.service, max_legs=settings.service.max_legs, drain_s=settings.service.drain_s)
        limit = self._wiring.plane.capacity
        if service.max_legs > limit:
            service = replace(service, max_legs=limit)
        stt = with_tables(settings.stt, self._provided)
        sip = replace(settings.sip, listen=now.sip.listen)
        rtp = replace(now.rtp, srtp=settings.rtp.srtp, idle_end_s=settings.rtp.idle_end_s)
        self._settings = replace(
            now, service=service, stt=stt, gate=settings.gate, route=settings.route, sip=sip, rtp=rtp
        )

    def provide(self, tables: ProviderTables) -> None:
        """What was only known of `[stt.<name>]` once a provider of our own ran; outlives a reload."""
        self._provided = tables
        self._settings = replace(self._settings, stt=with_tables(self._settings.stt, tables))

    def hurry(self) -> None:
        """The second signal: running calls are not waited for any longer."""
        for call in list(self._calls.values()):
            call.hang_up("drain", self._wiring.now())

    def ledgers(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Of every running call, so far: what `call.ended` says should this process die. Made one by one as they are
        asked for, because all at once they would hold up the tick; calls may come and go meanwhile."""
        for call in list(self._calls.values()):
            if call.is_answered and call.id in self._calls:
                yield call.id, call.ledgers(self._wiring.now())

    @property
    def running(self) -> int:
        """Calls."""
        return len(self._calls)

    # -- Calls, for the web server ------------------------------------------------------------------------------------

    def list(self) -> Sequence[dict[str, Any]]:
        """See `Calls`."""
        now = self._wiring.now()
        return [self._redact.hide_numbers(call.snapshot(now)) for call in self._calls.values()]

    def get(self, call: str) -> dict[str, Any] | None:
        """See `Calls`."""
        found = self._calls.get(call)
        return None if found is None else self._redact.hide_numbers(found.snapshot(self._wiring.now()))

    def act(self, call: str, leg: str, verb: Verb) -> bool:
        """See `Calls`."""
        found = self._calls.get(call)
        return found is not None and found.act(leg, verb, self._wiring.now())

    def adjust(self, call: str, leg: str, changes: Mapping[str, Any]) -> bool:
        """See `Calls`."""
        found = self._calls.get(call)
        return found is not None and found.adjust(leg, changes, self._wiring.now())

    def end(self, call: str) -> bool:
        """See `Calls`."""
        found = self._calls.get(call)
        if found is None:
            return False
        found.hang_up("api", self._wiring.now())
        return True

    def status(self) -> dict[str, Any]:
        """See `Calls`."""
        return {
            "is_accepting": self.is_accepting,
            "is_draining": self._is_draining,
            "sip_bound": self._health.sip_bound(),
            "sink_writable": self._health.sink_writable(),
            "legs": self._open_legs(),
            "max_legs": self._settings.service.max_legs,
            "calls": len(self._calls),
            "busy": round(self._load.busy, 3),
            "instance": self._health.instance,
        }

    def subscribe(self, call: str = "") -> Feed:
        """See `Calls`."""
        return self._feeds.subscribe(call)

    def history(self, call: str, after: str) -> AsyncIterator[Published]:
        """See `Calls`."""
        return self._store.history(call, after)

    async def recent(self, limit: int) -> Sequence[dict[str, Any]]:
        """See `Calls`."""
        return await self._store.recent(limit)


def shown(event: Event, seq: int) -> Published:
    """An event with its number, as live listeners get it."""
    return Published(
        type=event.type,
        call=event.call,
        at_ms=event.at_ms,
        leg=event.leg,
        role=event.role,
        text=event.text,
        start=event.start,
        end=event.end,
        data=event.data,
        seq=seq,
    )
