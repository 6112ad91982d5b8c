from __future__ import annotations

import time
from pathlib import Path

import aiortc.rtp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedPacket
from bridge.rtp.rtcp import (
    Compound,
    Goodbye,
    OtherRtcp,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SdesChunk,
    SenderReport,
    SourceDescription,
    cname,
    parse_rtcp,
    report_datagram,
)
from bridge.rtp.rtcp_timing import (
    LastSenderReport,
    Reception,
    ntp_time,
    report_block,
    report_interval,
    round_trip,
)

BINS = Path(__file__).parents[3] / "shared/assets/aiortc-rtp-bins/tests"
GOOD = sorted(path for path in BINS.glob("rtcp*.bin") if "invalid" not in path.name and "truncated" not in path.name)
BAD = sorted(path for path in BINS.glob("rtcp*.bin") if path not in GOOD)
UINT32 = st.integers(0, 0xFFFF_FFFF)
WORDS = st.binary(max_size=40).map(lambda data: data[: len(data) // 4 * 4])
BLOCK = ReportBlock(0x11223344, 64, -5, highest_sequence=0x0001_0005, jitter=80, lsr=0x12345678, dlsr=65536)

blocks = st.lists(
    st.builds(
        ReportBlock,
        ssrc=UINT32,
        fraction_lost=st.integers(0, 255),
        packets_lost=st.integers(-0x80_0000, 0x7F_FFFF),
        highest_sequence=UINT32,
        jitter=UINT32,
        lsr=UINT32,
        dlsr=UINT32,
    ),
    max_size=31,
).map(tuple)
sender_reports = st.builds(
    SenderReport,
    ssrc=UINT32,
    ntp_time=st.integers(0, (1 << 64) - 1),
    rtp_timestamp=UINT32,
    packet_count=UINT32,
    octet_count=UINT32,
    reports=blocks,
    extra=WORDS,
)
receiver_reports = st.builds(ReceiverReport, ssrc=UINT32, reports=blocks, extra=WORDS)
descriptions = st.lists(
    st.builds(
        SdesChunk,
        ssrc=UINT32,
        items=st.lists(st.tuples(st.integers(1, 255), st.binary(max_size=255)), max_size=4).map(tuple),
    ),
    max_size=31,
).map(lambda chunks: SourceDescription(tuple(chunks)))
goodbyes = st.builds(
    Goodbye, sources=st.lists(UINT32, max_size=31).map(tuple), reason=st.none() | st.binary(max_size=255)
)
others = st.builds(
    OtherRtcp,
    packet_type=st.sampled_from([192, 195, 204, 205, 206, 207, 223]),
    count=st.integers(0, 31),
    body=WORDS.map(lambda body: bytes(8) + body),
)
anything = sender_reports | receiver_reports | descriptions | goodbyes | others
compounds = st.builds(
    Compound,
    packets=st.lists(anything, min_size=1, max_size=4).map(tuple),
    padding=st.just(b"") | st.integers(1, 60).map(lambda n: bytes(4 * n - 1) + bytes((4 * n,))),
)


def need_bins() -> None:
    if not GOOD:
        pytest.skip("../shared/assets/aiortc-rtp-bins is absent")


# -- the wire ---------------------------------------------------------------------------------------------------------


def test_recorded_datagrams_survive_a_round_trip_byte_for_byte() -> None:
    need_bins()
    assert len(GOOD) == 8
    for path in GOOD:
        data = path.read_bytes()
        assert parse_rtcp(data).build() == data, path.name


def test_recorded_datagrams_are_read_as_aiortc_reads_them() -> None:
    need_bins()
    (sr,) = parse_rtcp((BINS / "rtcp_sr.bin").read_bytes()).packets
    theirs = aiortc.rtp.RtcpPacket.parse((BINS / "rtcp_sr.bin").read_bytes())[0]
    assert isinstance(sr, SenderReport)
    assert (sr.ntp_time, sr.rtp_timestamp) == (theirs.sender_info.ntp_timestamp, theirs.sender_info.rtp_timestamp)
    assert sr.reports[0].highest_sequence == theirs.reports[0].highest_sequence
    assert sr.reports[0].jitter == theirs.reports[0].jitter

    (sdes,) = parse_rtcp((BINS / "rtcp_sdes.bin").read_bytes()).packets
    assert isinstance(sdes, SourceDescription)
    assert sdes.chunks[0].items == ((1, b"{63f459ea-41fe-4474-9d33-9707c9ee79d1}"),)


def test_recorded_malformed_datagrams_are_refused() -> None:
    need_bins()
    assert len(BAD) == 7
    for path in BAD:
        with pytest.raises(MalformedPacket):
            parse_rtcp(path.read_bytes())


@settings(max_examples=150)
@given(compounds)
def test_any_compound_survives_its_round_trip(compound: Compound) -> None:
    assert parse_rtcp(compound.build()) == compound


@settings(max_examples=500)
@given(st.binary(max_size=120) | compounds.map(lambda c: c.build()[:-3]))
def test_anything_is_rtcp_or_malformed(data: bytes) -> None:
    began = time.perf_counter()
    try:
        assert parse_rtcp(data).packets
    except MalformedPacket:
        pass
    assert time.perf_counter() - began < 0.2  # 10 ms is the aim; a loaded machine must not fail it


@settings(max_examples=300)
@given(compounds, st.integers(0, 2000), st.integers(0, 7))
def test_a_flipped_bit_never_gets_past_as_another_error(compound: Compound, at: int, bit: int) -> None:
    data = bytearray(compound.build())
    data[at % len(data)] ^= 1 << bit
    try:
        parsed = parse_rtcp(bytes(data))
    except MalformedPacket:
        return
    assert parsed.packets


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("", "empty"),
        ("80c9", "header"),
        ("00c9000000000000", "version 0"),
        ("80c9000200000000", "longer than the datagram"),
        ("80c90000", "receiver report is cut off"),
        ("81c9000100000000", "receiver report is cut off"),
        ("80c8000100000000", "sender report is cut off"),
        ("a0c900010000000080c9000100000000", "padding"),
        ("a0cb00010000000480cb0000", "before the last"),
        ("81ca00020000000001040000", "SDES item"),
        ("81cb00020000000109000000", "reason"),
        ("80cc000100000000", "APP"),
    ],
)
def test_a_malformed_datagram_is_refused_by_name(data: str, reason: str) -> None:
    with pytest.raises(MalformedPacket, match=reason):
        parse_rtcp(bytes.fromhex(data))


