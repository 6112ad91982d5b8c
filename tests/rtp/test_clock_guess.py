"""Senders of G.722 count 160 or 320 for 20 ms, whatever they say (RFC 3551 section 4.5.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.frames import Frame, Kind, PayloadType
from bridge.rtp.lanes import Lanes
from bridge.rtp.packet import RtpPacket
from bridge.rtp.receiver import Receiver
from rtpcodecs import CODECS, find

STATED = {hz: PayloadType(codec) for hz in (8000, 16000) if (codec := find("G722", hz))}
CLOCKS = [(8000, 8000), (8000, 16000), (16000, 8000), (16000, 16000)]
EACH = pytest.mark.parametrize(("stated", "counted"), CLOCKS)


class Leg:
    """A receiver, and what it said of each stretch of audio: kind, when captured, for how long."""

    def __init__(self, stated: int) -> None:
        self.lanes = Lanes(1)
        self.receiver = Receiver(self.lanes, 0, jitter=0.06, jitter_max=0.2)
        self.receiver.configure({9: STATED[stated]}, events={}, comfort=frozenset())
        self.frames: list[Frame] = []
        self.told: list[tuple[Kind, float, float]] = []

    def push(self, seq: int, timestamp: int, arrival: float, *, payload: bytes = bytes(160), ssrc: int = 5) -> None:
        packet = RtpPacket(9, seq & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc, payload)
        self.take(self.receiver.push(packet, arrival))

    def take(self, frames: list[Frame]) -> None:
        self.frames += frames
        origin = float(self.lanes.origin[0])
        self.told += [(f.kind, origin + f.position / 8000 + f.shift, f.length / 8000) for f in frames]


@EACH
@pytest.mark.parametrize("ptime", [0.01, 0.02, 0.03, 0.06])
def test_every_packet_has_its_time_whatever_the_sender_counts(stated: int, counted: int, ptime: float) -> None:
    leg = Leg(stated)
    for n in range(300):
        leg.push(65_400 + n, 0xFFFF_0000 + round(n * ptime * counted), 7.0 + (n + 1) * ptime,
                 payload=bytes(round(8000 * ptime)))  # fmt: skip
    assert len(leg.frames) == 300
    for n, (kind, at, length) in enumerate(leg.told):
        assert kind is Kind.AUDIO
        assert (at, length) == (pytest.approx(7.0 + n * ptime, abs=1e-5), pytest.approx(ptime))


@EACH
def test_pauses_and_losses_are_what_they_were(stated: int, counted: int) -> None:
    """A pause of one packet in which nothing was sent is not taken for the other clock."""
    leg, seq, at, expected = Leg(stated), 100, 3.0, []
    lost: list[float] = []
    for n in range(400):
        if n > 20 and n % 50 == 0:
            at += 0.02  # nothing was sent
        if n > 20 and n % 70 == 0:
            at += 2.0
        if n in (150, 151, 300):
            lost.append(at)
        else:
            leg.push(seq, round(at * counted), at + 0.02)
            expected.append(at)
        seq, at = seq + 1, at + 0.02
    leg.take(leg.receiver.flush())
    told = leg.told
    assert [at for kind, at, _ in told if kind is Kind.AUDIO] == pytest.approx(expected, abs=1e-4)
    assert sum(length for kind, _, length in told if kind is Kind.LOST) == pytest.approx(0.02 * len(lost))
    assert leg.receiver.counts.lost == 3


@pytest.mark.parametrize(("before", "after"), [(8000, 16000), (16000, 8000)])
def test_a_sender_whose_clock_changes_is_late_by_no_more_than_a_few_packets(before: int, after: int) -> None:
    """Another device behind the same SSRC: a media relay's, after a transfer."""
    leg, timestamp = Leg(8000), 0
    for n in range(200):
        leg.push(n, timestamp, 1.0 + (n + 1) * 0.02)
        timestamp += (before if n < 99 else after) // 50
    for n, (_, at, _) in enumerate(leg.told):
        assert at == pytest.approx(1.0 + n * 0.02, abs=0.07 if 98 < n < 104 else 1e-4)


@EACH
def test_another_source_is_learnt_anew_and_keeps_the_time(stated: int, counted: int) -> None:
    leg = Leg(stated)
    for n in range(100):
        leg.push(n, n * counted // 50, 1.0 + (n + 1) * 0.02)
    for n in range(100, 200):
        leg.push(n + 3000, n * (24_000 - counted) // 50 + 99, 1.0 + (n + 1) * 0.02, ssrc=6)
    for n, (_, at, _) in enumerate(leg.told):
        assert at == pytest.approx(1.0 + n * 0.02, abs=0.07 if 100 <= n < 105 else 1e-4)


def test_g711_is_counted_by_its_clock_alone() -> None:
    assert all(codec.other_clock_hz is None for name, codec in CODECS.items() if name != "G722")


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 500)), max_size=40))
def test_no_packets_make_it_raise_or_turn_back(packets: list[tuple[int, int, int]]) -> None:
    leg = Leg(8000)
    for n, (seq, timestamp, size) in enumerate(packets):
        leg.push(seq, timestamp, n * 0.02, payload=bytes(size))
    positions = [frame.position for frame in leg.frames]
    assert positions == sorted(positions)
