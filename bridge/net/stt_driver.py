"""Ties transcribers to sockets: many legs in a process, no task for any of them but while a connection is made."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import structlog
from websockets.exceptions import InvalidURI

from bridge.clock import monotonic
from bridge.metrics import Metrics
from bridge.net.tls import TlsClient
from bridge.net.websocket import Refusal, WebSocketConnection, WebSocketTarget
from bridge.stt.events import Abort, Close, Command, Connect, Finished, Lost, Probe, Restored, SttEvent, Transmit
from bridge.stt.transcriber import Transcriber

CONNECT_TIMEOUT = 10.0
"""s for name and TCP; TLS and the upgrade have as long again."""
SHORTEST_TIMER = 0.001
"""s; whatever a deadline says, the loop gets to serve the other legs in between."""

log = structlog.get_logger()


class SttDrivers:
    """All drivers of the process. `async with`: leaving it ends every connection at once, so finish the legs
    first. `ping_s` and `pong_s` find half-open sockets."""

    def __init__(
        self,
        *,
        ping_s: float = 20.0,
        pong_s: float = 20.0,
        context: ssl.SSLContext | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self.metrics = metrics or Metrics()
        self.metrics.sessions.read_each_from(self._sessions)
        self.ping_s = ping_s
        self.pong_s = pong_s
        self._context = context
        self._group = asyncio.TaskGroup()
        self._drivers: set[SttDriver] = set()
        self._connections: weakref.WeakSet[WebSocketConnection] = weakref.WeakSet()
        "Also those that are only being closed."

    def _sessions(self) -> dict[str, float]:
        """Open connections by provider; those that we are closing no longer count."""
        return dict(Counter(provider for driver in self._drivers for provider in driver.open_sessions()))

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for driver in list(self._drivers):
            driver.abort()
        for connection in list(self._connections):
            connection.abort()
        await self._group.__aexit__(kind, error, trace)

    def attach(
        self,
        transcriber: Transcriber,
        on_events: Callable[[list[SttEvent]], None],
        *,
        call: str = "",
        leg: str = "",
    ) -> SttDriver:
        """From now on `wake` of what is returned must be called after everything told to `transcriber`.
        `on_events` is called with every batch of events, from `wake` or from the loop; it may tell and wake."""
        driver = SttDriver(self, transcriber, on_events, call=call, leg=leg)
        self._drivers.add(driver)
        return driver

    def detach(self, driver: SttDriver) -> None:
        self._drivers.discard(driver)

    def tls(self, url: str) -> TlsClient | None:
        """For a connection to `url`, None where it is in clear. Raises ValueError for a host name that is none."""
        parts = urlsplit(url)
        if parts.scheme != "wss":
            return None
        if self._context is None:
            self._context = ssl.create_default_context()
        return TlsClient(self._context, parts.hostname or "")

    def connect(self, connection: WebSocketConnection, url: str, link: Link) -> asyncio.Task[None]:
        self._connections.add(connection)
        return self._group.create_task(self._connect(connection, url, link))

    async def _connect(self, connection: WebSocketConnection, url: str, link: Link) -> None:
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + CONNECT_TIMEOUT):
                port = parts.port or (443 if parts.scheme == "wss" else 80)
                await loop.create_connection(lambda: connection, parts.hostname or "", port)
        except TimeoutError:
            link.refused(Refusal(0, "connect timeout"))
        except (OSError, ValueError) as error:  # ValueError: a host name that is none
            link.refused(Refusal(0, type(error).__name__))


class Link:
    """One session's connection, as its driver knows it."""

    def __init__(self, driver: SttDriver, command: Connect) -> None:
        self._driver = driver
        self._session = command.session
        self.provider = command.provider
        self._secrets = [value.split()[-1] for _, value in command.headers if value.split()]
        self.connection: WebSocketConnection | None = None
        self.task: asyncio.Task[None] | None = None
        self.is_open = False
        self._dialled_at = monotonic()

    def opened(self, request_id: str) -> None:
        self.is_open = True
        self.task = None
        self._driver.metrics.stt_connect.observe(monotonic() - self._dialled_at, self.provider)
        self._driver.log.info("stt opened", provider=self.provider, session=self._session, request_id=request_id)
        self._driver.tell(lambda leg, now: leg.opened(self._session, now))

    def refused(self, refusal: Refusal) -> None:
        reason = refusal.reason
        for secret in self._secrets:
            reason = reason.replace(secret, "***")
        self._driver.log.warning(
            "stt refused", provider=self.provider, session=self._session, status=refusal.status, reason=reason,
            request_id=refusal.request_id,
        )  # fmt: skip
        self._driver.forget(self._session)
        self._driver.tell(lambda leg, now: leg.refused(self._session, status=refusal.status, reason=reason, now=now))

    def received(self, message: str | bytes) -> None:
        self._driver.tell(lambda leg, now: leg.received(self._session, message, now))

    def closed(self, code: int, reason: str) -> None:
        self._driver.log.info("stt closed", provider=self.provider, session=self._session, code=code, reason=reason)
        self._driver.forget(self._session)
        self._driver.tell(lambda leg, now: leg.closed(self._session, code=code, reason=reason, now=now))

    def writable(self, is_writable: bool) -> None:
        self._driver.tell(lambda leg, now: leg.writable(self._session, is_writable, now))

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def abort(self) -> None:
        if self.task is not None:
            self.task.cancel()
        if self.connection is not None:
            self.connection.abort()


