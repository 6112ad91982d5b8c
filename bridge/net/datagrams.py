"""UDP sockets of all legs, read once per tick instead of once per packet.

The kernel's socket buffer is the arrival queue and its clock stamps each datagram (SO_TIMESTAMPNS), so nothing has to
wake up for a packet: each `read` asks one epoll for the sockets that hold something and takes *one* datagram from
each (`bridge.net.receive`). Two passes therefore never carry the same leg twice, which is what lets the plane treat a
pass as a batch.
"""

from __future__ import annotations

import errno
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from bridge.clock import StampClock, unix_offset
from bridge.errors import CapacityError
from bridge.media.arrivals import Arrivals
from bridge.net.receive import ANCILLARY_BYTES, NativeReceiver, PythonReceiver, receiver, stamp_of
from bridge.rtp.latch import Stream

SO_TIMESTAMPNS = 35  # Linux, asm-generic/socket.h; not in Python's socket module
RECEIVE_BUFFER_BYTES = 256 * 1024  # about 300 datagrams of kernel memory: 6 s of one leg
LEFT_STREAMS = 2  # of earlier calls that are remembered for a port: their phones may send on
LEFT_PORTS = 1000  # that they are remembered for: a range so wide comes round in a minute or more
MOST_WAITING = 2000  # datagrams that the buffer can hold at most, small ones too
MAPPED = "::ffff:"  # RFC 4291 section 2.5.5.2
FILES = 4096  # file numbers that are known at first


