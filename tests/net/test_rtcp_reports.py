"""RTCP: what peers are told about their stream, where it goes, and under which key."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from bridge.net.datagrams import MediaPort, MediaSockets
from bridge.net.rtcp_reports import RtcpReports
from bridge.rtp.lanes import Lanes
from bridge.rtp.rtcp import Compound, Goodbye, ReceiverReport, SenderReport, SourceDescription, parse_rtcp
from bridge.rtp.srtp import SrtpReceiver, fresh_keys


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
