"""When the kernel got what is being handled: after a standstill of the process that was seconds ago."""

from __future__ import annotations

import fcntl
import socket
import struct

from bridge.clock import monotonic, unix_offset

SIOCGSTAMPNS = 0x8907  # Linux, asm-generic/sockios.h: stamp of the datagram that was read last
TIMESPEC = struct.Struct("ll")
TCP_INFO = 11  # Linux, linux/tcp.h
LAST_DATA_RECEIVED = struct.Struct("52xI")  # tcpi_last_data_recv: ms since data came


def of_datagram(sock: socket.socket) -> float:
    """Arrival (monotonic) of the datagram that was read last from `sock`. The first call has the kernel stamp what
    comes later, and answers the present."""
    now = monotonic()
    try:
        seconds, nanoseconds = TIMESPEC.unpack(fcntl.ioctl(sock.fileno(), SIOCGSTAMPNS, bytes(TIMESPEC.size)))
    except (OSError, ValueError):  # nothing was read yet; the socket is closed
        return now
    return min(float(seconds + nanoseconds * 1e-9) - unix_offset(), now)


def of_stream(sock: socket.socket) -> float:
    """Arrival (monotonic) of the last bytes that the kernel got for a TCP connection: what was read of it came then, or
    earlier. To the kernel's tick of a few ms."""
    now = monotonic()
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, TCP_INFO, LAST_DATA_RECEIVED.size)
    except OSError:
        return now
    return now - float(LAST_DATA_RECEIVED.unpack(info)[0]) / 1000
