"""A path whose delay shrinks while a stream begins: what was told late is told to have been, while it still helps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest

from bridge.config import GateSettings, RtpSettings
from bridge.media.outputs import Audio, Output, Retimed
from bridge.media.plane import Plane
from bridge.model import AudioFormat
from bridge.stt.tape import Tape
from tests.media.sender import Sender, arrivals
from tests.media.test_plane import plane_with_leg

PROVIDER_TAKES = 1.5  # s from audio to its final words


class Provider:
    """Gives back what was captured when, `PROVIDER_TAKES` after it was handed over; by then it knows better."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, bytes, float]] = deque()
        self.told: dict[bytes, float] = {}

    def take(self, outputs: list[Output], now: float) -> None:
        for output in outputs:
            if isinstance(output, Audio):
                for at in range(0, len(output.data), 160):
                    piece = output.data[at : at + 160]
                    self._heard.append((now + PROVIDER_TAKES, piece, output.start + at / 8000))
            elif isinstance(output, Retimed):
                by, since = output.by, output.since
                self._heard = deque((due, piece, at - by * (at >= since - 1e-6)) for due, piece, at in self._heard)
        while self._heard and self._heard[0][0] <= now:
            _, piece, at = self._heard.popleft()
            self.told[piece] = at


def errors_of(sent: list[tuple[float, bytes]], captured: dict[bytes, float], *, plane: Plane, row: int) -> list[float]:
    """How late each packet was told to have been captured, in order."""
    provider, queue, now = Provider(), deque(sorted(sent, key=lambda entry: entry[0])), 100.0
    while queue:
        now += 0.02
        while queue and queue[0][0] <= now:
            at, datagram = queue.popleft()
            plane.incoming.push(arrivals([(row, datagram, at)]))
        provider.take(plane.ready() + plane.tick(now), now)
    provider.take(plane.close_leg(row, now), now)
    provider.take([], now + PROVIDER_TAKES)
    return [provider.told[piece] - at for piece, at in captured.items() if piece in provider.told]


def sent_late(
    sender: Sender, n: int, delay: Callable[[float], float], *, start: float = 100.0
) -> tuple[list[tuple[float, bytes]], dict[bytes, float]]:
    """(arrival, datagram) of packets that meet `delay(seconds since start)`, and when each was captured."""
    sent: list[tuple[float, bytes]] = []
    captured: dict[bytes, float] = {}
    for k in range(n):
        datagram, at = sender.packet(), start + 0.02 * k
        captured[datagram[12:]] = at
        sent.append((at + 0.02 + delay(0.02 * k), datagram))
    return sent, captured


@pytest.mark.parametrize(("late", "over"), [(0.1, 1.0), (0.3, 1.0), (1.0, 3.0)])
def test_words_are_told_at_their_time_once_the_delay_has_shrunk_before_they_come_back(late: float, over: float) -> None:
    plane, row = plane_with_leg(GateSettings(mode="off"))
    sent, captured = sent_late(Sender(), 400, lambda t: late * max(0.0, 1 - t / over))
    errors = errors_of(sent, captured, plane=plane, row=row)
    assert len(errors) == 400
    assert max(errors) <= 0.002
    assert min(errors) >= -1e-6


def test_jitter_at_the_start_leaves_no_word_late_by_it() -> None:
    for seed in range(5):
        rng = np.random.default_rng(seed)
        plane, row = plane_with_leg(GateSettings(mode="off"))
        sent, captured = sent_late(Sender(), 400, lambda _, rng=rng: rng.uniform(0, 0.03))  # type: ignore[misc]
        errors = errors_of(sent, captured, plane=plane, row=row)
        assert max(errors) <= 0.004
        assert min(errors) >= -1e-6


def test_what_a_new_source_s_delay_does_moves_nothing_of_the_one_before() -> None:
    plane, row = plane_with_leg(GateSettings(mode="off"))
    before, captured = sent_late(Sender(), 100, lambda _: 0.0)
    other = Sender(ssrc=8, seq=7, timestamp=70, rng=np.random.default_rng(2))
    after, captured_after = sent_late(other, 300, lambda t: 0.2 * max(0.0, 1 - t), start=102.02)
    errors = errors_of(before + after, captured | captured_after, plane=plane, row=row)
    assert max(map(abs, errors[:95])) <= 0.001  # the last chunk of the one is told with the first of the other
    assert max(map(abs, errors)) <= 0.2
    assert max(map(abs, errors[100:])) <= 0.002


@pytest.mark.parametrize("ppm", [-200, 200])
def test_a_clock_that_drifts_moves_nothing_that_was_right(ppm: int) -> None:
    plane, row = plane_with_leg(GateSettings(mode="off"))
    sender, sent, captured = Sender(), [], {}
    for k in range(50 * 300):
        datagram, at = sender.packet(), 100.0 + 0.02 * k * (1 + ppm * 1e-6)
        captured[datagram[12:]] = at
        sent.append((at + 0.02, datagram))
    errors = errors_of(sent, captured, plane=plane, row=row)
    assert max(map(abs, errors)) <= 0.003


def test_decoded_audio_that_turns_out_to_be_earlier_takes_what_came_before_with_it() -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    row = plane.open_leg(AudioFormat("linear16", 16000), GateSettings(mode="off"), 100.0).row
    rng, out = np.random.default_rng(1), []
    for k in range(100):
        late = 0.15 if k < 50 else 0.0
        at = 100.0 + 0.02 * k
        samples = rng.integers(-3000, 3000, 320).astype(np.int16)
        plane.incoming.push_pcm(row, samples, at + late, at + late + 0.02)
        out += plane.tick(at + late + 0.02)
    (retimed,) = [output for output in out if isinstance(output, Retimed)]
    assert (retimed.by, retimed.since) == (pytest.approx(0.15), -np.inf)
    assert max(output.start for output in out[out.index(retimed) :] if isinstance(output, Audio)) < 102.0


@pytest.mark.parametrize("ppm", [-100, 20, 100])
def test_a_clock_that_has_drifted_since_it_leapt_leaves_nothing_behind_when_the_delay_shrinks(ppm: int) -> None:
    plane, row = plane_with_leg(GateSettings(mode="off"))
    mulaw = AudioFormat("mulaw", 8000)
    tape, now = Tape(mulaw, 600.0), 100.0
    queue: deque[tuple[float, bytes]] = deque()
    captured: dict[bytes, float] = {}
    first, second = Sender(), Sender(ssrc=8, seq=7, timestamp=70, rng=np.random.default_rng(2))
    for k in range(1500):
        sender, late = (first, 0.0) if k < 500 else (second, 0.25 if k < 1100 else 0.0)
        datagram, at = sender.packet(), 100.0 + 0.02 * k * (1 + ppm * 1e-6)
        captured[datagram[12:]] = at
        queue.append((at + 0.02 + late, datagram))
    while queue:
        now += 0.02
        while queue and queue[0][0] <= now:
            at, datagram = queue.popleft()
            plane.incoming.push(arrivals([(row, datagram, at)]))
        for output in plane.tick(now):
            if isinstance(output, Audio):
                tape.append(output.data, output.start)
            elif isinstance(output, Retimed):
                tape.retime(output.by, output.since)
    pieces = {tape.read(at, at + 160): tape.call_time(at) for at in range(0, tape.end - 160, 160)}
    assert len(pieces.keys() & captured.keys()) > 1400
    assert max(abs(at - captured[piece]) for piece, at in pieces.items() if piece in captured) <= 0.005


@pytest.mark.parametrize("leap", [0.0019, -0.0019, 0.02, -0.02, 0.2, -0.2])
@pytest.mark.parametrize("lost", [None, 3])
def test_a_sender_s_clock_that_leaps_again_and_again_moves_no_word(leap: float, lost: int | None) -> None:
    """Timestamps leap, the audio does not: a packet is lost now and then, three packets after a leap."""
    plane, row = plane_with_leg(GateSettings(mode="off"))
    sender, sent, captured = Sender(), [], {}
    for k in range(50 * 60):
        is_leap = k > 100 and k % 23 == 0
        sender.timestamp = (sender.timestamp + is_leap * round(leap * 8000)) & 0xFFFF_FFFF
        datagram, at = sender.packet(), 100.0 + 0.02 * k
        if k % 23 != lost:
            captured[datagram[12:]] = at
            sent.append((at + 0.02, datagram))
    errors = errors_of(sent, captured, plane=plane, row=row)
    assert len(errors) == len(sent)
    assert max(map(abs, errors)) <= 0.003


def test_a_leap_right_behind_a_lost_packet_moves_no_word() -> None:
    plane, row = plane_with_leg(GateSettings(mode="off"))
    sender, sent, captured = Sender(), [], {}
    for k in range(400):
        sender.timestamp = (sender.timestamp + (k == 203) * 320) & 0xFFFF_FFFF
        datagram, at = sender.packet(), 100.0 + 0.02 * k
        if k != 202:
            captured[datagram[12:]] = at
            sent.append((at + 0.02, datagram))
    errors = errors_of(sent, captured, plane=plane, row=row)
    assert max(map(abs, errors)) <= 0.003


def test_pauses_in_sending_are_no_leaps_though_packets_are_late() -> None:
    plane, row = plane_with_leg(GateSettings(mode="off"))
    sender, sent, captured, at, came = Sender(), [], {}, 100.0, 0.0
    rng = np.random.default_rng(3)
    for k in range(50 * 60):
        if k % 17 == 16:
            pause = rng.choice([0.02, 0.04, 0.1, 0.3, 1.0])
            sender.skip(pause)
            at += pause
        datagram = sender.packet()
        captured[datagram[12:]] = at
        at += 0.02
        came = max(came, at + rng.uniform(0.0, 0.03))
        sent.append((came, datagram))
    errors = errors_of(sent, captured, plane=plane, row=row)
    assert max(map(abs, errors[50:])) <= 0.005
