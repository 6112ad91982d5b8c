"""A voice made of numbers: what the recorded vectors were encoded from, so that a decoder can be held against it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FORMANTS = ((700, 110), (1220, 120), (2600, 160))  # Hz and bandwidth of an open vowel
VOICED_S, FAINT_S = 0.6, 1.0


def vowel(rate_hz: int, seconds: float, *, pitch_hz: tuple[float, float] = (110, 160)) -> NDArray[np.int16]:
    """A vowel whose pitch glides evenly, peak at 8000."""
    n = round(rate_hz * seconds)
    pitch = np.linspace(*pitch_hz, n)
    phase = np.cumsum(pitch / rate_hz)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    for centre, width in FORMANTS:
        pulses = _resonate(pulses, centre, width, rate_hz)
    return np.rint(pulses / np.abs(pulses).max() * 8000).astype(np.int16)


def _resonate(x: NDArray[np.float64], centre: float, width: float, rate_hz: int) -> NDArray[np.float64]:
    radius = np.exp(-np.pi * width / rate_hz)
    a, b = 2 * radius * np.cos(2 * np.pi * centre / rate_hz), -radius * radius
    y = np.zeros(len(x) + 2)
    for i, value in enumerate(x):
        y[i + 2] = value + a * y[i + 1] + b * y[i]
    return y[2:]


def voice(rate_hz: int) -> NDArray[np.int16]:
    """0.6 s of the vowel, then 1 s of faint noise (RMS 30), which a coder with DTX stops sending."""
    faint = np.random.default_rng(7).standard_normal(round(rate_hz * FAINT_S)) * 30
    return np.concatenate((vowel(rate_hz, VOICED_S), np.rint(faint).astype(np.int16)))


def likeness(decoded: NDArray[np.int16], source: NDArray[np.int16], *, longest_delay: int) -> tuple[float, int]:
    """Correlation (1: the same shape) at the delay, in samples, at which it is greatest."""
    n = min(len(decoded), len(source)) - longest_delay
    original = source[:n].astype(np.float64)

    def at(delay: int) -> float:
        heard = decoded[delay : delay + n].astype(np.float64)
        power = np.sqrt((original @ original) * (heard @ heard))
        return float(original @ heard / power) if power else 0.0

    best = max(range(longest_delay), key=at)
    return at(best), best
