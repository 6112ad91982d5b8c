"""RTCP: what peers are told about their stream, where it goes, and under which key."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from itertools import pairwise

import pytest

from bridge.net.datagrams import MediaPort, MediaSockets
from bridge.net.rtcp_reports import RtcpReports
from bridge.net.rtp_silence import SentFormat
from bridge.rtp.lanes import Lanes
from bridge.rtp.packet import parse_rtp
from bridge.rtp.rtcp import Compound, Goodbye, ReceiverReport, SenderReport, SourceDescription, parse_rtcp
from bridge.rtp.srtp import SrtpKeys, SrtpReceiver, fresh_keys
from rtpcodecs import CODECS


class House:
    """One leg's reporter, its lane, and a peer's socket."""

    def __init__(self) -> None:
        self.lanes = Lanes(2)
        self.reports = RtcpReports(self.lanes, cname="callbridge", random=lambda: 0.5)
        self.sockets = MediaSockets(bind="127.0.0.1", first=45700, last=45739, capacity=4)
        self.port: MediaPort = self.sockets.open_pair()
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.settimeout(2)
        self.reports.open(1, self.port, 100.0)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.peer.getsockname()
        return host, port

    def hear_packets(self) -> None:
        """Sequence numbers 65530 to 3 of SSRC 77, one of the ten lost."""
        lanes = self.lanes
        lanes.ssrc[1], lanes.received[1], lanes.cycles[1] = 77, 9, 1
        lanes.first_sequence[1], lanes.first_word[1], lanes.jitter[1] = 65530, 4, 0.002

    def receive(self) -> tuple[bytes, tuple[str, int]]:
        data, source = self.peer.recvfrom(2000)
        return data, source


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.sockets.close()
    house.peer.close()


def report_of(compound: Compound) -> ReceiverReport:
    first = compound.packets[0]
    assert isinstance(first, ReceiverReport)
    return first


def test_jitter_is_told_in_units_of_the_codecs_clock(house: House) -> None:
    house.reports.media_changed(1, house.address, is_muxed=False, own_keys=None, clock_hz=48000)
    house.hear_packets()
    house.reports.run(102.6)
    assert report_of(parse_rtcp(house.receive()[0])).reports[0].jitter == 96


def test_a_report_says_what_was_lost_across_the_wrap_and_answers_the_sender_report(house: House) -> None:
    house.reports.media_changed(1, house.address, is_muxed=False, own_keys=None)
    house.hear_packets()
    sender = SenderReport(77, 0x1111_2222_3333_4444, 0, 1, 1)
    house.reports.receive(1, Compound((sender,)).build(), house.address, 101.0)
    house.reports.run(102.6)
    data, source = house.receive()
    compound = parse_rtcp(data)
    block = report_of(compound).reports[0]
    assert (block.ssrc, block.packets_lost, block.highest_sequence) == (77, 1, 0x1_0003)
    assert (block.fraction_lost, block.jitter, block.lsr) == (256 // 10, 16, 0x2222_3333)
    assert block.dlsr / 65536 == pytest.approx(1.6, abs=0.001)
    assert isinstance(compound.packets[1], SourceDescription)
    assert source[1] == house.port.port + 1


def test_a_new_stream_of_the_leg_is_reported_by_its_own_numbers(house: House) -> None:
    house.reports.media_changed(1, house.address, is_muxed=False, own_keys=None)
    lanes = house.lanes
    lanes.ssrc[1], lanes.received[1], lanes.received_before[1] = 78, 1008, 1000
    lanes.first_sequence[1], lanes.first_word[1] = 100, 110  # ten expected, eight received
    house.reports.run(102.6)
    block = report_of(parse_rtcp(house.receive()[0])).reports[0]
    assert (block.ssrc, block.packets_lost) == (78, 2)


def test_reports_come_every_five_seconds_and_the_last_one_says_goodbye(house: House) -> None:
    house.reports.media_changed(1, house.address, is_muxed=True, own_keys=None)
    sent = []
    for tenth in range(200):
        house.reports.run(100.0 + tenth / 10)
    house.reports.close(1, 120.0)
    house.peer.settimeout(0.2)
    while True:
        try:
            data, source = house.receive()
        except TimeoutError:
            break
        sent.append(parse_rtcp(data))
        assert source[1] == house.port.port, "with rtcp-mux from the RTP port"
    assert len(sent) == 5
    assert [isinstance(each.packets[-1], Goodbye) for each in sent] == [False] * 4 + [True]


def test_a_secure_leg_reports_under_the_key_of_our_answer(house: House) -> None:
    keys = fresh_keys("AES_CM_128_HMAC_SHA1_80", lambda n: bytes(range(n)))
    house.reports.media_changed(1, house.address, is_muxed=False, own_keys=keys)
    house.hear_packets()
    house.reports.run(103.0)
    data, _ = house.receive()
    assert report_of(parse_rtcp(SrtpReceiver(keys).unprotect_rtcp(data, 0.0))).reports[0].ssrc == 77


def test_a_host_name_is_not_looked_up_and_junk_is_counted(house: House) -> None:
    house.reports.media_changed(1, ("media.example.invalid", 4000), is_muxed=False, own_keys=None)
    house.reports.run(103.0)
    house.reports.receive(1, b"\x80\xc8junk", house.address, 103.1)
    assert house.reports.malformed == 1
    house.reports.receive(1, Compound((Goodbye((77,)),)).build(), house.address, 103.2)
    assert house.reports.goodbyes == 1
    house.reports.run(110.0)
    assert report_of(parse_rtcp(house.receive()[0])).reports == ()


@pytest.mark.parametrize("target", [("127.0.0.1", 65536), ("::1", 4000), ("255.255.255.255", 4000)])
def test_a_target_that_cannot_be_sent_to_leaves_the_other_legs_alone(house: House, target: tuple[str, int]) -> None:
    house.hear_packets()
    other = house.sockets.open_pair()
    house.reports.open(0, other, 99.0)
    house.reports.media_changed(0, target, is_muxed=False, own_keys=None)
    house.reports.media_changed(1, house.address, is_muxed=False, own_keys=None)
    house.reports.run(110.0)
    data, _ = house.receive()
    assert report_of(parse_rtcp(data)).reports[0].ssrc == 77
    house.reports.close(0, 111.0)


def test_a_report_that_falls_just_behind_the_wrap_invents_no_cycle(house: House) -> None:
    lanes = house.lanes
    lanes.ssrc[1], lanes.received[1], lanes.cycles[1] = 77, 6, 1  # 65530 to 65535 came: 0 of the next cycle is expected
    lanes.first_sequence[1], lanes.first_word[1] = 65530, 0
    house.reports.media_changed(1, house.address, is_muxed=False, own_keys=None)
    house.reports.run(110.0)
    block = report_of(parse_rtcp(house.receive()[0])).reports[0]
    assert (block.highest_sequence, block.packets_lost) == (65535, 0)


def sending(keys: SrtpKeys | None, codec: str = "PCMU") -> Iterator[House]:
    house = House()
    house.reports = RtcpReports(house.lanes, cname="x", random=lambda: 0.5, source_of=lambda row: house.address)
    house.reports.open(1, house.port, 100.0)
    house.reports.media_changed(1, None, is_muxed=False, own_keys=keys)
    house.reports.sends(1, SentFormat(0 if codec == "PCMU" else 96, CODECS[codec]))
    yield house
    house.sockets.close()
    house.peer.close()


@pytest.mark.parametrize("is_secure", [False, True])
def test_a_leg_that_said_it_sends_sends_silence_every_few_seconds_to_where_its_rtp_comes_from(is_secure: bool) -> None:
    keys = fresh_keys("AES_CM_128_HMAC_SHA1_80", lambda n: bytes(range(n))) if is_secure else None
    opens = SrtpReceiver(keys) if keys else None
    for house in sending(keys):
        packets = []
        for now in range(100, 131):
            house.reports.run(float(now))
        house.peer.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            while data := house.receive():
                assert data[1] == ("127.0.0.1", house.port.port), "from the port that we advertised"
                packets.append(parse_rtp(opens.unprotect(data[0], 0.0) if opens else data[0]))
        assert 5 <= len(packets) <= 8
        assert {packet.payload for packet in packets} == {b"\xff" * 160}
        assert {packet.payload_type for packet in packets} == {0}
        first = packets[0]
        assert [p.sequence for p in packets] == list(range(first.sequence, first.sequence + len(packets)))
        steps = {b.timestamp - a.timestamp for a, b in pairwise(packets)}
        assert all(2 * 8000 <= step <= 8 * 8000 for step in steps)


def test_who_sends_reports_as_a_sender() -> None:
    for house in sending(None):
        house.reports.media_changed(1, house.address, is_muxed=False, own_keys=None)
        house.reports.run(103.0)
        datagrams = [house.receive()[0], house.receive()[0]]
        packet = parse_rtp(datagrams[0])
        report = parse_rtcp(datagrams[1]).packets[0]
        assert isinstance(report, SenderReport)
        assert (report.ssrc, report.packet_count, report.octet_count) == (packet.ssrc, 1, 160)


def test_a_leg_on_hold_sends_nothing_and_goes_on_with_the_next_number() -> None:
    for house in sending(None, "G722"):
        house.reports.run(103.0)
        before = parse_rtp(house.receive()[0])
        house.reports.sends(1, None)
        house.reports.run(120.0)
        house.reports.sends(1, SentFormat(0, CODECS["PCMU"]))
        house.reports.run(130.0)
        after = parse_rtp(house.receive()[0])
        assert (before.payload_type, after.payload_type) == (96, 0)
        assert (after.sequence, after.ssrc) == (before.sequence + 1, before.ssrc)
