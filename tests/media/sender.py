"""A sender of G.711 whose every byte says where in the stream it belongs, and a path that can lose and delay."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bridge.media.arrivals import Arrivals
from bridge.media.incoming import Incoming
from bridge.media.outputs import Audio, Output
from bridge.media.plane import Plane
from bridge.rtp.packet import RtpPacket

SOURCE = ("192.0.2.1", 4000)


@dataclass
class Sender:
    """One stream. `at` is when a packet's first sample was captured; it is sent when its last one was."""

    ssrc: int = 7
    seq: int = 65500
    timestamp: int = 0xFFFF_F000
    payload_type: int = 0
    units: int = 160
    source: tuple[str, int] = SOURCE
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(1))

    def packet(self, payload: bytes = b"") -> bytes:
        """The next packet: noise unless told otherwise, so that no stretch equals another."""
        payload = payload or self.rng.integers(0, 256, self.units, dtype=np.uint8).tobytes()
        data = RtpPacket(self.payload_type, self.seq, self.timestamp, self.ssrc, payload).build()
        self.seq = (self.seq + 1) & 0xFFFF
        self.timestamp = (self.timestamp + self.units) & 0xFFFF_FFFF
        return data

    def skip(self, seconds: float) -> None:
        """Silence that is not sent: the timestamp goes on, the sequence does not."""
        self.timestamp = (self.timestamp + round(seconds * 8000)) & 0xFFFF_FFFF


class ByReceiver(Incoming):
    """Takes every packet the long way."""

    def push(self, batch: Arrivals) -> None:
        self._legs.lanes.is_plain[:] = False
        super().push(batch)


def arrivals(entries: list[tuple[int, bytes, float]], source: tuple[str, int] = SOURCE) -> Arrivals:
    """A pass: (row, datagram, arrival)."""
    return Arrivals.of(entries, source)


def deliver(plane: Plane, row: int, sent: list[tuple[float, bytes]], *, until: float) -> list[Output]:
    """Runs the plane at 50 ticks a second over `sent` (arrival, datagram), up to `until`."""
    out: list[Output] = []
    queue = sorted(sent, key=lambda entry: entry[0])
    first = queue[0][0] if queue else until
    now = first - first % 0.02
    while now < until:
        now += 0.02
        while queue and queue[0][0] <= now:
            at, datagram = queue.pop(0)
            plane.incoming.push(arrivals([(row, datagram, at)]))
        out += plane.tick(now)
    return out


def audio(out: list[Output]) -> list[Audio]:
    """Only what a provider would be sent."""
    return [output for output in out if isinstance(output, Audio)]
