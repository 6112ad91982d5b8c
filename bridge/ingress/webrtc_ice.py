"""aioice's agent on sockets of ours: fixed ports, chosen addresses, read once per tick instead of one wake-up a packet.

Its public `get_component_candidates` is replaced on the one agent; its own protocol objects stay, on a transport that
is a plain socket. RFC 7983 tells what is whose: STUN and DTLS go to aioice, SRTP and SRTCP never do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from aioice import Candidate
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol

from bridge.net.datagrams import target_of
from bridge.net.ice_sockets import IceSockets
from bridge.rtp.packet import DatagramKind, classify

log = structlog.get_logger()
WILDCARDS = ("", "0.0.0.0", "::")
MOST_DTLS = 64  # datagrams that wait for aiortc; a handshake has a dozen

Media = Callable[[bytes, "Path", float], None]
"""SRTP or SRTCP as it came, unverified; the way it came; when."""


class Path:
    """The way a datagram came: our socket and the peer's address."""

    __slots__ = ("socket", "source")

    def __init__(self, sock: socket.socket, source: tuple[str, int]) -> None:
        self.socket = sock
        self.source = source


class Agent(Protocol):
    """What aioice's Connection has and we use; `check_library` guards it."""

    _protocols: list[StunProtocol]
    _queue: Any
    get_component_candidates: Any
    data_received: Any


class _Transport:
    """What aioice asks of a datagram transport."""

    def __init__(self, sockets: IceSockets, sock: socket.socket, protocol: StunProtocol) -> None:
        self._sockets, self._socket, self._protocol = sockets, sock, protocol
        self._name = sock.getsockname()

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            self._socket.sendto(data, target_of(self._socket, address))
        except (OSError, OverflowError):  # unreachable, or closed: ICE and DTLS send again, or give the pair up
            return

    def get_extra_info(self, name: str) -> Any:
        return {"sockname": self._name, "socket": self._socket}.get(name)

    def close(self) -> None:
        self._sockets.release(self._socket)
        self._protocol.connection_lost(None)


def addresses_of(bind: str, found: list[str]) -> list[str]:
    """Where to listen: what `rtp.bind` names; else every address of this machine; else the loopback."""
    return [bind] if bind not in WILDCARDS else found or ["127.0.0.1"]


def listen_on(agent: Agent, sockets: IceSockets, *, bind: str, media: Media) -> None:
    """From now on the agent gathers host candidates on `sockets`. Call it before the answer is made, whose making then
    raises CapacityError where no port is free."""

    async def get_component_candidates(component: int, addresses: list[str], timeout: int = 5) -> list[Candidate]:
        found = []
        for sock in sockets.bind(addresses_of(bind, addresses)):
            protocol = StunProtocol(agent)  # type: ignore[arg-type]  # aioice's Connection, by the part of it we know
            protocol.connection_made(_Transport(sockets, sock, protocol))  # type: ignore[arg-type]
            protocol.local_candidate = _host_candidate(sock, component)
            agent._protocols.append(protocol)
            sockets.attach(sock, _sorter(agent, protocol, sock, media))
            found.append(protocol.local_candidate)
        return found

    def data_received(data: bytes, component: int) -> None:
        if classify(data) is DatagramKind.DTLS and agent._queue.qsize() < MOST_DTLS:
            agent._queue.put_nowait((data, component))

    agent.get_component_candidates = get_component_candidates
    agent.data_received = data_received


def _host_candidate(sock: socket.socket, component: int) -> Candidate:
    address, port = sock.getsockname()[:2]
    return Candidate(
        foundation=candidate_foundation("host", "udp", address),
        component=component,
        transport="udp",
        priority=candidate_priority(component, "host"),
        host=address,
        port=port,
        type="host",
    )


def _sorter(
    agent: Agent, protocol: StunProtocol, sock: socket.socket, media: Media
) -> Callable[[bytes, tuple[str, int], float], None]:
    path = Path(sock, ("", 0))

    def take(data: bytes, source: tuple[str, int], at: float) -> None:
        nonlocal path
        kind = classify(data)
        if kind in (DatagramKind.RTP, DatagramKind.RTCP):
            if source != path.source:
                path = Path(sock, source)
            media(data, path, at)
        elif kind in (DatagramKind.STUN, DatagramKind.DTLS):
            try:
                protocol.datagram_received(data, source)
            except Exception as error:  # noqa: BLE001 - the boundary of one session: a stranger's attributes may be cut off
                log.debug("ice datagram dropped", reason=type(error).__name__)

    return take
