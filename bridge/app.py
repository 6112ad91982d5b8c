"""The composition root: settings become objects, run, and are closed in reverse order. The only place that knows the
concrete classes of every floor.

Shutdown runs downhill: no new calls, running calls to their end, last words, `call.ended`, outbox flushed, ports
closed.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import structlog

from bridge import __version__, garbage
from bridge.clock import monotonic, unix_ms
from bridge.config import Settings, read_tables
from bridge.errors import ConfigError
from bridge.history import History
from bridge.ingress import INGRESSES
from bridge.ingress.external import ExternalMedia
from bridge.local_recogniser import local_recogniser, wants_local
from bridge.log import configure
from bridge.media.plane import Plane
from bridge.metrics import Metrics
from bridge.net.datagrams import MediaSockets
from bridge.net.own_address import Advertised
from bridge.net.publisher import Publisher
from bridge.net.redis_link import Address
from bridge.net.rtcp_reports import RtcpReports
from bridge.net.stt_driver import SttDrivers
from bridge.preflight import check_settings
from bridge.service import Health, Service
from bridge.sinks import SINKS
from bridge.supervisor import Supervisor
from bridge.tick import Tick
from bridge.timers import Timers
from bridge.transcription import Transcriptions
from bridge.web.feed import Feeds
from bridge.web.server import WebServer
from bridge.wiring import Wiring

FLUSH = 10.0  # s for Redis to take what is left at the end; the rest stays in the spool for the next start
END = 15.0  # s for last words once the drain deadline has passed
FILES_PER_LEG = 4  # RTP, RTCP, provider socket, one to spare
FILES_BESIDE = 256
REMEMBER_EVERY = 5.0  # s between two notes of the running calls' ledgers in the spool, for `reason: crash`
REMEMBER_PAUSE = 0.05  # s between the few calls of which it is noted at a time

log = structlog.get_logger()


class Bridge:
    """One process's service. `run` binds everything, works until `stop`, and then drains."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError for what cannot work."""
        self.settings = settings
        self.instance = settings.service.instance or f"{socket.gethostname()}-{os.getpid()}"
        self.metrics = Metrics(instance=self.instance, version=__version__)
        self._stop = asyncio.Event()
        self._drain_s = settings.service.drain_s
        capacity = settings.service.rows
        self._plane = Plane(capacity=capacity, chunk_ms=settings.stt.chunk_ms, rtp=settings.rtp)
        self._sockets = MediaSockets(
            bind=settings.rtp.bind,
            first=settings.rtp.ports[0],
            last=settings.rtp.ports[1],
            capacity=2 * capacity,
            begin=random.random(),
        )
        self.metrics.rtp_ports.read_from(lambda: float(self._sockets.in_use))
        self.metrics.tasks.read_from(lambda: float(len(asyncio.all_tasks())))
        self._reports = RtcpReports(
            self._plane.lanes, cname="callbridge", random=random.random, source_of=self._plane.incoming.source
        )
        self._plane.incoming.on_rtcp = self._reports.receive
        self._publisher = Publisher(
            SINKS["redis"].make(settings.redis),
            instance=self.instance,
            spool_path=settings.spool.path,
            keep_s=settings.spool.keep_s,
            call_ttl_s=settings.redis.call_ttl_s,
            max_spool_bytes=settings.spool.max_bytes,
            metrics=self.metrics,
        )
        self._drivers = SttDrivers(metrics=self.metrics)
        self._history = History(settings.redis)
        self._feeds = Feeds()
        self.service = Service(
            settings, metrics=self.metrics, outbox=self._publisher, store=self._history, feeds=self._feeds
        )
        self.ingresses = {name: make(settings, self.service, self.metrics) for name, make in INGRESSES.items()}
        self._supervisor = Supervisor(os.environ)
        self._is_bound = False
        self._wire()
        self.web = WebServer(
            settings.http,
            self.service,
            metrics=self.metrics,
            external=ExternalMedia(self.service),
            whip=self.ingresses["webrtc"],  # type: ignore[arg-type]  # the one ingress that HTTP also speaks to
        )

    def _wire(self) -> None:
        service, timers = self.service, Timers(monotonic)
        wiring = Wiring(
            plane=self._plane,
            sockets=self._sockets,
            reports=self._reports,
            publish=service.publish,
            open_stt=Transcriptions(self._drivers).open,
            arm=timers.arm,
            after_read=timers.after_read,
            seats=[None] * self._plane.capacity,
            unix_ms=unix_ms,
            now=monotonic,
            metrics=self.metrics,
            advertise=Advertised(self.settings.rtp.advertise, self.settings.rtp.bind),
        )
        health = Health(
            sip_bound=lambda: self._is_bound,
            sink_writable=lambda: self._publisher.stats().is_writable,
            instance=self.instance,
        )
        service.wire(wiring, health)
        self._tick = Tick(wiring, timers, load=service.load, readers=service.readers, each_second=service.look_after)

    def stop(self) -> None:
        """Begins the drain (SIGTERM, SIGINT). A second call ends the running calls at once."""
        is_second = self._stop.is_set()
        self._stop.set()
        self.service.stop_accepting()  # at once: a call let in between two signals would be waited for
        if is_second:
            self.service.hurry()

    def reload(self, config: Path | None) -> None:
        """SIGHUP: reads again what can change while calls run (gate, stt, routes, who may call and how it is answered,
        max_legs, drain_s, log level, the certificate of HTTP); what is wrong is told and changes nothing. New calls use
        it, running ones keep what they began with."""
        tables, problems = read_tables(config, os.environ)
        settings = check_settings(tables, problems)
        if wants_local(settings) and not wants_local(self.settings):
            problems.append("stt.local: starts with the service only")
        if problems:
            log.error("reload refused", n=len(problems), reason="; ".join(problems))
            return
        self.service.reload(settings)
        for ingress in self.ingresses.values():
            ingress.reload(settings)
        self.web.renew_certificate(settings.http)
        self._drain_s = settings.service.drain_s
        configure(settings.log)
        log.info("reloaded", state="serving")

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Raises ConfigError when an address or the spool cannot be had; else returns after the drain."""
        raise_file_limit(self.settings.service.max_legs)
        try:
            await self._run(ready)
        except* ConfigError as group:
            raise ConfigError([text for error in _leaves(group) for text in error.problems]) from None
        finally:
            self._sockets.close()
            await self._history.close()

    async def _run(self, ready: Callable[[], None]) -> None:
        await self._publisher.open()
        async with local_recogniser(self.settings) as tables, self._drivers:
            self.service.provide(tables)
            edges = await self._open_edges()
            garbage.freeze()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._publisher.run(), name="publish")
                working = [
                    tasks.create_task(self._tick.run(self.settings.service.tick_ms / 1000), name="tick"),
                    tasks.create_task(self._note_ledgers(), name="ledgers"),
                ]
                working.append(tasks.create_task(self._supervisor.watch(self._beats, self._status), name="supervisor"))
                ready()
                self._supervisor.say("READY=1", f"STATUS={self._status()}")
                log.info("ready", state="serving", reason=self._where())
                await self._stop.wait()
                self._supervisor.say("STOPPING=1", f"STATUS={self._status()}")
                await self._drain()
                for edge in reversed(edges):
                    await edge.close()
                for task in working:
                    task.cancel("drained")
                self._publisher.close()
        log.info("stopped", state="stopped")

    def _beats(self) -> int:
        return self._tick.beats

    def _status(self) -> str:
        """One line for `systemctl status`."""
        told, stats = self.service.status(), self._publisher.stats()
        state = "draining" if told["is_draining"] else "serving"
        waiting = f", {stats.queued} events wait: {stats.last_error}" if stats.last_error and stats.queued else ""
        return f"{state}, {told['calls']} calls with {told['legs']} of {told['max_legs']} legs{waiting}"

    def _where(self) -> str:
        """All addresses in one line, for whoever has just started us."""
        settings = self.settings
        scheme = "https" if settings.http.certificate else "http"
        host, port = self.web.address
        return (
            f"{self.instance}: SIP on {', '.join(settings.sip.listen)}; "
            f"HTTP on {scheme}://{f'[{host}]' if ':' in host else host}:{port}; "
            f"RTP on {settings.rtp.bind}, ports {settings.rtp.ports[0]} to {settings.rtp.ports[1]}; "
            f"events to {Address.parse(settings.redis.url).shown}"
        )

    async def _open_edges(self) -> list[Edge]:
        """Every way in. Raises ConfigError with all that cannot be bound; nothing stays open then."""
        problems: list[str] = []
        opened: list[Edge] = []
        edges: list[Edge] = [*self.ingresses.values(), self.web]
        for edge in edges:
            try:
                await edge.open()
                opened.append(edge)
            except ConfigError as error:
                problems += error.problems
        if problems:
            for edge in opened:
                await edge.close()
            raise ConfigError(problems)
        self._is_bound = True
        return opened

    async def _note_ledgers(self) -> None:
        """Spread over the time there is: of a thousand legs at once it would hold up two ticks."""
        while True:
            until = monotonic() + REMEMBER_EVERY
            at_a_time = 1 + int(self.service.running * REMEMBER_PAUSE / REMEMBER_EVERY)
            for n, (call, ledgers) in enumerate(self.service.ledgers(), 1):
                self._publisher.remember(call, ledgers)
                if n % at_a_time == 0:
                    await asyncio.sleep(REMEMBER_PAUSE)
            await asyncio.sleep(max(until - monotonic(), REMEMBER_PAUSE))

    async def _drain(self) -> None:
        if not await self.service.drain(self._drain_s):
            await self.service.end_all("drain", END)
        if not await self._publisher.flush(asyncio.get_running_loop().time() + FLUSH):
            log.warning("outbox not empty", n=self._publisher.stats().queued, reason="kept in the spool")


def _leaves(group: BaseExceptionGroup[ConfigError]) -> list[ConfigError]:
    found: list[ConfigError] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


class Edge(Protocol):
    """Something that is bound at the start and closed at the end."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...


def raise_file_limit(max_legs: int) -> None:
    """Every leg needs a few files; says so when the hard limit does not allow them."""
    wanted = max_legs * FILES_PER_LEG + FILES_BESIDE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < wanted:
        log.warning("too few files allowed", n=allowed, reason=f"{wanted} wanted for max_legs = {max_legs}")