def test_app_xr_and_feedback_are_tolerated_beside_a_report() -> None:
    strange: list[RtcpPacket] = [OtherRtcp(kind, 1, b"abcdefgh") for kind in (204, 205, 206, 207)]
    data = report_datagram(ReceiverReport(1), "x", further=strange)

    assert list(parse_rtcp(data).packets[2:]) == strange


def test_more_than_31_entries_are_our_mistake() -> None:
    with pytest.raises(ValueError, match="31"):
        ReceiverReport(1, (BLOCK,) * 32).build()


def test_a_report_goes_out_with_the_cname_and_is_read_by_aiortc() -> None:
    data = report_datagram(ReceiverReport(7, (BLOCK,)), "bridge", further=[Goodbye((7,))])

    report, sdes, bye = aiortc.rtp.RtcpPacket.parse(data)
    assert (report.ssrc, report.reports[0].ssrc, report.reports[0].packets_lost) == (7, BLOCK.ssrc, -5)
    assert (report.reports[0].fraction_lost, report.reports[0].dlsr) == (64, 65536)
    assert sdes.chunks[0].items == [(1, b"bridge")]
    assert bye.sources == [7]


def test_a_long_cname_is_cut() -> None:
    assert parse_rtcp(cname(1, "n" * 300).build()).packets == (SourceDescription((SdesChunk(1, ((1, b"n" * 255),)),)),)