@dataclass(slots=True)
class MediaPort:
    """A pair of bound sockets: RTP on an even port, RTCP one above (RFC 3550 section 11)."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket
    left: tuple[Stream, ...] = ()
    "Streams of the last calls that had the port, latest first; to be added to before it is released."


def target_of(sock: socket.socket, address: tuple[str, int]) -> tuple[str, int]:
    """`address` as `sock` takes it: an IPv6 socket that also serves IPv4 wants mapped addresses (RFC 4291 2.5.5.2)."""
    if sock.family == socket.AF_INET6 and ":" not in address[0]:
        return MAPPED + address[0], address[1]
    return address


def _discard(sock: socket.socket, before: float) -> None:
    """What the kernel got before that time (monotonic), or did not stamp: reports that nobody misses."""
    offset = unix_offset()
    for _ in range(MOST_WAITING):
        try:
            _, ancillary, _, _ = sock.recvmsg(1, ANCILLARY_BYTES, socket.MSG_PEEK)
            if stamp_of(ancillary) * 1e-9 - offset >= before:
                return
            sock.recv_into(bytearray(1))
        except BlockingIOError:
            return
        except OSError:  # an ICMP error
            continue


class MediaSockets:
    """Hands out port pairs and reads what arrived on them. Not thread-safe; `close` frees everything."""

    def __init__(
        self,
        *,
        bind: str,
        first: int,
        last: int,
        capacity: int,
        begin: float = 0.0,
        offset: Callable[[], float] = unix_offset,
        receiver: Callable[[int], PythonReceiver | NativeReceiver] = receiver,
    ) -> None:
        """`begin`: where in the range, 0 to 1, the first pair is taken. After a crash that should not be where it was
        before: phones still send to the ports of the calls that died."""
        self._bind = bind
        self._stamps = StampClock(offset)
        self._family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        self._first = first + first % 2
        self._pairs = max((last - self._first + 1) // 2, 0)
        self._next = int(begin * self._pairs)
        self._epoll = select.epoll()
        self._attached: dict[int, socket.socket] = {}
        self._row_of = np.full(FILES, -1)
        "By file number."
        self._is_rtcp = np.zeros(FILES, bool)
        "By file number."
        self._pass = receiver(capacity)
        self._open: dict[int, MediaPort] = {}
        self._left: dict[int, tuple[Stream, ...]] = {}
        "By port, of those that were released last."
        self.read_to = inf
        "Arrival (monotonic) up to which the last `read` has read; infinity where it left nothing behind."

    @property
    def in_use(self) -> int:
        """Port pairs that are handed out."""
        return len(self._open)

    def open_pair(self) -> MediaPort:
        """The next free pair of ports, in turn so that a late packet of an ended call meets nobody.

        Raises CapacityError when the range is used up or the process may open no more files.
        """
        for _ in range(self._pairs):
            port = self._first + 2 * (self._next % self._pairs)
            self._next += 1
            if port in self._open:
                continue
            pair = self._bind_pair(port)
            if pair is not None:
                self._open[port] = pair
                return pair
        raise CapacityError("no free RTP port")

    def _bind_pair(self, port: int) -> MediaPort | None:
        sockets: list[socket.socket] = []
        try:
            for number in (port, port + 1):
                sockets.append(socket.socket(self._family, socket.SOCK_DGRAM))
                sockets[-1].setblocking(False)
                sockets[-1].bind((self._bind, number))
            sockets[0].setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        except OSError as error:
            for opened in sockets:
                opened.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return None
            raise CapacityError(f"cannot open media sockets: {error.strerror}") from error
        return MediaPort(port, sockets[0], sockets[1], self._left.get(port, ()))

    def attach(self, pair: MediaPort, row: int, since: float = 0.0) -> None:
        """From now on `read` reports what arrives on `pair` under `row`. RTP from before `since` (monotonic) is thrown
        away: a peer that was told the port early (183) sends before its call is answered. What has come since then
        waits in the kernel and is reported."""
        for sock, is_rtcp in ((pair.rtp, False), (pair.rtcp, True)):
            _discard(sock, since)
            file = sock.fileno()
            while file >= self._row_of.size:
                self._row_of, self._is_rtcp = np.tile(self._row_of, 2), np.tile(self._is_rtcp, 2)
            self._attached[file], self._row_of[file], self._is_rtcp[file] = sock, row, is_rtcp
            self._epoll.register(file, select.EPOLLIN)

    def release(self, pair: MediaPort) -> None:
        """Closes both sockets and returns the ports. Idempotent."""
        if self._open.pop(pair.port, None) is None:
            return
        self._left.pop(pair.port, None)
        if pair.left:
            self._left[pair.port] = pair.left[:LEFT_STREAMS]
            if len(self._left) > LEFT_PORTS:
                del self._left[next(iter(self._left))]
        for sock in (pair.rtp, pair.rtcp):
            if self._attached.pop(sock.fileno(), None) is not None:
                self._epoll.unregister(sock.fileno())
            sock.close()

    def read(self, passes: int = 25) -> Iterator[Arrivals]:
        """What had arrived when this began, at most one datagram per socket and batch, at most `passes` batches; the
        rest waits in the kernel, and `read_to` tells. A batch is valid until the next one is asked for: its buffer is
        used again."""
        began = time.monotonic()
        self._stamps.begin()
        self.read_to = inf
        oldest = inf
        for _ in range(passes):
            batch = self._read_pass()
            if not batch:
                self._stamps.end()
                return
            yield batch
            oldest = float(batch.times.min())
            if oldest > began:  # of a thousand legs some packet always comes while the others are read
                self._stamps.end()
                return
        self.read_to = oldest

    def _read_pass(self) -> Arrivals:
        found = self._pass
        n = found.receive(self._epoll, self._attached)
        files, stamps, now = found.files[:n], found.stamps[:n], time.monotonic()
        times = np.where(stamps > 0, stamps * 1e-9 - self._stamps.offset, now)
        if self._stamps.has_stepped:
            times = np.array([self._stamps.corrected(at, now) for at in times.tolist()])
        return Arrivals(
            found.data, self._row_of[files], found.lengths[:n], times, found.sources[:n], self._is_rtcp[files]
        )

    def close(self) -> None:
        """Releases every pair that is still out."""
        for pair in list(self._open.values()):
            self.release(pair)
        self._epoll.close()
