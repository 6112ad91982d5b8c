"""UDP sockets of all legs, read once per tick instead of once per packet.

The kernel's socket buffer is the arrival queue and its clock stamps each datagram (SO_TIMESTAMPNS), so nothing has to
wake up for a packet: each `read` asks one epoll for the sockets that hold something and takes *one* datagram from
each. Two passes therefore never carry the same leg twice, which is what lets the plane treat a pass as a batch.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

import numpy as np

from bridge.clock import StampClock, unix_offset
from bridge.errors import CapacityError
from bridge.media.arrivals import DATAGRAM_BYTES, Arrivals

SO_TIMESTAMPNS = 35  # Linux, asm-generic/socket.h; not in Python's socket module
TIMESPEC = struct.Struct("qq")
ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)
RECEIVE_BUFFER_BYTES = 256 * 1024  # about 300 datagrams of kernel memory: 6 s of one leg
MOST_WAITING = 2000  # datagrams that the buffer can hold at most, small ones too
EPOLL_EVENTS = 4096  # sockets taken per pass
MAPPED = "::ffff:"  # what Python writes before an IPv4 address on an IPv6 socket


@dataclass(slots=True)
class MediaPort:
    """A pair of bound sockets: RTP on an even port, RTCP one above (RFC 3550 section 11)."""

    port: int
    rtp: socket.socket
    rtcp: socket.socket


def target_of(sock: socket.socket, address: tuple[str, int]) -> tuple[str, int]:
    """`address` as `sock` takes it: an IPv6 socket that also serves IPv4 wants mapped addresses (RFC 4291 2.5.5.2)."""
    if sock.family == socket.AF_INET6 and ":" not in address[0]:
        return MAPPED + address[0], address[1]
    return address


def _plain(source: tuple[str, int]) -> tuple[str, int]:
    """An IPv4 peer as its SDP names it, whatever socket it reached us by: a latch compares the two."""
    return source[0].removeprefix(MAPPED), source[1]


def _discard(sock: socket.socket, before: float) -> None:
    """What the kernel got before that time (monotonic), or did not stamp: reports that nobody misses."""
    offset = unix_offset()
    for _ in range(MOST_WAITING):
        try:
            _, ancillary, _, _ = sock.recvmsg(1, ANCILLARY_BYTES, socket.MSG_PEEK)
            if ancillary and _stamped(ancillary) - offset >= before:
                return
            sock.recv_into(bytearray(1))
        except BlockingIOError:
            return
        except OSError:  # an ICMP error
            continue


def _stamped(ancillary: list[tuple[int, int, bytes]]) -> float:
    """Unix time at which the kernel got a datagram."""
    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
    return float(seconds + nanoseconds * 1e-9)


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
        self._rows: dict[int, tuple[int, bool, socket.socket]] = {}
        self._buffer = np.empty((capacity, DATAGRAM_BYTES), np.uint8)
        self._views = [[memoryview(row)] for row in self._buffer]  # type: ignore[arg-type]
        self._open: dict[int, MediaPort] = {}
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
        return MediaPort(port, sockets[0], sockets[1])

    def attach(self, pair: MediaPort, row: int, since: float = 0.0) -> None:
        """From now on `read` reports what arrives on `pair` under `row`. RTP from before `since` (monotonic) is thrown
        away: a peer that was told the port early (183) sends before its call is answered. What has come since then
        waits in the kernel and is reported."""
        for sock, is_rtcp in ((pair.rtp, False), (pair.rtcp, True)):
            _discard(sock, since)
            self._rows[sock.fileno()] = (row, is_rtcp, sock)
            self._epoll.register(sock.fileno(), select.EPOLLIN)

    def release(self, pair: MediaPort) -> None:
        """Closes both sockets and returns the ports. Idempotent."""
        if self._open.pop(pair.port, None) is None:
            return
        for sock in (pair.rtp, pair.rtcp):
            if self._rows.pop(sock.fileno(), None) is not None:
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
            ready = self._epoll.poll(0, EPOLL_EVENTS)
            batch = self._read_pass(ready) if ready else None
            if batch is None or not batch.rows:
                self._stamps.end()
                return
            yield batch
            oldest = min(batch.times)
            if oldest > began:  # of a thousand legs some packet always comes while the others are read
                self._stamps.end()
                return
        self.read_to = oldest

    def _read_pass(self, ready: list[tuple[int, int]]) -> Arrivals:
        rows: list[int] = []
        lengths: list[int] = []
        times: list[float] = []
        sources: list[tuple[str, int]] = []
        rtcp: list[int] = []
        views, unpack, offset, taken = self._views, TIMESPEC.unpack, self._stamps.offset, 0
        is_v4 = self._family == socket.AF_INET
        for fd, _ in ready[: len(views)]:
            row, is_rtcp, sock = self._rows[fd]
            try:
                length, ancillary, _, source = sock.recvmsg_into(views[taken], ANCILLARY_BYTES)
            except BlockingIOError:
                continue
            except OSError:  # an ICMP error of an earlier send, reported here
                continue
            if ancillary:
                seconds, nanoseconds = unpack(ancillary[0][2])
                times.append(seconds + nanoseconds * 1e-9 - offset)
            else:
                times.append(time.monotonic())
            if is_rtcp:
                rtcp.append(taken)
            rows.append(row)
            lengths.append(length)
            sources.append(source[:2] if is_v4 else _plain(source))
            taken += 1
        if self._stamps.has_stepped:
            now = time.monotonic()
            times = [self._stamps.corrected(at, now) for at in times]
        return Arrivals(self._buffer, rows, lengths, times, sources, rtcp)

    def close(self) -> None:
        """Releases every pair that is still out."""
        for pair in list(self._open.values()):
            self.release(pair)
        self._epoll.close()
