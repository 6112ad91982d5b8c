"""A sender that goes on elsewhere in its sequence numbers, with no new SSRC (RFC 3550 A.1)."""

from __future__ import annotations

import pytest

from bridge.rtp.frames import Frame, Kind, PayloadType
from bridge.rtp.lanes import Lanes
from bridge.rtp.packet import RtpPacket
from bridge.rtp.receiver import Receiver
from rtpcodecs import CODECS

SSRC = 7


def make_leg() -> tuple[Lanes, Receiver]:
    lanes = Lanes(1)
    receiver = Receiver(lanes, 0, jitter=0.06, jitter_max=0.2)
    receiver.configure({0: PayloadType(CODECS["PCMU"])}, events={}, comfort=frozenset())
    return lanes, receiver


def packet(n: int, *, seq_leap: int = 0, timestamp_leap: int = 0) -> RtpPacket:
    """The stream's packet `n`, which says so; 20 ms."""
    seq, timestamp = (n + seq_leap) & 0xFFFF, (n * 160 + timestamp_leap) & 0xFFFFFFFF
    return RtpPacket(0, seq, timestamp, SSRC, bytes([n]) * 160)


@pytest.mark.parametrize("seq_leap", [5000, 40_000, -2000])
@pytest.mark.parametrize("timestamp_leap", [0, 123_456_789])
def test_a_sender_that_leaps_loses_not_even_its_first_packet(seq_leap: int, timestamp_leap: int) -> None:
    lanes, receiver = make_leg()
    frames: list[Frame] = []
    for n in range(100):
        leapt = n >= 50
        frames += receiver.push(
            packet(n, seq_leap=leapt * seq_leap, timestamp_leap=leapt * timestamp_leap), 1.0 + n * 0.02
        )
    audio = [frame for frame in frames if frame.kind is Kind.AUDIO]
    assert [frame.payload[0] for frame in audio] == list(range(100))
    assert [frame.position / 8000 + frame.shift for frame in audio] == pytest.approx([n * 0.02 for n in range(100)])
    assert len(frames) == len(audio)
    assert (receiver.counts.lost, receiver.counts.malformed, receiver.counts.restarts) == (0, 0, 1)
    assert lanes.received[0] - lanes.received_before[0] == 50  # of the stream that began at `first_sequence`
    assert lanes.first_sequence[0] == (50 + seq_leap) & 0xFFFF


def test_a_packet_from_elsewhere_that_nothing_follows_is_dropped() -> None:
    lanes, receiver = make_leg()
    frames: list[Frame] = []
    for n in range(100):
        frames += receiver.push(packet(n), 1.0 + n * 0.02)
        if n in (30, 60):
            frames += receiver.push(packet(200, seq_leap=9000 + n), 1.01 + n * 0.02)
    assert [frame.payload[0] for frame in frames] == list(range(100))
    assert (receiver.counts.malformed, receiver.counts.restarts) == (2, 0)
    assert int(lanes.position[0]) == 100 * 160


def test_a_stray_packet_of_long_ago_does_not_turn_the_clock_back() -> None:
    lanes, receiver = make_leg()
    receiver.push(packet(0), 1.0)
    receiver.push(packet(200, seq_leap=9000), 1.01)
    lanes.position[0] += 199 * 160  # the batch path went on meanwhile
    receiver.push(packet(201, seq_leap=9000, timestamp_leap=77), 5.0)
    frames = receiver.push(packet(202, seq_leap=9000, timestamp_leap=77), 5.02)
    assert float(lanes.origin[0]) + frames[0].position / 8000 + frames[0].shift == pytest.approx(5.0)
