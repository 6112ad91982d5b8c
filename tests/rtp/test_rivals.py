"""Two streams on one port: only one of them is the leg's, and neither is shredded (RFC 3550 section 8.2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.frames import Frame, Kind, PayloadType
from bridge.rtp.lanes import Lanes
from bridge.rtp.packet import RtpPacket
from bridge.rtp.receiver import Receiver
from rtpcodecs import CODECS

A, B, C = 11, 22, 33


class Leg:
    """A receiver, and which stream each stretch of its audio is of."""

    def __init__(self) -> None:
        self.lanes = Lanes(1)
        self.receiver = Receiver(self.lanes, 0, jitter=0.06, jitter_max=0.2)
        self.receiver.configure({0: PayloadType(CODECS["PCMU"])}, events={}, comfort=frozenset())
        self.sent: dict[int, int] = {}
        self.heard: list[tuple[int, float]] = []
        self.heard_packets: list[bytes] = []

    def push(self, ssrc: int, at: float) -> None:
        """The stream's next packet, which says whose it is."""
        n = self.sent[ssrc] = self.sent.get(ssrc, -1) + 1
        packet = RtpPacket(0, n, n * 160 + ssrc, ssrc, bytes([ssrc, n % 256]) * 80)
        self.take(self.receiver.push(packet, at))

    def take(self, frames: list[Frame]) -> None:
        origin = float(self.lanes.origin[0])
        self.heard_packets += [f.payload[:2] for f in frames if f.kind is Kind.AUDIO]
        self.heard += [(f.payload[0], origin + f.position / 8000 + f.shift) for f in frames if f.kind is Kind.AUDIO]

    def whose(self) -> list[int]:
        """Streams in the order in which they were heard, each stretch once."""
        streams = [ssrc for ssrc, _ in self.heard]
        return [ssrc for n, ssrc in enumerate(streams) if n == 0 or streams[n - 1] != ssrc]


def test_a_second_stream_takes_over_and_the_first_does_not_shred_it() -> None:
    leg = Leg()
    for n in range(300):
        now = n * 0.02
        leg.push(A, now)
        if n >= 100:
            leg.push(B, now + 0.007)
    assert leg.whose() == [A, B]
    assert sum(ssrc == B for ssrc, _ in leg.heard) == 200
    assert leg.receiver.counts.restarts == 1
    assert leg.receiver.counts.unknown == pytest.approx(199, abs=1)
    assert int(leg.lanes.received[0]) == 301  # the second stream's, and the first's before it
    assert int(leg.lanes.position[0]) == 301 * 160


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_one_that_comes_back_when_the_other_has_ended_loses_nothing(pause: float) -> None:
    """Music on hold from the same gateway, and the voice again."""
    leg, now = Leg(), 5.0
    for ssrc, n_packets in ((A, 100), (B, 50), (A, 100), (B, 50), (A, 4)):
        for _ in range(n_packets):
            leg.push(ssrc, now)
            now += 0.02
        now += pause
    assert leg.whose() == [A, B, A, B] + [A] * (pause > 0)
    assert len(leg.heard) == 300 + 4 * (pause > 0)
    for n, (_, at) in enumerate(leg.heard):
        stretches = sum(n >= end for end in (100, 150, 250, 300))
        assert at == pytest.approx(5.0 - 0.02 + n * 0.02 + stretches * pause, abs=1e-6)


def test_stragglers_of_the_stream_before_do_not_bring_it_back() -> None:
    leg = Leg()
    for n in range(50):
        leg.push(A, n * 0.02)
    for n in range(50, 100):
        leg.push(B, n * 0.02)
        if n in (50, 51, 52):
            leg.push(A, n * 0.02 + 0.001)
    assert leg.whose() == [A, B]


def test_three_in_turn_end_with_the_last_that_came() -> None:
    leg = Leg()
    for n in range(100):
        for ssrc in (A, B, C):
            leg.push(ssrc, n * 0.02)
    assert leg.whose() == [A, B, C]
    assert sum(ssrc == C for ssrc, _ in leg.heard) == 100


def test_after_an_offer_every_stream_is_as_good_as_new() -> None:
    leg = Leg()
    leg.push(A, 0.0)
    leg.push(B, 0.02)
    leg.receiver.configure({0: PayloadType(CODECS["PCMU"])}, events={}, comfort=frozenset())
    leg.push(A, 0.04)
    assert leg.whose() == [A, B, A]


@given(st.lists(st.tuples(st.sampled_from((A, B, C)), st.floats(0, 0.5)), max_size=80))
def test_no_order_of_packets_makes_audio_twice_or_turns_it_back(order: list[tuple[int, float]]) -> None:
    leg, now = Leg(), 0.0
    for ssrc, gap in order:
        leg.push(ssrc, now)
        now += gap
    assert len(set(leg.heard_packets)) == len(leg.heard_packets)
    for ssrc in (A, B, C):
        of_one = [n for whose, n in leg.heard_packets if whose == ssrc]
        assert of_one == sorted(of_one)