# -- numbers and time -------------------------------------------------------------------------------------------------


NOTHING = Reception()


def block(received: Reception, before: Reception = NOTHING, **changes: object) -> ReportBlock:
    arguments: dict[str, object] = {"highest_sequence": 0, "jitter": 0.0, "last_report": None, "now": 0.0}
    return report_block(9, received, before=before, **(arguments | changes))  # type: ignore[arg-type]


def test_loss_is_counted_as_appendix_a3_counts_it() -> None:
    first = Reception(expected=100, received=90)
    second = Reception(expected=200, received=165)

    assert (block(first).fraction_lost, block(first).packets_lost) == (10 * 256 // 100, 10)
    later = block(second, first)
    assert (later.fraction_lost, later.packets_lost) == (25 * 256 // 100, 35)


def test_duplicates_make_the_total_negative_and_the_fraction_zero() -> None:
    reported = block(Reception(expected=10, received=14))

    assert (reported.fraction_lost, reported.packets_lost) == (0, -4)


def test_no_packet_since_the_last_report_is_no_loss() -> None:
    same = Reception(expected=50, received=40)

    assert block(same, same).fraction_lost == 0


def test_total_loss_and_endless_loss_stay_in_their_fields() -> None:
    reported = block(Reception(expected=1 << 40, received=0))

    assert reported.fraction_lost == 255
    assert reported.packets_lost == 0x7F_FFFF
    assert block(Reception(expected=0, received=1 << 40)).packets_lost == -0x80_0000


@given(
    st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 50),
    st.integers(-5, 1 << 60), st.floats(-1, 1e15), st.floats(-10, 1e9),
)  # fmt: skip
def test_any_counts_make_a_block_that_can_be_sent(
    expected: int, received: int, expected_before: int, received_before: int, highest: int, jitter: float, now: float
) -> None:
    made = block(
        Reception(expected, received),
        Reception(expected_before, received_before),
        highest_sequence=highest,
        jitter=jitter,
        last_report=LastSenderReport(1, 0.0),
        now=now,
    )

    assert parse_rtcp(ReceiverReport(1, (made,)).build()).packets == (ReceiverReport(1, (made,)),)


def test_a_sender_report_is_answered_with_its_middle_and_the_delay() -> None:
    report = SenderReport(5, ntp_time=0x0102030405060708, rtp_timestamp=0, packet_count=0, octet_count=0)

    answered = block(Reception(), last_report=LastSenderReport.of(report, 100.0), now=101.5)

    assert (answered.lsr, answered.dlsr) == (0x03040506, 98304)
    assert (block(Reception()).lsr, block(Reception()).dlsr) == (0, 0)


def test_the_round_trip_of_rfc_3550_figure_2() -> None:
    answered = ReportBlock(1, 0, 0, 0, 0, lsr=0xB705_2000, dlsr=0x0005_4000)  # 46853.125 s, 5.250 s

    assert round_trip(answered, 0xB44D_B710_8000_0000 | 0) == pytest.approx(6.125)
    assert round_trip(ReportBlock(1, 0, 0, 0, 0, lsr=0, dlsr=0), 1 << 60) is None
    assert round_trip(answered, (0xB705_2000 + 0x0005_3FFF) << 16) == 0.0


def test_ntp_time_counts_from_1900() -> None:
    assert ntp_time(0) == 2_208_988_800 << 32
    assert ntp_time(1500) == (2_208_988_801 << 32) | (1 << 31)
    assert ntp_time(4_000_000_000_000) < 1 << 64  # after the era of 2036


def test_reports_come_every_5_s_on_average_and_the_first_after_half() -> None:
    spread = [report_interval(n / 100) for n in range(101)]

    assert (spread[0], spread[-1]) == (2.5, 7.5)
    assert sum(spread) / len(spread) == pytest.approx(5.0)
    assert report_interval(0.5, is_first=True) == 2.5
