from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest

from bridge.caller.audio import compose, load, resample
from bridge.errors import ConfigError


def write_wav(path: Path, samples: np.ndarray, rate_hz: int, channels: int = 1) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def tone(seconds: float, rate_hz: int) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.int16)


def test_a_file_at_the_right_rate_comes_back_sample_by_sample(tmp_path: Path) -> None:
    samples = tone(0.5, 8000)
    write_wav(tmp_path / "a.wav", samples, 8000)
    assert np.array_equal(load(tmp_path / "a.wav", 8000), samples)


def test_another_rate_keeps_the_duration_and_the_loudness(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", tone(1.0, 48000), 48000)
    samples = load(tmp_path / "a.wav", 8000)
    assert abs(len(samples) - 8000) <= 8
    assert np.sqrt(np.mean(samples[800:-800].astype(float) ** 2)) == pytest.approx(8000 / np.sqrt(2), rel=0.02)
    assert abs(len(resample(samples, 8000, 16000)) - 16000) <= 32


@pytest.mark.parametrize("content", [b"", b"not audio at all"])
def test_a_file_that_is_not_audio_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.wav").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.wav: not an audio file"):
        load(tmp_path / "bad.wav", 8000)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.wav"):
        load(tmp_path / "gone.wav", 8000)


def test_parts_stand_at_their_times_over_silence() -> None:
    one = np.full(800, 100, np.int16)
    timeline = compose([(0.5, one), (1.0, one), (1.05, one)], rate_hz=8000, seconds=2.0)
    assert len(timeline) == 16000
    assert timeline[3999] == 0
    assert timeline[4000] == 100
    assert timeline[8400] == 200
    assert not timeline[9200:].any()
