"""One UDP socket and one TCP or TLS connection of SIP, as asyncio protocols. What they hold is bounded; a connection
that is half sent, unread or from a stranger is closed."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

import structlog

from bridge.net import arrival
from bridge.sip.events import Flow
from bridge.sip.framing import BrokenStreamError, StreamFramer

log = structlog.get_logger()
IDLE_TIMEOUT = 3600.0  # s; SBCs keep one connection for all calls and are silent between them
PARTIAL_TIMEOUT = 10.0  # s for a whole message once its first byte came: slow-loris
MAX_UNSENT_BYTES = 1024 * 1024
"A peer that does not read its responses is closed."
MIN_DATAGRAM_BYTES = 32
"Less is a keep-alive: CRLF, STUN, NULs."


class Edge(Protocol):
    """What the sockets need of the driver."""

    def admit(self, host: str) -> bool: ...

    def has_room(self) -> bool: ...

    def opened(self, transport: asyncio.DatagramTransport, bound: tuple[str, int]) -> None: ...

    def local_address(self, bound: tuple[str, int], remote_host: str) -> tuple[str, int]: ...

    def received(self, data: bytes, flow: Flow, at: float) -> None: ...

    def connected(self, stream: Stream, flow: Flow) -> None: ...

    def disconnected(self, flow: Flow) -> None: ...


class Datagrams(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._arrivals: arrival.DatagramArrivals
        self._bound: tuple[str, int]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """All is ready when this returns: uvloop may read before `create_datagram_endpoint` answers."""
        self._arrivals = arrival.DatagramArrivals(transport.get_extra_info("socket"))
        host, port = transport.get_extra_info("sockname")[:2]
        self._bound = (host, port)
        self._edge.opened(cast("asyncio.DatagramTransport", transport), self._bound)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        host, port = addr[0], addr[1]
        if len(data) < MIN_DATAGRAM_BYTES or not self._edge.admit(host):
            return
        flow = Flow("udp", self._edge.local_address(self._bound, host), (host, port))
        self._edge.received(data, flow, self._arrivals.last())

    def error_received(self, exc: Exception) -> None:
        """ICMP unreachable: the transaction's timers say when to give up."""


class Stream(asyncio.Protocol):
    """One TCP or TLS connection."""

    def __init__(self, edge: Edge, kind: str) -> None:
        self._edge = edge
        self._kind = kind
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._timeout: asyncio.TimerHandle | None = None
        self.flow: Flow | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = transport
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not peer or not self._edge.admit(peer[0]) or not self._edge.has_room():
            transport.abort()
            return
        transport.set_write_buffer_limits(high=MAX_UNSENT_BYTES)
        local = self._edge.local_address((own[0], own[1]), peer[0])
        self.flow = Flow(self._kind, local, (peer[0], peer[1]))
        self._edge.connected(self, self.flow)
        self._restart_timeout(IDLE_TIMEOUT)

    def data_received(self, data: bytes) -> None:
        if self.flow is None:
            return
        was_partial = self._framer.n_pending_bytes > 0
        try:
            messages = self._framer.feed(data)
        except BrokenStreamError as error:
            log.info("sip connection closed", reason=str(error))
            self.close()
            return
        assert self._transport is not None
        at = arrival.of_stream(self._transport.get_extra_info("socket"))
        for message in messages:
            if message:
                self._edge.received(message, self.flow, at)
            else:
                self.send(b"\r\n")  # pong, RFC 5626 3.5.1
        is_partial = self._framer.n_pending_bytes > 0
        if messages or is_partial != was_partial:
            self._restart_timeout(PARTIAL_TIMEOUT if is_partial else IDLE_TIMEOUT)

    def _restart_timeout(self, seconds: float) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = asyncio.get_running_loop().call_later(seconds, self.close)

    def pause_writing(self) -> None:
        """The peer does not read: nothing is queued for it."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timeout is not None:
            self._timeout.cancel()
        if self.flow is not None:
            self._edge.disconnected(self.flow)
