"""Runs recordings as calls: the service's own objects, fed by files instead of sockets, on a clock of any speed."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from bridge import clock
from bridge.config import Settings
from bridge.errors import CapacityError
from bridge.ingress.contract import CallOffer, IngressCall, LegOffer, MediaOffer, PayloadFormat
from bridge.media.arrivals import Arrivals
from bridge.media.plane import Plane
from bridge.metrics import Metrics
from bridge.net.datagrams import MediaPort
from bridge.net.rtcp_reports import RtcpReports
from bridge.net.stt_driver import SttDrivers
from bridge.publish.events import CALL_ENDED, Event, Published
from bridge.replay.recordings import TAIL, Recording
from bridge.service import Health, Service
from bridge.tick import Tick
from bridge.timers import Timers
from bridge.transcription import Transcriptions
from bridge.web.feed import Feeds
from bridge.wiring import Wiring

SOURCE = ("192.0.2.1", 0)  # of a recording: no host has it (RFC 5737)


class RecordedMedia:
    """`bridge.wiring.MediaInput` out of recordings: a datagram arrives when the clock reaches its time."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._queue: list[tuple[float, int, int, bytes]] = []
        self._ports = 0
        self.read_to = inf

    def open_pair(self) -> MediaPort:
        """A number instead of a port."""
        self._ports += 2
        return MediaPort(self._ports, None, None)  # type: ignore[arg-type]  # nobody sends through it

    def attach(self, pair: MediaPort, row: int, since: float = 0.0) -> None:
        self._rows[pair.port] = row

    def release(self, pair: MediaPort) -> None:
        self._rows.pop(pair.port, None)

    def play(self, port: int, start: float, packets: Sequence[tuple[float, bytes]]) -> None:
        """`packets` arrive at `start` + their own times."""
        for n, (at, data) in enumerate(packets):
            heapq.heappush(self._queue, (start + at, port, n, data))

    def read(self) -> Iterator[Arrivals]:
        """One datagram of each leg per batch, as the sockets do it."""
        now = clock.monotonic()
        while self._queue and self._queue[0][0] <= now:
            batch: dict[int, tuple[float, bytes]] = {}
            later: list[tuple[float, int, int, bytes]] = []
            while self._queue and self._queue[0][0] <= now:
                entry = heapq.heappop(self._queue)
                if entry[1] in batch:
                    later.append(entry)
                    break
                batch[entry[1]] = (entry[0], entry[3])
            for entry in later:
                heapq.heappush(self._queue, entry)
            yield self._arrivals(batch)

    def _arrivals(self, batch: dict[int, tuple[float, bytes]]) -> Arrivals:
        known = [(self._rows[port], data, at) for port, (at, data) in batch.items() if port in self._rows]
        return Arrivals.of(known, SOURCE)


class _Collector:
    """`bridge.service.Outbox` that hands events to whoever replays."""

    def __init__(self, told: Callable[[Published], None]) -> None:
        self._told = told
        self._numbers: dict[str, int] = {}

    def publish(self, event: Event) -> int:
        seq = self._numbers[event.call] = self._numbers.get(event.call, 0) + 1
        fields = {
            name: getattr(event, name) for name in ("type", "call", "at_ms", "leg", "role", "text", "start", "end")
        }
        self._told(Published(**fields, data=event.data, seq=seq))
        return seq


class _NoStore:
    """`bridge.service.Store` of a process that keeps nothing."""

    async def history(self, call: str, after: str) -> AsyncIterator[Published]:
        return
        yield

    async def recent(self, limit: int) -> Sequence[dict[str, Any]]:
        return []


