"""Ears that keep what they heard themselves: for whoever has no media plane around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.gate.ears import FRAME, Ears, Heard
from bridge.gate.silero import Rows
from bridge.gate.thresholds import AGAIN_FRAMES


class KeepingEars(Ears):
    """Rows 0 to `capacity` - 1."""

    def __init__(self, capacity: int) -> None:
        super().__init__(capacity, self._kept)
        self._frames = np.zeros((AGAIN_FRAMES + 1, capacity, FRAME), np.int16)
        self._newest = np.zeros(capacity, np.intp)

    def hear(self, rows: Rows, frames: NDArray[np.int16]) -> Heard:
        self._newest[rows] = (self._newest[rows] + 1) % len(self._frames)
        self._frames[self._newest[rows], rows] = frames
        return super().hear(rows, frames)

    def _kept(self, rows: Rows, n: int) -> NDArray[np.int16]:
        age = np.arange(n - 1, -1, -1)[:, None]
        return self._frames[(self._newest[rows] - age) % len(self._frames), rows]
