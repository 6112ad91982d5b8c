"""RTCP packets on the wire (RFC 3550 section 6). When to send which is in `rtcp_timing`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import MalformedPacket

SR, RR, SDES, BYE, APP, RTPFB, PSFB, XR = 200, 201, 202, 203, 204, 205, 206, 207
CNAME = 1  # SDES item (section 6.5.1)
MOST_COUNT = 31  # of a 5 bit count field: reports, sources or chunks in one packet
_HEADER = struct.Struct("!BBH")
_WORD = struct.Struct("!I")
_SENDER = struct.Struct("!QIII")
_BLOCK = struct.Struct("!II4I")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver says about one source (section 6.4.1)."""

    ssrc: int
    fraction_lost: int
    "1/256ths since the last report."
    packets_lost: int
    "Since the beginning, signed 24 bits: duplicates make it negative."
    highest_sequence: int
    "Extended, 32 bits: cycles above, sequence number below."
    jitter: int
    "RTP timestamp units."
    lsr: int
    "Middle 32 bits of the NTP time in the last sender report; 0: none came yet."
    dlsr: int
    "Since that report arrived, in 1/65536 s."

    def build(self) -> bytes:
        """24 bytes."""
        lost = (self.fraction_lost << 24) | (self.packets_lost & 0xFF_FFFF)
        return _BLOCK.pack(self.ssrc, lost, self.highest_sequence, self.jitter, self.lsr, self.dlsr)

    @classmethod
    def _parse(cls, body: bytes, at: int) -> ReportBlock:
        ssrc, lost, highest, jitter, lsr, dlsr = _BLOCK.unpack_from(body, at)
        total = ((lost & 0xFF_FFFF) ^ 0x80_0000) - 0x80_0000
        return cls(ssrc, lost >> 24, total, highest, jitter, lsr, dlsr)


