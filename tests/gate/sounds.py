"""Sounds for the gate's tests: bundled recordings and signals made of numbers, 8 kHz int16."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.gate.ears import FRAME

Sound = NDArray[np.int16]
RECORDINGS = Path(__file__).parents[2] / "bridge" / "emulator" / "recordings"
RATE = 8000


def recording(name: str) -> Sound:
    with wave.open(str(RECORDINGS / f"{name}.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def silence(seconds: float, value: int = 0) -> Sound:
    return np.full(round(seconds * RATE), value, np.int16)


def noise(seconds: float, dbfs: float, seed: int = 1) -> Sound:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE)) * 32768 * 10 ** (dbfs / 20)
    return np.clip(np.round(samples), -32768, 32767).astype(np.int16)


def sines(seconds: float, *hz: float, dbfs: float = -15.0) -> Sound:
    """Each sine at `dbfs` RMS."""
    t = np.arange(round(seconds * RATE)) / RATE
    amplitude = 32768 * 10 ** (dbfs / 20) * 2**0.5
    total: Any = sum(amplitude * np.sin(2 * np.pi * f * t) for f in hz)
    return np.round(total).astype(np.int16)


def at_level(sound: Sound, dbfs: float) -> Sound:
    """Scaled so that its loudest tenth has this RMS."""
    loud = np.sort(frames_of(sound).astype(float).std(axis=1))[-len(sound) // FRAME // 10 :].mean()
    return np.clip(sound * (32768 * 10 ** (dbfs / 20) / loud), -32768, 32767).astype(np.int16)


def frames_of(sound: Sound) -> Sound:
    """[n, 256]; a rest shorter than a frame is dropped."""
    return sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
