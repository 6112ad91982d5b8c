"""Opus through libavcodec, where libopus cannot be had without it: libavcodec's wrapper decodes at 48 kHz, and a
linear-phase low-pass takes every third sample (1.25 ms of delay)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtpcodecs.contract import Samples
from rtpcodecs.lavc import decode_packet, open_decoder, to_int16

CLOCK_HZ = 48000


def _low_pass() -> NDArray[np.float32]:
    """120 taps at 48 kHz: flat to 7 kHz, 60 dB down from 8.4 kHz (Kaiser, beta 5.65), gain 1."""
    at = np.arange(120) - 59.5
    taps = np.sinc(at * 2 * 7700 / CLOCK_HZ) * np.kaiser(120, 5.65)
    normal: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normal


TAPS = 120
BLOCK = 20
"Outputs of one column block: every Opus frame is a multiple of it."


def _filter_bank() -> NDArray[np.float32]:
    """Column m is the low-pass placed at input 3 m: one matrix product gives `BLOCK` outputs of each row of inputs, at
    a third of what a convolution of so few samples costs in calls."""
    bank = np.zeros((3 * (BLOCK - 1) + TAPS, BLOCK), np.float32)
    for column in range(BLOCK):
        bank[3 * column : 3 * column + TAPS, column] = _low_pass()
    return bank


FILTER_BANK = _filter_bank()


class Decimator:
    """48 to 16 kHz. Keeps its state between blocks, whose length must be a multiple of three samples."""

    def __init__(self) -> None:
        self._n = 0
        self._input = np.zeros(TAPS - 3, np.float32)

    def _fit(self, n: int) -> None:
        """Room for blocks of `n` samples behind the last 117 of before."""
        before = self._input[self._n : self._n + TAPS - 3]
        n_rows = -(-n // (3 * BLOCK))
        self._n = n
        self._input = np.zeros(3 * BLOCK * n_rows + TAPS - 3, np.float32)
        self._input[: TAPS - 3] = before
        windows = np.lib.stride_tricks.sliding_window_view(self._input, len(FILTER_BANK))
        self._rows = windows[:: 3 * BLOCK]
        self._output = np.empty((n_rows, BLOCK), np.float32)

    def push(self, samples: Samples) -> Samples:
        """A third as many samples."""
        n = len(samples)
        if not n:
            return samples
        if n != self._n:
            self._fit(n)
        else:
            self._input[: TAPS - 3] = self._input[n : n + TAPS - 3]
        self._input[TAPS - 3 : TAPS - 3 + n] = samples
        np.matmul(self._rows, FILTER_BANK, out=self._output)
        return to_int16(self._output.reshape(-1)[: n // 3])


class LavcOpusDecoder:
    """One stream to 16 kHz mono."""

    def __init__(self) -> None:
        self._context = open_decoder("libopus", CLOCK_HZ, sample_format="s16")
        self._decimator = Decimator()

    def decode(self, payload: bytes, n_samples: int) -> Samples:
        """Exactly `n_samples`. Raises ValueError for a broken payload."""
        samples = self._decimator.push(decode_packet(self._context, payload))
        if len(samples) != n_samples:
            raise ValueError("OPUS: shorter than it says")
        return samples
