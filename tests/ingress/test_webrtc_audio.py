from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bridge.ingress.webrtc_audio import TrackAudio
from bridge.ingress.webrtc_connection import check_library
from bridge.rtp.lanes import Lanes
from bridge.rtp.packet import RtpPacket
from bridge.rtp.receiver import PayloadType
from rtpcodecs import CODECS

OPUS = CODECS["OPUS"]
UNITS = 960  # 20 ms at 48 kHz


def packet(sequence: int, timestamp: int, payload: bytes, payload_type: int = 111) -> RtpPacket:
    return RtpPacket(payload_type, sequence, timestamp, 7, payload)


class Ear:
    """What a track delivers, and the track."""

    def __init__(self) -> None:
        self.pieces: list[tuple[float, NDArray[np.int16]]] = []
        self.lanes = Lanes(3)
        self.track = TrackAudio(
            self.lanes, 1, deliver=lambda s, at: self.pieces.append((at, s)), jitter=0.06, jitter_max=0.2
        )
        self.track.configure({111: PayloadType(OPUS)})

    def tick(self, now: float) -> None:
        self.lanes.advance(now)
        self.track.tick(now)

    @property
    def seconds(self) -> float:
        return sum(len(samples) for _, samples in self.pieces) / 16000

    def is_seamless(self) -> bool:
        ends = [at + len(samples) / 16000 for at, samples in self.pieces]
        return all(abs(end - start) < 0.002 for end, (start, _) in zip(ends, self.pieces[1:], strict=False))


def tone(n_packets: int) -> list[bytes]:
    assert OPUS.make_encoder is not None
    encoder = OPUS.make_encoder()
    wave = 8000 * np.sin(2 * np.pi * 440 * np.arange(320 * n_packets) / 16000)
    return [encoder.encode(wave[320 * n : 320 * (n + 1)].astype(np.int16)) for n in range(n_packets)]


def packets(n: int) -> list[tuple[float, RtpPacket]]:
    """Arrival and packet, one each 20 ms, the first captured at 100 s and received 5 ms after it was complete."""
    return [
        (100.025 + 0.02 * k, packet((65500 + k) & 0xFFFF, (2**32 - 9600 + UNITS * k) % 2**32, payload))
        for k, payload in enumerate(tone(n))
    ]


def play(ear: Ear, arriving: list[tuple[float, RtpPacket]]) -> None:
    clock = arriving[0][0]
    for at, each in arriving:
        while clock < at:
            ear.tick(clock)
            clock += 0.02
        ear.track.push(each, at)
    for _ in range(20):
        ear.tick(clock)
        clock += 0.02


def test_a_clean_track_comes_out_whole_seamless_and_in_capture_time() -> None:
    ear = Ear()
    play(ear, packets(100))
    assert ear.seconds == pytest.approx(2.0)
    assert ear.is_seamless()
    assert ear.pieces[0][0] == pytest.approx(100.005, abs=0.001)
    assert np.abs(ear.pieces[50][1]).max() > 4000


@pytest.mark.parametrize("share", [0.02, 0.10])
def test_a_lost_packet_costs_its_own_20_ms_and_no_delay(share: float) -> None:
    chance = np.random.default_rng(4)
    arriving = [entry for entry in packets(1000) if chance.random() >= share]
    ear = Ear()
    play(ear, arriving)
    lost = 1000 - len(arriving)
    assert 0.5 * share * 1000 < lost < 2 * share * 1000
    assert ear.track.packets()["lost"] in (lost, lost - 1)  # one at the very end cannot be missed
    assert ear.seconds == pytest.approx(20.0, abs=0.021), "what was lost is concealed, not cut"
    assert ear.is_seamless()
    assert ear.pieces[-1][0] + 0.02 == pytest.approx(120.005, abs=0.025), "the end is where it was: no lag built up"


def test_reordered_packets_are_put_in_order_and_not_concealed() -> None:
    arriving = packets(50)
    (_, held_up), (at, after) = arriving[20], arriving[21]
    arriving[20:22] = [(at, after), (at + 0.004, held_up)]
    ear = Ear()
    play(ear, arriving)
    assert ear.track.packets() == {"received": 50, "lost": 0, "late": 0, "duplicate": 0, "malformed": 0}
    assert ear.is_seamless()


def test_silence_that_was_not_sent_is_a_gap_and_is_not_filled() -> None:
    arriving = packets(100)
    before, after = arriving[:50], arriving[50:]
    after = [(at + 3.0, packet(p.sequence, (p.timestamp + 3 * 48000) % 2**32, p.payload)) for at, p in after]
    ear = Ear()
    play(ear, before + after)
    assert ear.seconds == pytest.approx(2.0)
    assert ear.pieces[50][0] - ear.pieces[49][0] == pytest.approx(3.02, abs=0.002)


def test_a_payload_that_is_no_opus_is_counted_and_concealed() -> None:
    arriving = packets(50)
    arriving[25] = (arriving[25][0], packet(arriving[25][1].sequence, arriving[25][1].timestamp, b"\xff"))
    ear = Ear()
    play(ear, arriving)
    assert ear.track.packets()["malformed"] == 1
    assert ear.pieces[-1][0] == pytest.approx(100.005 + 49 * 0.02, abs=0.002)


def test_what_was_held_behind_a_hole_comes_out_at_the_end() -> None:
    arriving = packets(10)
    ear = Ear()
    for at, each in [*arriving[:8], arriving[9]]:
        ear.track.push(each, at)
    assert ear.seconds == pytest.approx(0.16)
    ear.track.flush()
    assert ear.seconds == pytest.approx(0.20)


numbers = st.integers(0, 0xFFFF)
wild = st.builds(packet, numbers, st.integers(0, 2**32 - 1), st.binary(max_size=40), st.sampled_from([111, 13, 0]))


@given(st.lists(st.tuples(st.floats(0, 1), wild), max_size=30))
def test_no_packets_whatsoever_raise_or_turn_time_back(entries: list[tuple[float, RtpPacket]]) -> None:
    ear = Ear()
    now = 50.0
    for step, each in entries:
        now += step
        ear.track.push(each, now)
        ear.tick(now)
    ear.track.flush()
    assert all(len(samples) <= 16000 for _, samples in ear.pieces)


def test_a_track_that_takes_over_a_lane_starts_without_its_past() -> None:
    lanes, pieces = Lanes(1), list[float]()
    for base in (0, 900_000):
        track = TrackAudio(lanes, 0, deliver=lambda _, at: pieces.append(at), jitter=0.06, jitter_max=0.2)
        track.configure({111: PayloadType(OPUS)})
        track.push(packet(base % 60_000, base, tone(1)[0]), 50.0 + base)
        assert track.packets()["received"] == 1
    assert pieces == pytest.approx([49.98, 900_049.98], abs=0.001)


async def test_the_installed_aiortc_has_the_private_slots_that_we_fill() -> None:
    await check_library()
