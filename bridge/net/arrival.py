"""When the kernel got what is being handled: after a standstill of the process that was seconds ago."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
from collections.abc import Callable

from bridge.clock import StampClock, monotonic, unix_offset

SIOCGSTAMPNS = 0x8907  # Linux, asm-generic/sockios.h: stamp of the datagram that was read last
TIMESPEC = struct.Struct("ll")
TCP_INFO = 11  # Linux, linux/tcp.h
LAST_DATA_RECEIVED = struct.Struct("52xI")  # tcpi_last_data_recv: ms since data came


class DatagramArrivals:
    """Of one socket. From now on the kernel stamps what comes."""

    def __init__(self, sock: socket.socket, offset: Callable[[], float] = unix_offset) -> None:
        self._socket = sock
        self._stamps = StampClock(offset)
        self.last()

    def last(self) -> float:
        """When (monotonic) the datagram came that was read last; the present where none was."""
        now = monotonic()
        try:
            seconds, nanoseconds = TIMESPEC.unpack(
                fcntl.ioctl(self._socket.fileno(), SIOCGSTAMPNS, bytes(TIMESPEC.size))
            )
        except (OSError, ValueError):  # nothing was read yet; the socket is closed
            return now
        self._stamps.begin()
        at = float(seconds + nanoseconds * 1e-9) - self._stamps.offset
        if self._stamps.has_stepped:
            at = self._stamps.corrected(at, now)
            if not self._has_more():
                self._stamps.end()
        return min(at, now)

    def _has_more(self) -> bool:
        waiting = select.poll()
        waiting.register(self._socket.fileno(), select.POLLIN)
        return bool(waiting.poll(0))


def of_stream(sock: socket.socket) -> float:
    """Arrival (monotonic) of the last bytes that the kernel got for a TCP connection: what was read of it came then, or
    earlier. To the kernel's tick of a few ms."""
    now = monotonic()
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LAST_DATA_RECEIVED.size)
    except OSError:
        return now
    return now - float(LAST_DATA_RECEIVED.unpack(info)[0]) / 1000
