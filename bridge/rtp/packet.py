"""RTP packets on the wire (RFC 3550 section 5.1), and what else may arrive on the same port."""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import NamedTuple

from bridge.errors import MalformedPacket

HEADER_BYTES = 12
_HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")
_WORD = struct.Struct("!I")


class DatagramKind(StrEnum):
    """What a datagram is by its first two bytes."""

    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    OTHER = "other"


class Extension(NamedTuple):
    """The header extension (section 5.3.1), not looked into."""

    profile: int
    "16 bits; 0xBEDE and 0x100x are RFC 8285's."
    data: bytes
    "A multiple of four bytes."


class RtpPacket(NamedTuple):
    """One RTP packet. `payload` excludes padding; numbers are as on the wire."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrc: tuple[int, ...] = ()
    extension: Extension | None = None
    padding: bytes = b""
    "Ends with its own length; kept because SRTP peers fill it with noise and a packet must survive a round trip."

    def build(self) -> bytes:
        """The packet on the wire."""
        first = 0x80 | (0x20 if self.padding else 0) | (0x10 if self.extension else 0) | len(self.csrc)
        second = (0x80 if self.marker else 0) | self.payload_type
        parts = [_HEADER.pack(first, second, self.sequence, self.timestamp, self.ssrc)]
        parts += [_WORD.pack(source) for source in self.csrc]
        if self.extension:
            parts += [_EXTENSION.pack(self.extension.profile, len(self.extension.data) // 4), self.extension.data]
        parts += [self.payload, self.padding]
        return b"".join(parts)


def is_rtcp(data: bytes) -> bool:
    """Whether a datagram in the RTP range is RTCP: second byte 192 to 223 (RFC 5761 section 4)."""
    return len(data) > 1 and 192 <= data[1] <= 223


def classify(data: bytes) -> DatagramKind:
    """What a datagram claims to be (RFC 5764 section 5.1.2, STUN widened to 0-3 by RFC 7983). Nothing is checked."""
    if not data:
        return DatagramKind.OTHER
    first = data[0]
    if 128 <= first <= 191:
        return DatagramKind.RTCP if is_rtcp(data) else DatagramKind.RTP
    if first <= 3:
        return DatagramKind.STUN
    return DatagramKind.DTLS if 20 <= first <= 63 else DatagramKind.OTHER


def parse_rtp(data: bytes) -> RtpPacket:
    """The packet in a datagram, RTCP or not (`is_rtcp`). Raises MalformedPacket naming what is wrong."""
    if len(data) < HEADER_BYTES:
        raise MalformedPacket("shorter than an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first == 0x80:  # no padding, extension or CSRC: nearly every packet of telephony
        return RtpPacket(second & 0x7F, sequence, timestamp, ssrc, data[HEADER_BYTES:], second > 127)
    if first >> 6 != 2:
        raise MalformedPacket(f"RTP version {first >> 6}")
    at = HEADER_BYTES + 4 * (first & 0x0F)
    csrc = _parse_csrc(data, at)
    extension = None
    if first & 0x10:
        extension, at = _parse_extension(data, at)
    end = len(data) - (_padding_bytes(data, at) if first & 0x20 else 0)
    fixed = (second & 0x7F, sequence, timestamp, ssrc)
    return RtpPacket(*fixed, data[at:end], second > 127, csrc, extension, data[end:])


def _parse_csrc(data: bytes, end: int) -> tuple[int, ...]:
    if len(data) < end:
        raise MalformedPacket("CSRC list is cut off")
    return tuple(_WORD.unpack_from(data, at)[0] for at in range(HEADER_BYTES, end, 4))


def _parse_extension(data: bytes, at: int) -> tuple[Extension, int]:
    if len(data) < at + _EXTENSION.size:
        raise MalformedPacket("header extension is cut off")
    profile, n_words = _EXTENSION.unpack_from(data, at)
    start = at + _EXTENSION.size
    end = start + 4 * n_words
    if len(data) < end:
        raise MalformedPacket("header extension is longer than the packet")
    return Extension(profile, data[start:end]), end


def _padding_bytes(data: bytes, payload_start: int) -> int:
    if len(data) <= payload_start:
        raise MalformedPacket("padding is announced and absent")
    padding = data[-1]
    if padding == 0:
        raise MalformedPacket("padding of no bytes")
    if padding > len(data) - payload_start:
        raise MalformedPacket("padding is longer than the payload")
    return padding