class SttDriver:
    """One leg's. Everything happens in the loop's thread."""

    def __init__(
        self,
        drivers: SttDrivers,
        transcriber: Transcriber,
        on_events: Callable[[list[SttEvent]], None],
        *,
        call: str,
        leg: str,
    ) -> None:
        self.log = log.bind(call=call, leg=leg)
        self.metrics = drivers.metrics
        self._drivers = drivers
        self._transcriber = transcriber
        self._on_events = on_events
        self._loop = asyncio.get_running_loop()
        self._links: dict[int, Link] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = 0.0
        self._is_pumping = False
        self._is_over = False

    def wake(self) -> None:
        """Carries out what the transcriber wants by now. Cheap when that is nothing."""
        if self._transcriber.is_touched and not self._is_pumping and not self._is_over:
            self._pump()

    def tell(self, what: Callable[[Transcriber, float], None]) -> None:
        """The boundary of one leg: a bug in it ends its transcription and leaves the others alone."""
        if self._is_over:
            return
        try:
            what(self._transcriber, monotonic())
        except Exception as error:  # noqa: BLE001 - the boundary of one leg
            self._fail(error)
            return
        self.wake()

    def open_sessions(self) -> list[str]:
        """The provider of each open connection."""
        return [link.provider for link in self._links.values() if link.is_open]

    def forget(self, session: int) -> None:
        self._links.pop(session, None)

    def abort(self) -> None:
        """Ends every connection of the leg at once, and tells nothing more."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for link in list(self._links.values()):
            link.abort()
        self._links.clear()
        self._detach()

    def _fail(self, error: Exception) -> None:
        self.log.error("stt failed", exc_info=error)
        tell = self._on_events
        self.abort()
        tell([Finished()])

    def _pump(self) -> None:
        transcriber = self._transcriber
        self._is_pumping = True
        try:
            while transcriber.is_touched and not self._is_over:
                transcriber.is_touched = False
                for command in transcriber.take_commands():
                    self._do(command)
                events = transcriber.take_events()
                if events:
                    self._report(events)
        except Exception as error:  # noqa: BLE001 - the boundary of one leg
            self._fail(error)
        finally:
            self._is_pumping = False
        if transcriber.is_due_sooner and not self._is_over:
            self._arm()

    def _do(self, command: Command) -> None:
        if isinstance(command, Transmit):
            link = self._links.get(command.session)
            if link is not None and link.connection is not None:
                link.connection.send(command.message)
        elif isinstance(command, Connect):
            self._connect(command)
        elif isinstance(command, Probe):
            link = self._links.get(command.session)
            if link is not None and link.connection is not None:
                link.connection.probe()
        else:
            link = self._links.pop(command.session, None)
            if link is not None and isinstance(command, Close):
                link.close()
            elif link is not None and isinstance(command, Abort):
                link.abort()

    def _connect(self, command: Connect) -> None:
        link = self._links[command.session] = Link(self, command)
        try:
            link.connection = WebSocketConnection(
                WebSocketTarget(command.url, command.headers),
                link,
                tls=self._drivers.tls(command.url),
                ping_s=self._drivers.ping_s,
                pong_s=self._drivers.pong_s,
            )
        except (InvalidURI, ValueError):
            self._loop.call_soon(link.refused, Refusal(0, "invalid URL"))
            return
        link.task = self._drivers.connect(link.connection, command.url, link)

    def _report(self, events: list[SttEvent]) -> None:
        for event in events:
            if isinstance(event, Lost):
                self.log.warning("stt lost", provider=event.provider, reason=event.reason)
            elif isinstance(event, Restored):
                self.log.info("stt restored", provider=event.provider, ms=round(event.gap_s * 1000))
        self._on_events(events)
        if isinstance(events[-1], Finished):
            self._is_over = True
            if self._timer is not None:
                self._timer.cancel()
            self._detach()

    def _detach(self) -> None:
        """Lets go of the leg, which holds this object: neither has to wait for the garbage collector."""
        self._drivers.detach(self)
        self._on_events = lambda _: None

    def _arm(self) -> None:
        """Only ever moved to an earlier time: a later one is found out when the handle fires."""
        self._transcriber.is_due_sooner = False
        deadline = self._transcriber.deadline()
        if deadline is None or (self._timer is not None and self._armed_for <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = deadline
        self._timer = self._loop.call_later(max(deadline - monotonic(), SHORTEST_TIMER), self._due)

    def _due(self) -> None:
        self._timer = None
        self.tell(lambda leg, now: leg.handle_timer(now))
        if not self._is_over and self._timer is None:
            self._arm()
