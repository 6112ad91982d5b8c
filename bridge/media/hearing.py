"""What the ears get: each leg's next 256 samples at 8 kHz, whatever format its audio is kept in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.gate.ears import FRAME
from bridge.media.legs import Legs
from bridge.media.track import EXPAND
from bridge.model import POSITION_HZ, AudioFormat

OUTER, INNER, CENTRE = np.float32(-0.0315), np.float32(0.2815), np.float32(0.5)
"A half-band low-pass at 4 kHz: taps 0 and 6, 2 and 4, 3; the others are 0."
LEAD = 3  # positions of the past, twice as many samples, that it needs
WIDE_HISTORY = (2 * POSITION_HZ, 2)
"""Key of the history that 16 kHz legs are kept in."""
KINDS = ("mulaw", "alaw", "linear16")
WIDE = len(KINDS)
"16 kHz: filtered and halved."


def kind_of(audio: AudioFormat) -> int:
    """How a leg's frames are read."""
    return KINDS.index(audio.encoding) if audio.rate_hz == POSITION_HZ else WIDE


class Hearing:
    """Reads frames out of the legs' histories."""

    def __init__(self, legs: Legs) -> None:
        self.kind = np.zeros(legs.capacity, np.int8)
        "`kind_of` each row."
        self._legs = legs

    def frames(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """[k, 256] linear at 8 kHz: each row's next unheard frame."""
        kinds = self.kind[rows]
        if not (kinds != kinds[0]).any():
            return self._frames_of(int(kinds[0]), rows)
        frames = np.empty((rows.size, FRAME), np.int16)
        for kind in np.flatnonzero(np.bincount(kinds)):
            pick = np.flatnonzero(kinds == kind)
            frames[pick] = self._frames_of(int(kind), rows[pick])
        return frames

    def _frames_of(self, kind: int, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Of rows that are all of one kind."""
        if kind == WIDE:
            return self._wide_frames(rows)
        table = EXPAND.get(KINDS[kind])
        history, at = self._legs.histories[(POSITION_HZ, 2 if table is None else 1)], self._legs.heard_to[rows]
        is_whole = history.is_whole(at, FRAME)
        if is_whole.all():
            kept = history.read_block(rows, at, FRAME)
            return kept if table is None else table.take(kept)  # in half the time of table[kept]
        frames = np.empty((rows.size, FRAME), np.int16)
        frames[is_whole] = self._frames_of(kind, rows[is_whole])
        for index in np.flatnonzero(~is_whole):
            track, start = self._legs.track(int(rows[index])), int(at[index])
            frames[index] = track.linear(start, start + FRAME)
        return frames

    def earlier(self, rows: NDArray[np.int64], n: int) -> NDArray[np.int16]:
        """[n, k, 256]: what each row's last n frames were, its next unheard one included; silence before it began."""
        frames = np.empty((n, rows.size, FRAME), np.int16)
        for index, row in enumerate(rows):
            end = int(self._legs.heard_to[row]) + FRAME
            read = self._narrow if self.kind[row] == WIDE else self._kept
            samples = read(int(row), end - n * FRAME, end)
            frames[:, index] = samples.reshape(n, FRAME)
        return frames

    def _kept(self, row: int, start: int, end: int) -> NDArray[np.int16]:
        if start >= 0:
            return self._legs.track(row).linear(start, end)
        kept = np.zeros(end - start, np.int16)
        kept[-end:] = self._legs.track(row).linear(0, end)  # before lies what another leg left in the ring
        return kept

    def _wide_frames(self, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        """Each 16 kHz leg's next unheard frame, low-passed and halved."""
        history, at = self._legs.histories[WIDE_HISTORY], self._legs.heard_to[rows] - LEAD
        is_whole = history.is_whole(at, 2 * (FRAME + LEAD))
        frames = np.empty((rows.size, FRAME), np.int16)
        frames[is_whole] = halved(history.read_block(rows[is_whole], at[is_whole], 2 * (FRAME + LEAD)))
        for index in np.flatnonzero(~is_whole):
            frames[index] = self._narrow(int(rows[index]), int(at[index]) + LEAD, int(at[index]) + LEAD + FRAME)
        return frames

    def _narrow(self, row: int, start: int, end: int) -> NDArray[np.int16]:
        """[start, end) of a 16 kHz leg, low-passed and halved."""
        samples = np.zeros((1, 2 * (end - start + LEAD)), np.int16)
        kept = self._legs.track(row).linear(max(start - LEAD, 0), end)
        samples[0, samples.size - len(kept) :] = kept
        narrow: NDArray[np.int16] = halved(samples)[0]
        return narrow


def halved(samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """[k, 2 (n + LEAD)] at 16 kHz to [k, n] at 8 kHz, through a half-band filter."""
    even, odd = samples[:, ::2].astype(np.float32), samples[:, 1::2]
    n = even.shape[1] - LEAD
    smooth = OUTER * (even[:, :n] + even[:, 3 : n + 3]) + INNER * (even[:, 1 : n + 1] + even[:, 2 : n + 2])
    smooth += CENTRE * odd[:, 1 : n + 1]
    np.minimum(smooth, 32767, out=smooth)
    np.maximum(smooth, -32768, out=smooth)
    narrow: NDArray[np.int16] = smooth.astype(np.int16)
    return narrow
