"""The last three seconds of every leg's audio: pre-roll, look-back, the chunk being filled, and the detectors' input.

One ring per leg, indexed by position; one array for all legs of a kind, so that a tick writes and reads all of them
at once. 3 s is more than the longest look-back (2.5 s), and the ring's length divides by the common packets (20, 40 ms)
and by the detectors' window, so that the batch calls hardly ever meet its end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from bridge.model import POSITION_HZ

HISTORY = 95 * 256  # positions: 3.04 s; 24320 = 152 x 160
LOOK_BACK = 80 * 256  # 2.56 s: from the frame that opens a gate back to the first that is sent
UNHEARD_MOST = HISTORY - LOOK_BACK  # 0.48 s that the ears may be behind


class History:
    """Rings for `capacity` legs. A row costs memory only once it is written to."""

    def __init__(self, capacity: int, *, rate_hz: int, dtype: Any) -> None:
        self.rate_hz = rate_hz
        self.per_position = rate_hz // POSITION_HZ
        self._width = HISTORY * self.per_position
        self._flat = np.zeros(capacity * self._width, dtype)
        self._views: dict[int, NDArray[Any]] = {}

    def write(self, row: int, position: int, samples: NDArray[Any]) -> None:
        """Samples of one leg from `position` on."""
        samples = samples[-self._width :]
        at = position * self.per_position % self._width
        base = row * self._width
        if at + len(samples) <= self._width:
            self._flat[base + at : base + at + len(samples)] = samples
            return
        first = self._width - at
        self._flat[base + at : base + at + first] = samples[:first]
        self._flat[base : base + len(samples) - first] = samples[first:]

    def read(self, row: int, start: int, end: int) -> NDArray[Any]:
        """Samples of [start, end); only the last `HISTORY` positions are there."""
        base = row * self._width
        at = start * self.per_position % self._width
        n = (end - start) * self.per_position
        if at + n <= self._width:
            return self._flat[base + at : base + at + n]
        return np.concatenate(
            (self._flat[base + at : base + self._width], self._flat[base : base + at + n - self._width])
        )

    def write_block(self, rows: NDArray[np.int64], positions: NDArray[np.int64], block: NDArray[Any]) -> None:
        """[k, n] samples, one run for each of k distinct rows."""
        n = block.shape[1]
        at = positions * self.per_position % self._width
        whole = at + n <= self._width
        self._windows(n)[(rows * self._width + at)[whole]] = block[whole]
        for index in np.flatnonzero(~whole):
            self.write(int(rows[index]), int(positions[index]), block[index])

    def is_whole(self, positions: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
        """Whether n samples from each position on lie in one piece."""
        whole: NDArray[np.bool_] = positions * self.per_position % self._width + n <= self._width
        return whole

    def read_block(self, rows: NDArray[np.int64], positions: NDArray[np.int64], n: int) -> NDArray[Any]:
        """[k, n] samples from `positions` on. The run must not cross the ring's end (`is_whole`)."""
        at = positions * self.per_position % self._width
        picked: NDArray[Any] = self._windows(n)[rows * self._width + at]
        return picked

    def _windows(self, n: int) -> NDArray[Any]:
        """[m, n]: row i is the run of n samples that begins at i. A view, made once for each packet length."""
        view = self._views.get(n)
        if view is None:
            step = self._flat.itemsize
            view = as_strided(self._flat, shape=(len(self._flat) - n + 1, n), strides=(step, step))
            self._views[n] = view
        return view
