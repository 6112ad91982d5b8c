"""What is played in place of lost audio, for every format alike.

The last pitch period is repeated, faded out within 60 ms, and cross-faded with the next good audio, after the idea of
ITU-T G.711 Appendix I but without its 3.75 ms of output delay: no sample that was already handed out is changed.
A recogniser hears neither a click nor a made-up vowel.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from rtpcodecs.contract import Samples

Float = NDArray[np.float32]

HOLD_MS = 10  # full level that long (G.711 Appendix I: the first 10 ms are not attenuated)
FADE_END_MS = 60  # silence from here on (the same: 20 % per further 10 ms)
JOIN_MS = 5  # length of the cross-fade with the next good audio
SEAM_MS = 2  # over which the step between real and repeated audio is smoothed away
SHORTEST_PITCH_MS = 2.5  # 400 Hz, a child's voice
LONGEST_PITCH_MS = 15  # 66 Hz, a low man's voice
HISTORY_MS = 40  # longest pitch and a window to compare it in


class Concealment:
    """One stream's memory of what was last heard. Told of every good block, asked for every lost one."""

    __slots__ = ("_cycle", "_heard", "_heard_samples", "_offset", "_position", "_rate_hz")

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._heard: deque[Samples] = deque()
        self._heard_samples = 0
        self._cycle: Float | None = None  # one pitch period that can be repeated without a seam; None: nothing is lost
        self._offset = 0.0  # step between the last real sample and the first repeated one
        self._position = 0  # samples since the loss began

    def good(self, samples: Samples) -> Samples:
        """`samples` as they should be heard: cross-faded if they follow a loss, else the very same array (which must
        not be written to afterwards)."""
        if self._cycle is not None and len(samples):
            samples = self._join(samples)
        self._heard.append(samples)
        self._heard_samples += len(samples)
        while self._heard_samples - len(self._heard[0]) >= self._count(HISTORY_MS):
            self._heard_samples -= len(self._heard.popleft())
        return samples

    def lost(self, n_samples: int) -> Samples:
        """The next `n_samples` of a loss: continues what was heard, silence after 60 ms."""
        if self._cycle is None:
            self._begin()
        samples = self._continue(n_samples)
        self._position += n_samples
        return np.rint(samples).clip(-32768, 32767).astype(np.int16)

    def _count(self, ms: float) -> int:
        return int(self._rate_hz * ms) // 1000

    def _join(self, samples: Samples) -> Samples:
        n = min(self._count(JOIN_MS), len(samples))
        rise = (np.arange(n, dtype=np.float32) + 1) / (n + 1)
        joined = samples.copy()
        mixed = samples[:n] * rise + self._continue(n) * (1 - rise)
        joined[:n] = np.rint(mixed).clip(-32768, 32767).astype(np.int16)
        self._cycle = None
        return joined

    def _begin(self) -> None:
        history = np.concatenate(self._heard).astype(np.float32) if self._heard else np.zeros(0, np.float32)
        history = history[-self._count(HISTORY_MS) :]
        missing = self._count(HISTORY_MS) - len(history)
        history = np.pad(history, (missing, 0))
        period = _pitch_period(history, self._count(SHORTEST_PITCH_MS), self._count(LONGEST_PITCH_MS))
        self._cycle = _seamless_cycle(history, period)
        self._offset = float(history[-1] - history[-period - 1])
        self._position = 0

    def _continue(self, n_samples: int) -> Float:
        """The next `n_samples` without moving on."""
        assert self._cycle is not None
        at = self._position + np.arange(n_samples)
        gain = np.interp(at, (self._count(HOLD_MS), self._count(FADE_END_MS)), (1.0, 0.0))
        seam = np.interp(at, (-1, self._count(SEAM_MS)), (self._offset, 0.0))
        repeated: Float = ((self._cycle[at % len(self._cycle)] + seam) * gain).astype(np.float32)
        return repeated


def _pitch_period(history: Float, shortest: int, longest: int) -> int:
    """The lag, in samples, at which the end of `history` resembles itself most (normalised correlation)."""
    window = len(history) - longest
    recent = history[-window:]
    correlation = np.correlate(history, recent, "valid")[::-1]  # index = lag, 0 .. longest
    energy = np.concatenate(([0.0], np.cumsum(history.astype(np.float64) ** 2)))
    lags = np.arange(longest + 1)
    power = energy[len(history) - lags] - energy[len(history) - window - lags]
    likeness = correlation[shortest:] / np.sqrt(power[shortest:] + 1.0)
    return shortest + int(np.argmax(likeness))


def _seamless_cycle(history: Float, period: int) -> Float:
    """The last `period` samples, their end bent so that their own beginning follows without a step."""
    cycle = history[-period:].copy()
    bend = max(1, period // 4)
    before = history[-period - bend : -period]  # what really came before the cycle's beginning
    rise = (np.arange(bend, dtype=np.float32) + 1) / bend
    cycle[-bend:] = cycle[-bend:] * (1 - rise) + before * rise
    return cycle
