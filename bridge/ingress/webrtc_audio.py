"""One WebRTC track: RTP packets in, 16 kHz audio in capture time out. No I/O; time is passed in.

aiortc's own jitter buffer is a queue of four frames without a clock: one lost packet makes it drop five and stay 280 ms
behind for the rest of the call. So aiortc never sees a media packet; what follows is the same receiver that telephony
uses, and the same decoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from bridge.model import POSITION_HZ
from bridge.rtp.frames import Frame, Kind, PayloadType
from bridge.rtp.lanes import Lanes
from bridge.rtp.packet import RtpPacket
from bridge.rtp.receiver import Receiver
from rtpcodecs.concealment import Concealment
from rtpcodecs.contract import Decoder

RATE_HZ = 16000

Deliver = Callable[[NDArray[np.int16], float], None]
"""Samples, and the monotonic time at which the first of them was captured."""


class TrackAudio:
    """Order, loss, gaps and clock of one track, then its decoder. `deliver` is called in order of capture."""

    def __init__(self, lanes: Lanes, row: int, *, deliver: Deliver, jitter: float, jitter_max: float) -> None:
        """`row`: this track's lane, cleared here; whoever owns the lanes advances them."""
        lanes.clear(row)
        self._lanes, self._row = lanes, row
        self._receiver = Receiver(lanes, row, jitter=jitter, jitter_max=jitter_max)
        self._deliver = deliver
        self._decoders: dict[PayloadType, Decoder] = {}
        self._concealment = Concealment(RATE_HZ)
        self.broken = 0
        "Payloads that the decoder refused."

    def configure(self, types: Mapping[int, PayloadType]) -> None:
        """What was agreed to come."""
        self._receiver.configure(types, events={}, comfort=frozenset())

    def packets(self) -> dict[str, int]:
        """Packets by what became of them, as in a leg's ledger: received in time and once; lost, late ones included."""
        counts = self._receiver.counts
        return {
            "received": int(self._lanes.received[self._row]) - counts.late - counts.duplicate,
            "lost": counts.lost,
            "late": counts.late,
            "duplicate": counts.duplicate,
            "malformed": counts.malformed + self.broken,
        }

    def push(self, packet: RtpPacket, at: float) -> None:
        """A packet that arrived at `at`."""
        self._play(self._receiver.push(packet, at))

    def tick(self, now: float) -> None:
        """Every 20 ms: gives up on holes that were waited for long enough."""
        if self._receiver.is_waiting:
            self._play(self._receiver.release(now))

    def flush(self) -> None:
        """Whatever is held: the track is over."""
        self._play(self._receiver.flush())

    def _play(self, frames: list[Frame]) -> None:
        for frame in frames:
            samples = self._decode(frame)
            if len(samples):
                start = float(self._lanes.origin[self._row]) + frame.position / POSITION_HZ + frame.shift
                self._deliver(samples, start)

    def _decode(self, frame: Frame) -> NDArray[np.int16]:
        n_samples = frame.length * RATE_HZ // POSITION_HZ
        if frame.kind is Kind.AUDIO and frame.payload_type is not None:
            decoder = self._decoders.get(frame.payload_type)
            if decoder is None:
                decoder = frame.payload_type.codec.make_decoder(frame.payload_type.fmtp)
                self._decoders[frame.payload_type] = decoder
            try:
                return self._concealment.good(decoder.decode(frame.payload))
            except ValueError:
                self.broken += 1
        if frame.kind in (Kind.LOST, Kind.AUDIO):
            return self._concealment.lost(n_samples)
        return np.zeros(n_samples, np.int16)
