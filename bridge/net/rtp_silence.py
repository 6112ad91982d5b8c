"""The little that we send where we said `sendrecv`: a packet of silence now and then. Session border controllers and
PBXs hang up on a party that never sends RTP, and a NAT forgets its mapping (RFC 6263 asks for one every 15 s)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from bridge.rtp.packet import RtpPacket
from bridge.rtp.rtcp import ReceiverReport, ReportBlock, SenderReport
from rtpcodecs import CODECS
from rtpcodecs.contract import Codec

PACKET = 0.02  # s
NTP_EPOCH = 2_208_988_800  # s from 1900 to 1970 (RFC 868)


@dataclass(frozen=True, slots=True)
class SentFormat:
    """A payload type that the peer takes."""

    payload_type: int
    codec: Codec
    "One that can be encoded."


@cache
def silence(name: str) -> bytes:
    """A packet's payload of digital silence in the codec of that name."""
    codec = CODECS[name]
    assert codec.make_encoder is not None
    return codec.make_encoder().encode(np.zeros(round(codec.sample_rate_hz * PACKET), np.int16))


@dataclass(slots=True)
class Silence:
    """One leg's stream. Its numbers go on through pauses and changes of codec: SRTP allows none to come twice."""

    ssrc: int
    sequence: int = 0
    format: SentFormat | None = None
    "None: nothing is sent now."
    n_packets: int = 0
    n_bytes: int = 0

    def next(self, now: float) -> bytes | None:
        """The next packet, were it sent `now`."""
        if self.format is None:
            return None
        payload = silence(self.format.codec.name)
        packet = RtpPacket(
            self.format.payload_type, self.sequence, self._timestamp(now), self.ssrc, payload, marker=True
        ).build()
        self.sequence = (self.sequence + 1) & 0xFFFF
        self.n_packets += 1
        self.n_bytes += len(payload)
        return packet

    def report(self, blocks: tuple[ReportBlock, ...], now: float, unix_ms: int) -> SenderReport | ReceiverReport:
        """Who sends says so (RFC 3550 section 6.4)."""
        if self.format is None or not self.n_packets:
            return ReceiverReport(self.ssrc, blocks)
        ntp = ((unix_ms // 1000 + NTP_EPOCH) << 32) | (unix_ms % 1000 * 2**32 // 1000)
        return SenderReport(self.ssrc, ntp, self._timestamp(now), self.n_packets, self.n_bytes, blocks)

    def _timestamp(self, now: float) -> int:
        assert self.format is not None
        return round(now * self.format.codec.clock_rate_hz) & 0xFFFFFFFF
