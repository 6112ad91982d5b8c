"""What the ears get: each leg's next 256 samples at 8 kHz, whatever format its audio is kept in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bridge.gate.ears import FRAME
from bridge.gate.thresholds import AGAIN_FRAMES
from bridge.media.history import History
from bridge.media.track import EXPAND, Track
from bridge.model import POSITION_HZ, AudioFormat

HALF_BAND = np.array([-0.0315, 0.0, 0.2815, 0.5, 0.2815, 0.0, -0.0315], np.float32)  # low-pass at 4 kHz for 16 kHz legs
KINDS = ("mulaw", "alaw", "linear16")
WIDE = len(KINDS)
"Any other rate: filtered and halved leg by leg."


def kind_of(audio: AudioFormat) -> int:
    """How a leg's frames are read."""
    return KINDS.index(audio.encoding) if audio.rate_hz == POSITION_HZ else WIDE


class Hearing:
    """Reads frames out of the histories. `tracks` and `histories` are the plane's own."""

    def __init__(
        self, capacity: int, tracks: Sequence[Track | None], histories: Mapping[tuple[int, int], History]
    ) -> None:
        self.kind = np.zeros(capacity, np.int8)
        "`kind_of` each row."
        self.reached = np.zeros(capacity, np.int64)
        "Position up to which each row was heard."
        self._tracks = tracks
        self._histories = histories

    def _track(self, row: int) -> Track:
        track = self._tracks[row]
        assert track is not None
        return track

    def frames(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """[k, 256] linear at 8 kHz: each row's next unheard frame."""
        frames = np.empty((rows.size, FRAME), np.int16)
        for kind in np.unique(self.kind[rows]):
            pick = np.flatnonzero(self.kind[rows] == kind)
            chosen = rows[pick]
            if kind == WIDE:
                for index, row in zip(pick, chosen, strict=True):
                    start = int(self.reached[row])
                    frames[index] = self._narrow(int(row), start, start + FRAME)
                continue
            name = KINDS[kind]
            history = self._histories[(POSITION_HZ, 1 if name in EXPAND else 2)]
            at = self.reached[chosen]
            aligned = at % FRAME == 0
            raw = history.read_block(chosen[aligned], at[aligned], FRAME)
            frames[pick[aligned]] = EXPAND[name][raw] if name in EXPAND else raw
            for index in np.flatnonzero(~aligned):
                track, start = self._track(int(chosen[index])), int(at[index])
                frames[pick[index]] = track.linear(start, start + FRAME)
        return frames

    def earlier(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """[AGAIN_FRAMES + 1, k, 256]: what each row's last frames were, its next unheard one included."""
        n = AGAIN_FRAMES + 1
        frames = np.empty((n, rows.size, FRAME), np.int16)
        for index, row in enumerate(rows):
            end = int(self.reached[row]) + FRAME
            read = self._narrow if self.kind[row] == WIDE else self._kept
            samples = read(int(row), end - n * FRAME, end)
            frames[:, index] = samples.reshape(n, FRAME)
        return frames

    def _kept(self, row: int, start: int, end: int) -> NDArray[np.int16]:
        return self._track(row).linear(start, end)

    def _narrow(self, row: int, start: int, end: int) -> NDArray[np.int16]:
        """[start, end) of a 16 kHz leg, low-passed and halved."""
        lead = len(HALF_BAND) // 2  # positions of the past; twice as many samples
        samples = self._track(row).linear(max(start - lead, 0), end).astype(np.float32)
        samples = np.pad(samples, (2 * (end - start + lead) - len(samples), 0))
        smooth = np.convolve(samples, HALF_BAND, "valid")
        narrow: NDArray[np.int16] = smooth[-2 * (end - start) :: 2].clip(-32768, 32767).astype(np.int16)
        return narrow
