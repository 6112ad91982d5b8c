"""Every call of this process: admitted, counted, drained, and shown to the web server. What moves them is the tick
(`bridge.tick`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any, Protocol

import structlog

from bridge.call import Call
from bridge.config import Settings, TrunkSettings
from bridge.errors import CapacityError
from bridge.garbage import Garbage
from bridge.ingress.contract import CallControl, CallOffer
from bridge.load import Load
from bridge.metrics import Metrics
from bridge.plans import ProviderTables, plan_for, with_tables
from bridge.publish.events import Event, Published
from bridge.publish.redact import Redactor
from bridge.web.contract import Feed, Verb
from bridge.web.feed import Feeds
from bridge.wiring import Wiring

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
        self.load = Load()
        "Noted by the tick, heeded at admission."
        self._garbage = Garbage()
        self.readers: list[Callable[[float], None]] = []
        "Of the ingresses that read media themselves: called first in every tick."
        self._is_draining = False
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

    # -- Host -------------------------------------------------------------------------------------------------------

    @property
    def is_accepting(self) -> bool:
        """See `Host`."""
        return (
            not self._is_draining and not self.load.is_too_much and self._open_legs() < self._settings.service.max_legs
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
            if self.load.is_too_much:
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

    def each_tick(self, read: Callable[[float], None]) -> Callable[[], None]:
        """See `Host`."""
        self.readers.append(read)
        return lambda: self.readers.remove(read)

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
        self._garbage.call_over()
        self._metrics.calls_ended.add(1, call.offer.ingress, call.reason)
        if not self._calls:
            self._idle.set()

    # -- once a second ------------------------------------------------------------------------------------------------

    def look_after(self, now: float) -> None:
        """What the tick has looked at once a second."""
        self._garbage.collect_if_due(now, busy=self.load.busy)
        self._end_idle(now)

    def _end_idle(self, now: float) -> None:
        """External media has no signalling that could end it: silence for `rtp.idle_end_s` does. RTP silence never
        ends any other call."""
        for call in list(self._calls.values()):
            if call.offer.ingress == "external" and call.idle_for(now) > self._settings.rtp.idle_end_s:
                call.hang_up("timeout", now)

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
                yield call.id, call.ledgers(self._wiring.now(), is_last=True)

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

    def act(self, call: str, leg: str, verb: Verb, at: float = inf) -> bool:
        """See `Calls`."""
        found = self._calls.get(call)
        return found is not None and found.act(leg, verb, min(at, self._wiring.now()))

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
            "busy": round(self.load.busy, 3),
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
