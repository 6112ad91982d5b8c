from __future__ import annotations

import time
from pathlib import Path

import aiortc.rtp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedPacket
from bridge.rtp.packet import DatagramKind, Extension, RtpPacket, classify, is_rtcp, parse_rtp

BINS = Path(__file__).parents[3] / "shared/assets/aiortc-rtp-bins/tests"
RTP_BINS = sorted(BINS.glob("rtp*.bin"))
HEADER = bytes.fromhex("8000112233445566778899aa")
UINT32 = st.integers(0, 0xFFFF_FFFF)

packets = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 0xFFFF),
    timestamp=UINT32,
    ssrc=UINT32,
    payload=st.binary(max_size=200),
    marker=st.booleans(),
    csrc=st.lists(UINT32, max_size=15).map(tuple),
    extension=st.none()
    | st.builds(
        Extension, profile=st.integers(0, 0xFFFF), data=st.binary(max_size=40).map(lambda d: d[: len(d) // 4 * 4])
    ),
    padding=st.just(b"") | st.binary(max_size=254).map(lambda d: d + bytes((len(d) + 1,))),
)


def need_bins() -> None:
    if not RTP_BINS:
        pytest.skip("../shared/assets/aiortc-rtp-bins is absent")


def test_recorded_packets_survive_a_round_trip_byte_for_byte() -> None:
    need_bins()
    for path in RTP_BINS:
        data = path.read_bytes()
        assert parse_rtp(data).build() == data, path.name


def test_recorded_packets_are_read_as_aiortc_reads_them() -> None:
    need_bins()
    for path in RTP_BINS:
        ours, theirs = parse_rtp(path.read_bytes()), aiortc.rtp.RtpPacket.parse(path.read_bytes())
        assert (ours.payload_type, ours.marker, ours.sequence) == (
            theirs.payload_type, bool(theirs.marker), theirs.sequence_number,
        )  # fmt: skip
        assert (ours.timestamp, ours.ssrc, list(ours.csrc)) == (theirs.timestamp, theirs.ssrc, theirs.csrc)
        assert ours.payload == theirs.payload, path.name


@given(packets)
def test_any_packet_survives_its_round_trip(packet: RtpPacket) -> None:
    assert parse_rtp(packet.build()) == packet


@given(packets.filter(lambda p: p.extension is None))
def test_aiortc_reads_what_we_write(packet: RtpPacket) -> None:
    theirs = aiortc.rtp.RtpPacket.parse(packet.build())

    assert (theirs.sequence_number, theirs.timestamp, theirs.ssrc) == (packet.sequence, packet.timestamp, packet.ssrc)
    assert (theirs.payload, theirs.csrc) == (packet.payload, list(packet.csrc))


@settings(max_examples=500)
@given(st.binary(max_size=120) | st.binary(max_size=80).map(lambda tail: HEADER + tail))
def test_anything_is_a_packet_or_malformed(data: bytes) -> None:
    began = time.perf_counter()
    try:
        assert parse_rtp(data).build() == data
    except MalformedPacket:
        pass
    assert time.perf_counter() - began < 0.2  # 10 ms is the aim; a loaded machine must not fail it


@settings(max_examples=300)
@given(packets, st.integers(0, 400), st.integers(0, 7))
def test_a_flipped_bit_never_gets_past_as_another_error(packet: RtpPacket, at: int, bit: int) -> None:
    data = bytearray(packet.build())
    data[at % len(data)] ^= 1 << bit
    try:
        parsed = parse_rtp(bytes(data))
    except MalformedPacket:
        return
    assert parsed.payload in bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter"),
        (HEADER[:11], "shorter"),
        (b"\x00" + HEADER[1:], "version 0"),
        (b"\xc0" + HEADER[1:], "version 3"),
        (b"\x82" + HEADER[1:] + bytes(7), "CSRC"),
        (b"\x90" + HEADER[1:] + bytes(3), "extension is cut off"),
        (b"\x90" + HEADER[1:] + bytes.fromhex("bede0002") + bytes(7), "extension is longer"),
        (b"\xa0" + HEADER[1:], "absent"),
        (b"\xa0" + HEADER[1:] + bytes(5), "no bytes"),
        (b"\xa0" + HEADER[1:] + b"abcd\x06", "longer than the payload"),
        (b"\xb0" + HEADER[1:] + bytes.fromhex("bede000100000001"), "absent"),
    ],
)
def test_a_malformed_packet_is_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        parse_rtp(data)


def test_a_packet_without_payload_is_one() -> None:
    assert parse_rtp(HEADER).payload == b""
    assert parse_rtp(b"\xa0" + HEADER[1:] + b"\x00\x02").payload == b""


def test_rtcp_is_told_from_rtp_by_its_second_byte() -> None:
    assert [kind for kind in range(256) if is_rtcp(bytes((0x80, kind)))] == list(range(192, 224))
    assert not is_rtcp(b"\x80")
    assert not is_rtcp(b"")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", DatagramKind.OTHER),
        (b"\x00\x01", DatagramKind.STUN),
        (b"\x03", DatagramKind.STUN),
        (b"\x04", DatagramKind.OTHER),
        (b"\x14", DatagramKind.DTLS),
        (b"\x3f", DatagramKind.DTLS),
        (b"\x40", DatagramKind.OTHER),
        (b"\x80\x00", DatagramKind.RTP),
        (b"\x80\x80", DatagramKind.RTP),
        (b"\x80", DatagramKind.RTP),
        (b"\x80\xc8", DatagramKind.RTCP),
        (b"\xbf\xdf", DatagramKind.RTCP),
        (b"\xc0\xc8", DatagramKind.OTHER),
        (b"\x0d\x0a", DatagramKind.OTHER),
    ],
)
def test_a_datagram_is_classified_by_its_first_bytes(data: bytes, kind: DatagramKind) -> None:
    assert classify(data) is kind
