"""A client WebSocket without a task: websockets' sans-IO protocol under an asyncio.Protocol.

One object and one buffered write per message, so that a process holds a thousand of them. permessage-deflate is not
offered: audio does not compress, and it would cost every leg a window of memory.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from bridge.net.tls import TlsClient
from bridge.net.websocket_frames import masked_frame

HANDSHAKE_TIMEOUT = 10.0
"""s from the connection to the upgrade's answer."""
CLOSE_TIMEOUT = 2.0
"""s that the peer has for its part of a closing handshake."""
PROBE_S = 5.0
"""s for a pong that was asked for on suspicion."""
SECOND_LOOK = 0.5
"""s between a pong's deadline and the verdict: whatever arrived while the loop was busy is read by then."""
WRITE_HIGH_BYTES = 8192
"""Of unsent data, from which on the peer counts as slow: half a second of linear audio."""

_SILENT = logging.getLogger("bridge.net.websocket.wire")
_SILENT.setLevel(logging.CRITICAL + 1)
"""websockets logs request headers at DEBUG, and ours hold the key."""


@dataclass(frozen=True, slots=True)
class WebSocketTarget:
    """Where to, and what to say at the upgrade."""

    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no connection. `status` 0: it failed below HTTP."""

    status: int
    reason: str
    request_id: str = ""


class WebSocketListener(Protocol):
    """Who is told. `opened` or `refused` comes once; after `opened`, `closed` comes once."""

    def opened(self, request_id: str) -> None: ...

    def refused(self, refusal: Refusal) -> None: ...

    def received(self, message: str | bytes) -> None: ...

    def closed(self, code: int, reason: str) -> None: ...

    def writable(self, is_writable: bool) -> None: ...


class WebSocketConnection(asyncio.Protocol):
    """Made by `loop.create_connection`, of plain TCP: for wss it is handed its `tls`. Greets, pings, and tells its
    listener. Raises nothing after construction; the constructor raises websockets' InvalidURI."""

    def __init__(
        self,
        target: WebSocketTarget,
        listener: WebSocketListener,
        *,
        tls: TlsClient | None = None,
        ping_s: float = 20.0,
        pong_s: float = 20.0,
    ) -> None:
        self._target = target
        self._tls = tls
        self._listener = listener
        self._ws = ClientProtocol(parse_uri(target.url), max_size=2**20, logger=_SILENT)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ping_s = ping_s
        self._pong_s = pong_s
        self._was_heard = False
        self._parts: list[bytes] = []
        self._parts_are_text = False
        self._is_open = False
        self._is_over = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = transport
        if self._is_over:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        self._arm(HANDSHAKE_TIMEOUT, self._handshake_late)
        if self._tls is None:
            self._greet()
        else:
            self._tls.start()
            transport.write(self._tls.take_outgoing())

    def _greet(self) -> None:
        request = self._ws.connect()
        for name, value in self._target.headers:
            request.headers[name] = value
        self._ws.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._was_heard = True
        if self._tls is not None:
            self._decrypt(self._tls, data)
            return
        self._ws.receive_data(data)
        self._flush()
        self._dispatch()

    def _decrypt(self, tls: TlsClient, data: bytes) -> None:
        was_ready = tls.is_ready
        try:
            plain = tls.receive(data)
        except ssl.SSLError as error:
            self._write_out(tls)  # why, for the peer's log
            self._failed(type(error).__name__)
            return
        self._write_out(tls)
        if tls.is_ready and not was_ready:
            self._greet()
        if plain:
            self._ws.receive_data(plain)
        if tls.is_over:
            self._ws.receive_eof()
        if plain or tls.is_over:
            self._flush()
            self._dispatch()
        if tls.is_over and self._transport is not None:
            self._transport.close()  # as at the end of a TCP stream, which may still stand

    def eof_received(self) -> None:
        self._ws.receive_eof()
        self._dispatch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._failed("" if exc is None else type(exc).__name__)
        self._arm(0, None)
        self._let_go()

    def _failed(self, reason: str) -> None:
        if self._is_open:
            self._over(1006, reason)
        else:
            self._refuse(Refusal(0, reason or "closed during the handshake"))

    def pause_writing(self) -> None:
        if self._is_open and not self._is_over:
            self._listener.writable(False)

    def resume_writing(self) -> None:
        if self._is_open and not self._is_over:
            self._listener.writable(True)

    # What the owner asks

    def send(self, message: str | bytes) -> None:
        """One frame. Nothing happens once the connection is closing: its end is on the way to the listener."""
        if self._ws.state is not State.OPEN or self._transport is None:
            return
        if isinstance(message, str):
            self._write(masked_frame(Opcode.TEXT, message.encode()))
        else:
            self._write(masked_frame(Opcode.BINARY, message))

    def probe(self) -> None:
        """Pings at once and gives the answer `PROBE_S`: something that had to come did not."""
        if self._ws.state is State.OPEN and not self._is_over:
            self._ping(min(PROBE_S, self._pong_s))

    def close(self) -> None:
        """Closing handshake with 1000. The listener is not told any more."""
        self._is_over = True
        if self._transport is None or self._ws.state is not State.OPEN:
            self.abort()
            return
        self._ws.send_close(1000)
        self._flush()
        self._arm(CLOSE_TIMEOUT, self.abort)

    def abort(self) -> None:
        """Gone at once, and silently."""
        self._is_over = True
        self._arm(0, None)
        if self._transport is not None:
            self._transport.abort()

    # Inside

    def _flush(self) -> None:
        writes = self._ws.data_to_send()
        if self._transport is None or not writes:
            return
        data = b"".join(writes)
        if data:
            self._write(data)
        if writes[-1] == b"":
            self._end_writing(self._transport)

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            return
        if self._tls is None:
            self._transport.write(data)
        elif self._tls.is_ready:
            try:
                self._tls.send(data)
            except ssl.SSLError as error:
                self._failed(type(error).__name__)
                return
            self._write_out(self._tls)

    def _write_out(self, tls: TlsClient) -> None:
        data = tls.take_outgoing()
        if data and self._transport is not None:
            self._transport.write(data)

    def _end_writing(self, transport: asyncio.Transport) -> None:
        if self._tls is not None:
            self._tls.close()
            self._write_out(self._tls)
        if transport.can_write_eof():
            transport.write_eof()

    def _dispatch(self) -> None:
        for event in self._ws.events_received():
            if self._is_over:
                break
            if isinstance(event, Response):
                self._greeted(event)
            elif isinstance(event, Frame):
                self._take_frame(event)
        if self._is_over:
            return
        if not self._is_open and self._ws.handshake_exc is not None:
            self._refuse(Refusal(0, "no WebSocket handshake"))
        elif self._ws.close_rcvd is not None:
            self._over(self._ws.close_rcvd.code, self._ws.close_rcvd.reason)
        elif self._ws.close_sent is not None:
            self._over(self._ws.close_sent.code, self._ws.close_sent.reason)  # the peer broke the protocol

    def _greeted(self, response: Response) -> None:
        request_id = response.headers.get("dg-request-id", "")
        failure = self._ws.handshake_exc
        if failure is None:
            self._is_open = True
            self._target = _FORGOTTEN
            response.headers.clear()  # the parser holds on to the response, and to each frame until the next
            self._arm(self._ping_s, self._ping)
            self._listener.opened(request_id)
        elif isinstance(failure, InvalidStatus):
            said = response.headers.get("dg-error", "") or response.reason_phrase
            self._refuse(Refusal(response.status_code, said[:200], request_id))
        else:
            self._refuse(Refusal(0, type(failure).__name__, request_id))

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._parts_are_text = frame.opcode is Opcode.TEXT
            self._parts = [bytes(frame.data)]
        elif frame.opcode is Opcode.CONT:
            self._parts.append(bytes(frame.data))
        else:
            return  # ping, pong and close are answered by the protocol
        frame.data = b""
        if frame.fin:
            message, self._parts = b"".join(self._parts), []
            self._listener.received(message.decode("utf-8", "replace") if self._parts_are_text else message)

    def _ping(self, pong_s: float | None = None) -> None:
        self._was_heard = False
        if self._ws.state is State.OPEN:
            self._ws.send_ping(b"")
            self._flush()
            self._arm(self._pong_s if pong_s is None else pong_s, self._pong_late)

    def _pong_late(self) -> None:
        if self._was_heard:
            self._arm(self._ping_s, self._ping)
        else:
            self._arm(SECOND_LOOK, self._verdict)

    def _verdict(self) -> None:
        if self._was_heard:
            self._arm(self._ping_s, self._ping)
        else:
            self._over(1006, "no pong")
            self.abort()

    def _handshake_late(self) -> None:
        self._refuse(Refusal(0, "handshake timeout"))
        self.abort()

    def _refuse(self, refusal: Refusal) -> None:
        if not self._is_over:
            self._is_over = True
            self._listener.refused(refusal)
            self.abort()

    def _over(self, code: int, reason: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._arm(CLOSE_TIMEOUT, self.abort)  # a server closes first; one that does not is not waited for
        self._listener.closed(code, reason)

    def _let_go(self) -> None:
        """Of everything that holds this object in turn: then it is freed at once, not by the garbage collector, which
        is kept from running while calls do."""
        self._transport = self._tls = None
        self._listener = _NOBODY
        self._ws.parser.close()  # a generator over the protocol that holds it
        for error in (self._ws.parser_exc, self._ws.handshake_exc):
            if error is not None:
                error.__traceback__ = None  # of that generator's frame

    def _arm(self, delay: float, what: Callable[[], None] | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if what is not None:
            self._timer = self._loop.call_later(delay, what)


class _Nobody:
    """The `WebSocketListener` of a connection that is gone."""

    def opened(self, request_id: str) -> None: ...

    def refused(self, refusal: Refusal) -> None: ...

    def received(self, message: str | bytes) -> None: ...

    def closed(self, code: int, reason: str) -> None: ...

    def writable(self, is_writable: bool) -> None: ...


_NOBODY = _Nobody()
_FORGOTTEN = WebSocketTarget("")
