"""UDP sockets of WebRTC sessions, read once per tick as those of telephony are (`datagrams`), with the kernel's time of
arrival. One port number a session, of the same range; one socket for each of our addresses, because a browser wants its
answer from the very address it asked (RFC 8445 section 7.2.5.2.1)."""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Sequence
from math import inf

from bridge.clock import StampClock
from bridge.errors import CapacityError
from bridge.net.datagrams import RECEIVE_BUFFER_BYTES, SO_TIMESTAMPNS
from bridge.net.receive import ANCILLARY_BYTES, stamp_of

DATAGRAM_BYTES = 2048  # past any Ethernet frame
EPOLL_EVENTS = 4096
PASSES = 1000  # datagrams of one socket and tick: more than its buffer holds, so that only a flood is cut short

Take = Callable[[bytes, tuple[str, int], float], None]
"""A datagram, where it came from, and when (monotonic)."""


class IceSockets:
    """Hands out ports from the top of `ports` down; telephony's pairs go up. Whoever meets a port in use takes the
    next."""

    def __init__(self, *, first: int, last: int) -> None:
        self._first, self._last = first, last
        self._next = 0
        self._epoll = select.epoll()
        self._open: dict[int, tuple[socket.socket, Take]] = {}
        self._buffer = memoryview(bytearray(DATAGRAM_BYTES))
        self._stamps = StampClock()

    def bind(self, addresses: Sequence[str]) -> list[socket.socket]:
        """A socket on each of `addresses` that this machine has, all on one port. Raises CapacityError where none can
        be had; `attach` and `release` are the caller's duty then."""
        n_ports = self._last - self._first + 1
        for _ in range(n_ports):
            port = self._last - self._next % n_ports
            self._next += 1
            found = self._bind_port(addresses, port)
            if found is not None:
                return found
        raise CapacityError("no free port for WebRTC")

    def _bind_port(self, addresses: Sequence[str], port: int) -> list[socket.socket] | None:
        """None: the port is somebody's."""
        found: list[socket.socket] = []
        for address in addresses:
            try:
                found.append(_bound(address, port))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    continue  # an address that is not ours any more
                for sock in found:
                    sock.close()
                if error.errno in (errno.EADDRINUSE, errno.EACCES):
                    return None
                raise CapacityError(f"cannot open media sockets: {error.strerror}") from error
        if not found:  # on no port: trying them all would only stop the tick
            raise CapacityError("none of our addresses can take WebRTC media")
        return found

    def attach(self, sock: socket.socket, take: Take) -> None:
        """From now on `read` hands `take` what arrives on `sock`."""
        self._open[sock.fileno()] = (sock, take)
        self._epoll.register(sock.fileno(), select.EPOLLIN)

    def release(self, sock: socket.socket) -> None:
        """Closes it. Idempotent."""
        if sock.fileno() in self._open:
            self._epoll.unregister(sock.fileno())
            del self._open[sock.fileno()]
        sock.close()

    def read(self) -> None:
        """Everything that had arrived when this began, be it after a standstill: what is signalled then counts from
        behind it. One datagram of each socket in turn, which spares every socket the further call that would only say
        it is empty."""
        began = time.monotonic()
        self._stamps.begin()
        for _ in range(PASSES):
            ready = self._epoll.poll(0, EPOLL_EVENTS)
            oldest = inf
            for fd, _ in ready:
                entry = self._open.get(fd)  # whoever took the last datagram may have closed it
                if entry is not None:
                    oldest = min(oldest, self._read_one(*entry))
            if oldest > began:
                self._stamps.end()
                return

    def _read_one(self, sock: socket.socket, take: Take) -> float:
        """When it arrived; 0 where there was none."""
        try:
            length, ancillary, _, source = sock.recvmsg_into((self._buffer,), ANCILLARY_BYTES)
        except OSError:  # nothing after all, or an ICMP error of an earlier send that is reported here
            return 0.0
        stamp, at = stamp_of(ancillary), time.monotonic()
        if stamp:
            at = self._stamps.corrected(stamp * 1e-9 - self._stamps.offset, at)
        take(self._buffer[:length].tobytes(), source[:2], at)
        return at

    def close(self) -> None:
        """Releases every socket that is still out."""
        for sock, _ in list(self._open.values()):
            self.release(sock)
        self._epoll.close()


def _bound(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock
