from __future__ import annotations

import numpy as np
import pytest

from bridge.config import GateSettings, RtpSettings
from bridge.gate.ears import FRAME
from bridge.gate.thresholds import AGAIN_FRAMES
from bridge.media.plane import Plane
from bridge.model import AudioFormat


@pytest.mark.parametrize(
    "audio", [AudioFormat("mulaw", 8000), AudioFormat("alaw", 8000), AudioFormat("linear16", 16000)], ids=str
)
def test_the_last_frames_are_read_again_as_they_were_heard(audio: AudioFormat) -> None:
    plane = Plane(capacity=3, chunk_ms=100, rtp=RtpSettings())
    plane.open_leg(AudioFormat("mulaw", 8000), GateSettings(), 0.0)
    row = plane.open_leg(audio, GateSettings(), 0.0).row
    hearing, legs, rows = plane._hearing, plane._legs, np.array([row])
    sound = np.random.default_rng(5).normal(0, 3000, 5 * audio.rate_hz).astype(np.int16)
    heard = []
    for n in range(5 * 50):  # 20 ms each, beyond the ring's end
        step = audio.rate_hz // 50
        plane.incoming.push_pcm(row, sound[n * step : (n + 1) * step], n / 50, n / 50)
        while legs.heard_to[row] + FRAME <= plane.lanes.position[row]:
            heard.append(hearing.frames(rows)[0])
            if len(heard) > AGAIN_FRAMES:
                assert np.array_equal(hearing.earlier(rows, AGAIN_FRAMES + 1)[:, 0], heard[-AGAIN_FRAMES - 1 :])
            legs.heard_to[row] += FRAME
    assert len(heard) == 5 * 8000 // FRAME


@pytest.mark.parametrize("audio", [AudioFormat("mulaw", 8000), AudioFormat("linear16", 16000)], ids=str)
def test_before_a_leg_began_it_was_silent_whoever_had_its_row(audio: AudioFormat) -> None:
    plane = Plane(capacity=1, chunk_ms=100, rtp=RtpSettings())
    sound = np.random.default_rng(6).normal(0, 3000, 5 * audio.rate_hz).astype(np.int16)
    step = audio.rate_hz // 50
    row = plane.open_leg(audio, GateSettings(), 0.0).row
    for n in range(5 * 50):
        plane.incoming.push_pcm(row, sound[n * step : (n + 1) * step], n / 50, n / 50)
        plane.tick(n / 50)
    plane.close_leg(row, 5.0)
    plane.free_leg(row)
    assert plane.open_leg(audio, GateSettings(), 6.0).row == row
    for n in range(2):
        plane.incoming.push_pcm(row, sound[n * step : (n + 1) * step], n / 50, 6 + n / 50)
    before, begun = np.split(plane._hearing.earlier(np.array([row]), 4)[:, 0], [3])
    assert not before.any()
    assert np.array_equal(begun, plane._hearing.frames(np.array([row])))