class _Nobody:
    """`CallControl`: a recording cannot be hung up on."""

    def hang_up(self) -> None:
        """Nothing to do."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """`speed`: times real time. Deepgram reads at most 1.25 times; a stand-in with `--throttle 0` any."""

    speed: float = 1.25
    at_once: int = 8
    "Recordings played side by side."


async def replay(
    recordings: Sequence[Recording],
    settings: Settings,
    options: ReplayOptions,
    told: Callable[[Published, Recording], None],
) -> None:
    """Plays each recording as a call of its own and returns after the last words of the last one."""
    legs = max(len(recording.streams) for recording in recordings) * options.at_once
    player = _Player(settings, max(legs, 2), options.speed, told)
    with clock.running_at(options.speed):
        async with SttDrivers() as drivers:
            player.wire(drivers)
            async with asyncio.TaskGroup() as tasks:
                ticking = tasks.create_task(player.tick.run(settings.service.tick_ms / 1000), name="tick")
                gate = asyncio.Semaphore(options.at_once)
                async with asyncio.TaskGroup() as calls:
                    for recording in recordings:
                        calls.create_task(player.play(recording, gate), name=recording.name)
                ticking.cancel("replayed")


class _Player:
    def __init__(
        self, settings: Settings, capacity: int, speed: float, told: Callable[[Published, Recording], None]
    ) -> None:
        self._settings = settings
        self._speed = speed
        self._told = told
        self._recordings: dict[str, Recording] = {}
        self._metrics = Metrics()
        self._media = RecordedMedia()
        self._plane = Plane(capacity=2 * capacity, chunk_ms=settings.stt.chunk_ms, rtp=settings.rtp)
        self.service = Service(
            settings, metrics=self._metrics, outbox=_Collector(self._hear), store=_NoStore(), feeds=Feeds()
        )
        self._over: dict[str, asyncio.Event] = {}

    def wire(self, drivers: SttDrivers) -> None:
        """Joins the objects as the composition root does."""
        service, timers = self.service, Timers(clock.monotonic)
        wiring = Wiring(
            plane=self._plane,
            sockets=self._media,
            reports=RtcpReports(self._plane.lanes, cname="callbridge", random=lambda: 0.5),
            publish=service.publish,
            open_stt=Transcriptions(drivers).open,
            arm=timers.arm,
            after_read=timers.after_read,
            seats=[None] * self._plane.capacity,
            unix_ms=clock.unix_ms,
            now=clock.monotonic,
            metrics=self._metrics,
            advertise=lambda peer: "0.0.0.0",
        )
        service.wire(wiring, Health(sip_bound=lambda: True, sink_writable=lambda: True, instance="replay"))
        self.tick = Tick(wiring, timers, load=service.load, readers=service.readers, each_second=service.look_after)

    def _hear(self, event: Published) -> None:
        self._told(event, self._recordings[event.call])
        if event.type == CALL_ENDED:
            self._over[event.call].set()

    async def play(self, recording: Recording, gate: asyncio.Semaphore) -> None:
        """One call, from its first packet to `call.ended`."""
        async with gate:
            call = self._open(recording)
            now = clock.monotonic()
            call.answered(now)
            for leg, stream in zip(call.legs, recording.streams, strict=True):
                self._media.play(leg.local[1], now, stream.packets)
            await self._until(now + max(stream.seconds for stream in recording.streams) + TAIL)
            call.ended("hangup", clock.monotonic())
            await self._over[call.id].wait()

    def _open(self, recording: Recording) -> IngressCall:
        offers = tuple(
            LegOffer(media=MediaOffer((PayloadFormat(stream.payload_type, stream.codec),)))
            for stream in recording.streams
        )
        offer = CallOffer("replay", offers, correlation={"file": recording.name})
        try:
            call = self.service.open_call(offer, _Nobody(), clock.monotonic())
        except CapacityError as error:
            raise RuntimeError(f"replay cannot open its call: {error}") from error
        self._recordings[call.id] = recording
        self._over[call.id] = asyncio.Event()
        return call

    async def _until(self, at: float) -> None:
        await asyncio.sleep(max(at - clock.monotonic(), 0.0) / self._speed)
