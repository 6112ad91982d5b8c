"""Reads one datagram from every socket that holds one: in C where the wheel was built with a compiler
(`bridge/net/receive.c`), else in Python, which takes about 2 us longer for each.
"""

from __future__ import annotations

import ctypes
import functools
import select
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bridge.media.arrivals import DATAGRAM_BYTES, packed_address

TIMESPEC = struct.Struct("qq")
ANCILLARY_BYTES = socket.CMSG_SPACE(TIMESPEC.size)
EPOLL_EVENTS = 4096  # sockets taken per pass, at most
LIBRARY = Path(__file__).with_name("libreceive.so")
FUNCTION = "callbridge_receive_1"  # another number when its arguments change: a library of before is not taken then


def stamp_of(ancillary: list[tuple[int, int, bytes]]) -> int:
    """Unix time in ns at which the kernel got a datagram; 0 where it did not say (SO_TIMESTAMPNS)."""
    if not ancillary:
        return 0
    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


class Pass:
    """Room for one pass of at most `capacity` datagrams; `receive` fills it and answers how many there are. Datagram n
    came on the file `files[n]`."""

    def __init__(self, capacity: int) -> None:
        self.data = np.empty((capacity, DATAGRAM_BYTES), np.uint8)
        self.files = np.zeros(capacity, np.int64)
        self.lengths = np.zeros(capacity, np.int64)
        self.stamps = np.zeros(capacity, np.int64)
        "Unix time in ns at which the kernel got each; 0 where it did not say."
        self.sources = np.zeros((capacity, 3), np.uint64)
        "See `packed_address`."


class PythonReceiver(Pass):
    """What runs everywhere."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        self._views = [[memoryview(row)] for row in self.data]  # type: ignore[arg-type]
        self._pack = functools.lru_cache(4 * capacity)(lambda source: packed_address(source[:2]).tobytes())

    def receive(self, epoll: select.epoll, sockets: Mapping[int, socket.socket]) -> int:
        """One datagram of each of these `sockets` that has one, as far as there is room. Nothing on the wire raises: a
        socket with an error to report (ICMP, of something sent earlier) is passed over."""
        files: list[int] = []
        lengths: list[int] = []
        stamps: list[int] = []
        sources: list[bytes] = []
        views = self._views
        for file, _ in epoll.poll(0, min(EPOLL_EVENTS, len(views))):
            try:
                length, ancillary, _, source = sockets[file].recvmsg_into(views[len(files)], ANCILLARY_BYTES)
            except OSError:
                continue
            files.append(file)
            lengths.append(length)
            stamps.append(stamp_of(ancillary))
            sources.append(self._pack(source))
        n = len(files)
        self.files[:n], self.lengths[:n], self.stamps[:n] = files, lengths, stamps
        self.sources[:n] = np.frombuffer(b"".join(sources), np.uint64).reshape(n, 3)
        return n


class NativeReceiver(Pass):
    """`PythonReceiver` in C. Raises OSError where there is no library that fits."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity)
        try:
            function = getattr(ctypes.PyDLL(str(LIBRARY)), FUNCTION)  # nothing in it waits: it may keep the GIL
        except AttributeError as error:
            raise OSError(f"{LIBRARY.name} is of another version") from error
        function.restype = ctypes.c_int32
        arrays = (self.data, self.files, self.lengths, self.stamps, self.sources)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
        self._arguments = (ctypes.c_int32(capacity), ctypes.c_int64(DATAGRAM_BYTES), *pointers)
        self._function: Callable[..., int] = function

    def receive(self, epoll: select.epoll, _: Mapping[int, socket.socket]) -> int:
        """See `PythonReceiver`."""
        return self._function(epoll.fileno(), *self._arguments)


def receiver(capacity: int) -> PythonReceiver | NativeReceiver:
    """The faster one that this installation has."""
    try:
        return NativeReceiver(capacity)
    except OSError:
        return PythonReceiver(capacity)
