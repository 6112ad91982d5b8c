"""RTP of thousands of legs from one thread and one socket: NumPy fills the packets, one sendmmsg sends a phase.

A frame of 20 ms is cut into 20 phases of 1 ms and each leg sends in one of them, as independent phones would. Every
phase has an absolute deadline. Linux on 64 bit only (struct mmsghdr is laid out by hand).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import socket
import struct
import threading
import time
from collections.abc import Sequence

import numpy as np

from tests.bench.tapes import Tape

HEADER_BYTES = 12
PHASES = 20
MARK = b"\xde\xad\x13\x37"
"Begins the payload of packets within speech, followed by 8 bytes: microseconds of the monotonic clock at the sending."
"A service that passes G.711 through untouched carries it to the provider: that is how latency is measured."
SEND_BUFFER_BYTES = 4 * 1024 * 1024
MMSGHDR = np.dtype([
    ("name", "u8"), ("namelen", "u8"), ("iov", "u8"), ("iovlen", "u8"), ("control", "u8"), ("controllen", "u8"),
    ("flags", "u8"), ("len", "u8"),
])  # fmt: skip
IOVEC = np.dtype([("base", "u8"), ("size", "u8")])
_libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)


class Phase:
    """The legs that send in the same millisecond, as arrays: one row a leg."""

    def __init__(self, capacity: int, widest: int, tapes: Sequence[Tape], *, is_marked: bool) -> None:
        self.tapes, self.is_marked = tapes, is_marked
        self.is_whole = tapes[0].is_whole
        self.at = 0 if self.is_whole else HEADER_BYTES
        self.used_up = 0
        self.legs = 0
        self.packets = np.zeros((capacity, HEADER_BYTES + widest), np.uint8)
        self.addresses = np.zeros((capacity, 16), np.uint8)
        self.slices = np.zeros(capacity, IOVEC)
        self.slices["base"] = self.packets.ctypes.data + np.arange(capacity, dtype=np.uint64) * self.packets.strides[0]
        self.messages = np.zeros(capacity, MMSGHDR)
        self.messages["name"] = self.addresses.ctypes.data + np.arange(capacity, dtype=np.uint64) * 16
        self.messages["namelen"] = 16
        self.messages["iov"] = self.slices.ctypes.data + np.arange(capacity, dtype=np.uint64) * IOVEC.itemsize
        self.messages["iovlen"] = 1
        self.tape = np.zeros(capacity, np.int64)
        self.frame = np.zeros(capacity, np.int64)
        self.sequence = np.zeros(capacity, np.uint16)
        self.timestamp = np.zeros(capacity, np.uint32)
        self.is_held = np.zeros(capacity, bool)
        self.rows = np.arange(capacity)

    def add(self, remote: tuple[str, int], tape: int, frame: int, payload_type: int, ssrc: int) -> int:
        row = self.legs
        self.packets[row, :2] = 0x80, payload_type
        self.packets[row, 8:12] = np.frombuffer(struct.pack("!I", ssrc), np.uint8)
        address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(remote[1]), socket.inet_aton(remote[0]))
        self.addresses[row] = np.frombuffer(address, np.uint8)
        self.tape[row], self.frame[row] = tape, frame
        self.legs += 1  # last: the sending thread takes the row from now on
        return row

    def fill(self, frame_units: int) -> np.ndarray:
        """Writes the next packet of every leg; the mmsghdrs of those that are to be sent."""
        n = self.legs
        rows = self.rows[:n]
        self.timestamp[:n] += np.uint32(frame_units)
        self.frame[:n] += 1
        for number, tape in enumerate(self.tapes):
            mine = rows[self.tape[:n] == number]
            if len(mine):
                at = self.frame[mine] % len(tape.sizes)
                self.packets[mine, self.at : self.at + tape.payloads.shape[1]] = tape.payloads[at]
                self.slices["size"][mine] = self.at + tape.sizes[at]
                if self.is_marked and len(tape.marks):
                    mark = MARK + struct.pack("!Q", time.monotonic_ns() // 1000)
                    marked = mine[tape.marks[at]]
                    self.packets[marked, HEADER_BYTES : HEADER_BYTES + len(mark)] = np.frombuffer(mark, np.uint8)
        if self.is_whole:
            return self.messages[self.unsent()]
        going = rows[~self.is_held[:n]]
        self.sequence[going] += 1
        self.packets[:n, 2:4] = self.sequence[:n].astype(">u2").view(np.uint8).reshape(n, 2)
        self.packets[:n, 4:8] = self.timestamp[:n].astype(">u4").view(np.uint8).reshape(n, 4)
        return self.messages[going]

    def unsent(self) -> np.ndarray:
        """Rows whose whole packets are not used up: one that is sent twice is a replay."""
        n = self.legs
        over = self.frame[:n] >= len(self.tapes[0].sizes)
        self.used_up += int(np.count_nonzero(over & ~self.is_held[:n]))
        return self.rows[:n][~over & ~self.is_held[:n]]


class Flood:
    """Sends until `stop`. Legs are added while it runs."""

    def __init__(
        self,
        tapes: Sequence[Tape],
        *,
        capacity: int,
        payload_type: int,
        frame_units: int,
        ptime_ms: int = 20,
        is_marked: bool = False,
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        widest = max(tape.payloads.shape[1] for tape in tapes)
        self.phases = [Phase(-(-capacity // PHASES), widest, tapes, is_marked=is_marked) for _ in range(PHASES)]
        self.payload_type, self.frame_units, self.ptime = payload_type, frame_units, ptime_ms / 1000
        self.tapes = tapes
        self.legs = self.sent = self._refused = 0
        self._late: list[float] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flood")

    def add(self, remote: tuple[str, int], tape: int, at_seconds: float) -> tuple[int, int]:
        """A leg that begins at once, `at_seconds` into its tape. The answer names it for `hold`."""
        number, self.legs = self.legs, self.legs + 1
        row = self.phases[number % PHASES].add(
            remote, tape % len(self.tapes), int(at_seconds / self.ptime), self.payload_type, 0x10000 + number
        )
        return number % PHASES, row

    def hold(self, leg: tuple[int, int], on: bool) -> None:
        self.phases[leg[0]].is_held[leg[1]] = on

    def start(self) -> None:
        self._thread.start()

    @property
    def failed(self) -> int:
        """Packets that the kernel refused, or that were due when an SRTP tape was used up."""
        return self._refused + sum(phase.used_up for phase in self.phases)

    @property
    def is_running(self) -> bool:
        return self._thread.is_alive()

    def recent_late(self) -> list[float]:
        """How late the last phases were sent, seconds; up to 50 s of them."""
        return self._late[-50_000:]

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self.socket.close()

    def _run(self) -> None:
        start, step = time.monotonic() + 0.05, self.ptime / PHASES
        n = 0
        while not self._stopping.is_set():
            due = start + n * step
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self._late.append(max(time.monotonic() - due, 0.0))
            phase = self.phases[n % PHASES]
            n += 1
            if phase.legs:
                self._send(phase.fill(self.frame_units))

    def _send(self, messages: np.ndarray) -> None:
        at, n = 0, len(messages)
        while at < n:
            done = _libc.sendmmsg(self.socket.fileno(), ctypes.c_void_p(messages[at:].ctypes.data), n - at, 0)
            if done > 0:
                at += done
                self.sent += done
            elif ctypes.get_errno() != errno.EINTR:  # one refused packet must not stop the others
                at += 1
                self._refused += 1
