"""What is heard on each leg: level, digital silence, speech, music. Batches of legs in, arrays out.

Cheap detectors come first; the model runs only on the rows they leave in doubt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.silero import FRAME, FULL_SCALE, Floats, Rows, Silero

__all__ = ["FRAME", "Ears", "Heard"]

Flags = NDArray[np.bool_]
LOUD_BITS = np.uint64((1 << at.MUSIC_WINDOW) - 1)
P_SCALE = 255  # probabilities are summed as bytes: a running sum of integers never drifts


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame of each of k legs. All arrays are of length k, in the order of `rows`."""

    rows: Rows
    speech: Floats
    "Probability of speech; 0 where the model was not run."
    level_dbfs: Floats
    digital: Flags
    "Digital silence: a muted phone, or G.711's zero."
    music: Flags
    "Hold music: loud for seconds, and nobody speaks."
    tone: Flags
    "A signalling tone."


class Ears:
    """State in arrays indexed by leg row, 0 to `capacity` - 1. Pure but for the model file read at construction."""

    def __init__(self, capacity: int) -> None:
        self._silero = Silero(capacity)
        self._quiet_run = np.zeros(capacity, np.int32)
        self._loud = np.zeros(capacity, np.uint64)  # one bit a frame, newest lowest
        self._p_ring = np.zeros((capacity, at.MUSIC_WINDOW), np.uint8)
        self._p_sum = np.zeros(capacity, np.int32)
        self._turn = np.zeros(capacity, np.int32)  # where in its ring a row writes next
        self._music = np.zeros(capacity, np.bool_)

    def reset(self, row: int) -> None:
        """A new leg in this row, or one that was absent for longer than about 0.2 s."""
        self._silero.reset(row)
        self._quiet_run[row] = 0
        self._loud[row] = 0
        self._p_ring[row] = 0
        self._p_sum[row] = 0
        self._music[row] = False

    def hear(self, rows: Rows, frames: NDArray[np.int16]) -> Heard:
        """The next frame of each row. `rows` [k] distinct, `frames` [k, 256] linear at 8 kHz."""
        audio = frames * (np.float32(1.0) / FULL_SCALE)
        peak = np.maximum(frames.max(axis=1), -(frames.min(axis=1).astype(np.int32)))
        power = np.einsum("ij,ij->i", audio, audio) / np.float32(FRAME)
        level = 10.0 * np.log10(power + np.float32(1e-12))
        digital = peak <= at.ZERO
        quiet = level < at.QUIET_DBFS
        self._rest(rows, quiet)
        speech = np.zeros(rows.size, np.float32)
        self._silero.skip(rows[quiet], audio[quiet])
        doubtful = ~quiet
        speech[doubtful] = self._silero.speech(rows[doubtful], audio[doubtful])
        music = self._hear_music(rows, speech, level)
        return Heard(rows, speech, level, digital, music, np.zeros(rows.size, np.bool_))

    def _rest(self, rows: Rows, quiet: Flags) -> None:
        run = np.where(quiet, self._quiet_run[rows] + 1, 0)
        self._quiet_run[rows] = run
        self._silero.forget(rows[run == at.QUIET_FRAMES])

    def _hear_music(self, rows: Rows, speech: Floats, level: Floats) -> Flags:
        """Music is what stays loud for two seconds and in which the model hears no voice."""
        loud = (self._loud[rows] << np.uint64(1)) | (level > at.MUSIC_LOUD_DBFS)
        self._loud[rows] = loud
        slot = self._turn[rows]
        p = (speech * P_SCALE).astype(np.uint8)
        total = self._p_sum[rows] + p - self._p_ring[rows, slot]
        self._p_ring[rows, slot] = p
        self._p_sum[rows] = total
        self._turn[rows] = (slot + 1) % at.MUSIC_WINDOW
        share = np.bitwise_count(loud & LOUD_BITS) / at.MUSIC_WINDOW
        calm = total < at.MUSIC_SPEECH_MEAN * P_SCALE * at.MUSIC_WINDOW
        enough = np.where(self._music[rows], at.MUSIC_END_SHARE, at.MUSIC_LOUD_SHARE)
        music: Flags = (share >= enough) & calm
        self._music[rows] = music
        return music