@dataclass(frozen=True, slots=True)
class SenderReport:
    """SR (section 6.4.1). `extra` is a profile's extension, passed through."""

    ssrc: int
    ntp_time: int
    "64 bits: seconds since 1900 above, fraction below."
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()
    extra: bytes = b""

    @property
    def lsr(self) -> int:
        """Middle 32 bits of `ntp_time`, as a report block repeats them."""
        return (self.ntp_time >> 16) & 0xFFFF_FFFF

    def build(self) -> bytes:
        """One packet, not a compound."""
        counts = _SENDER.pack(self.ntp_time, self.rtp_timestamp, self.packet_count, self.octet_count)
        blocks = b"".join(block.build() for block in self.reports)
        return _frame(SR, len(self.reports), _WORD.pack(self.ssrc) + counts + blocks + self.extra)


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """RR (section 6.4.2)."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()
    extra: bytes = b""

    def build(self) -> bytes:
        """One packet, not a compound."""
        blocks = b"".join(block.build() for block in self.reports)
        return _frame(RR, len(self.reports), _WORD.pack(self.ssrc) + blocks + self.extra)


@dataclass(frozen=True, slots=True)
class SdesChunk:
    """What is said of one source: (item type, value) pairs; values are meant to be UTF-8 and not checked."""

    ssrc: int
    items: tuple[tuple[int, bytes], ...]

    def build(self) -> bytes:
        """The chunk, ended and padded to a word."""
        items = b"".join(bytes((kind, len(value))) + value for kind, value in self.items)
        return _WORD.pack(self.ssrc) + items + bytes(4 - len(items) % 4)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """SDES (section 6.5)."""

    chunks: tuple[SdesChunk, ...]

    def build(self) -> bytes:
        """One packet, not a compound."""
        return _frame(SDES, len(self.chunks), b"".join(chunk.build() for chunk in self.chunks))


@dataclass(frozen=True, slots=True)
class Goodbye:
    """BYE (section 6.6). Advisory: PJSIP sends one at each re-INVITE while the source lives on."""

    sources: tuple[int, ...]
    reason: bytes | None = None

    def build(self) -> bytes:
        """One packet, not a compound."""
        body = b"".join(_WORD.pack(source) for source in self.sources)
        if self.reason is not None:
            text = bytes((len(self.reason),)) + self.reason
            body += text + bytes(-len(text) % 4)
        return _frame(BYE, len(self.sources), body)


@dataclass(frozen=True, slots=True)
class OtherRtcp:
    """APP, XR, feedback, and types of a later day: taken, passed on, not looked into."""

    packet_type: int
    count: int
    "The 5 bits that other types use as format or subtype."
    body: bytes

    def build(self) -> bytes:
        """One packet, not a compound."""
        return _frame(self.packet_type, self.count, self.body)


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Goodbye | OtherRtcp


@dataclass(frozen=True, slots=True)
class Compound:
    """The packets of one datagram. `padding` belongs to the last one and ends with its own length."""

    packets: tuple[RtcpPacket, ...]
    padding: bytes = b""

    def build(self) -> bytes:
        """The datagram."""
        parts = [packet.build() for packet in self.packets]
        if self.padding:
            first, kind, n_words = _HEADER.unpack_from(parts[-1])
            header = _HEADER.pack(first | 0x20, kind, n_words + len(self.padding) // 4)
            parts[-1] = header + parts[-1][_HEADER.size :] + self.padding
        return b"".join(parts)


def parse_rtcp(data: bytes) -> Compound:
    """The packets of a datagram. Raises MalformedPacket naming what is wrong with any of them.

    Looser than RFC 3550 appendix A.2 in one thing: a compound need not begin with a report (RFC 5506).
    """
    packets: list[RtcpPacket] = []
    padding = b""
    at = 0
    while at < len(data):
        if padding:
            raise MalformedPacket("RTCP padding before the last packet")
        if len(data) - at < _HEADER.size:
            raise MalformedPacket("shorter than an RTCP header")
        first, kind, n_words = _HEADER.unpack_from(data, at)
        if first >> 6 != 2:
            raise MalformedPacket(f"RTCP version {first >> 6}")
        end = at + _HEADER.size + 4 * n_words
        if end > len(data):
            raise MalformedPacket("RTCP packet is longer than the datagram")
        body = data[at + _HEADER.size : end]
        if first & 0x20:
            body, padding = _cut_padding(body)
        packets.append(_parse_body(kind, first & 0x1F, body))
        at = end
    if not packets:
        raise MalformedPacket("empty RTCP datagram")
    return Compound(tuple(packets), padding)


def _frame(kind: int, count: int, body: bytes) -> bytes:
    if count > MOST_COUNT:
        raise ValueError(f"{count} entries in one RTCP packet; 31 is the most")
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _cut_padding(body: bytes) -> tuple[bytes, bytes]:
    size = body[-1] if body else 0
    if not size or size % 4 or size > len(body):
        raise MalformedPacket("RTCP padding does not fit")
    return body[:-size], body[-size:]


def _parse_body(kind: int, count: int, body: bytes) -> RtcpPacket:
    if kind == SR:
        return _parse_sender(count, body)
    if kind == RR:
        _need(body, 4 + _BLOCK.size * count, "receiver report")
        return ReceiverReport(_WORD.unpack_from(body)[0], _blocks(body, 4, count), body[4 + _BLOCK.size * count :])
    if kind == SDES:
        return _parse_sdes(count, body)
    if kind == BYE:
        return _parse_bye(count, body)
    _need(body, 8 if kind in (RTPFB, PSFB, APP) else 0, "feedback or APP packet")
    return OtherRtcp(kind, count, body)


def _need(body: bytes, n_bytes: int, what: str) -> None:
    if len(body) < n_bytes:
        raise MalformedPacket(f"{what} is cut off")


def _blocks(body: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    return tuple(ReportBlock._parse(body, at + n * _BLOCK.size) for n in range(count))


def _parse_sender(count: int, body: bytes) -> SenderReport:
    start = 4 + _SENDER.size
    end = start + _BLOCK.size * count
    _need(body, end, "sender report")
    ntp_time, rtp_timestamp, packets, octets = _SENDER.unpack_from(body, 4)
    ssrc = _WORD.unpack_from(body)[0]
    return SenderReport(ssrc, ntp_time, rtp_timestamp, packets, octets, _blocks(body, start, count), body[end:])


def _parse_sdes(count: int, body: bytes) -> SourceDescription:
    chunks = []
    at = 0
    for _ in range(count):
        _need(body, at + 8, "SDES chunk")
        ssrc = _WORD.unpack_from(body, at)[0]
        items, at = _sdes_items(body, at + 4)
        chunks.append(SdesChunk(ssrc, items))
    return SourceDescription(tuple(chunks))


def _sdes_items(body: bytes, at: int) -> tuple[tuple[tuple[int, bytes], ...], int]:
    """The items of one chunk, and where the next chunk begins."""
    items: list[tuple[int, bytes]] = []
    while True:
        _need(body, at + 1, "SDES item")
        kind = body[at]
        if kind == 0:
            return tuple(items), at + 4 - at % 4
        _need(body, at + 2, "SDES item")
        end = at + 2 + body[at + 1]
        _need(body, end, "SDES item")
        items.append((kind, body[at + 2 : end]))
        at = end


def _parse_bye(count: int, body: bytes) -> Goodbye:
    _need(body, 4 * count, "BYE")
    sources = tuple(_WORD.unpack_from(body, 4 * n)[0] for n in range(count))
    rest = body[4 * count :]
    if not rest:
        return Goodbye(sources)
    _need(rest, 1 + rest[0], "reason of a BYE")
    return Goodbye(sources, rest[1 : 1 + rest[0]])


def cname(ssrc: int, name: str) -> SourceDescription:
    """The SDES that every compound must carry (section 6.1). `name` must say nothing about people; cut at 255 bytes."""
    return SourceDescription((SdesChunk(ssrc, ((CNAME, name.encode()[:255]),)),))


def report_datagram(report: SenderReport | ReceiverReport, name: str, *, further: Sequence[RtcpPacket] = ()) -> bytes:
    """A complete compound: the report, the CNAME of its sender, what follows (such as a Goodbye)."""
    return Compound((report, cname(report.ssrc, name), *further)).build()
