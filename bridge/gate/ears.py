"""What is heard on each leg: level, digital silence, speech, music, tones. Batches of legs in, arrays out.

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
RING = 64  # frames of history, 2 s


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
    gap: Flags
    "Quiet, absolutely or after what was sounding before."
    louder: Flags
    "Clearly louder than what was sounding for the last second or more."
    again: dict[int, Floats]
    "By row: the last 48 frames' probabilities, heard again with a fresh mind (oldest first; 0 where it tells nothing)."


class Ears:
    """State in arrays indexed by leg row, 0 to `capacity` - 1. Pure but for the model file read at construction."""

    def __init__(self, capacity: int) -> None:
        self._silero = Silero(capacity)
        self._frames = np.zeros((capacity, RING, FRAME), np.int16)
        self._slot = np.zeros(capacity, np.intp)  # where in its ring a row's newest frame is
        self._gap_run = np.zeros(capacity, np.int32)
        self._since_reset = np.zeros(capacity, np.int32)
        self._bed = np.full(capacity, -60.0, np.float32)
        self._loud = np.zeros(capacity, np.uint64)  # one bit a frame, newest lowest
        self._p_ring = np.zeros((capacity, RING), np.uint8)
        self._p_sum = np.zeros(capacity, np.int32)
        self._music = np.zeros(capacity, np.bool_)

    def reset(self, row: int) -> None:
        """A new leg in this row, or one that was absent for longer than about 0.2 s."""
        self._silero.reset(row)
        self._frames[row] = 0
        self._gap_run[row] = self._since_reset[row] = 0
        self._bed[row] = -60.0
        self._loud[row] = 0
        self._p_ring[row] = 0
        self._p_sum[row] = 0
        self._music[row] = False

    def hear(self, rows: Rows, frames: NDArray[np.int16]) -> Heard:
        """The next frame of each row. `rows` [k] distinct, `frames` [k, 256] linear at 8 kHz."""
        slot = self._slot[rows] = (self._slot[rows] + 1) % RING
        self._frames[rows, slot] = frames
        audio = frames * (np.float32(1.0) / FULL_SCALE)
        peak = np.maximum(frames.max(axis=1), -(frames.min(axis=1).astype(np.int32)))
        power = np.einsum("ij,ij->i", audio, audio) / np.float32(FRAME)
        level: Floats = 10.0 * np.log10(power + np.float32(1e-12))
        speech = self._hear_speech(rows, audio, level)
        bed = self._bed[rows]
        gap = (level < at.GAP_DBFS) | (level < bed - at.GAP_BELOW_BED_DB)
        louder = level > bed + at.LOUDER_DB
        again = self._rest(rows, gap & (speech < at.HINT))
        sounding = (speech < at.HINT) & ~gap
        self._bed[rows] = np.where(sounding, bed + at.BED_RATE * (level - bed), bed)
        music = self._hear_music(rows, speech, level)
        tone = np.zeros(rows.size, np.bool_)
        return Heard(rows, speech, level, peak <= at.ZERO, music, tone, gap, louder, again)

    def _hear_speech(self, rows: Rows, audio: Floats, level: Floats) -> Floats:
        speech = np.zeros(rows.size, np.float32)
        doubtful = level >= at.SKIP_DBFS
        if doubtful.all():
            return self._silero.speech(rows, audio)
        self._silero.skip(rows[~doubtful], audio[~doubtful])
        speech[doubtful] = self._silero.speech(rows[doubtful], audio[doubtful])
        return speech

    def _rest(self, rows: Rows, gap: Flags) -> dict[int, Floats]:
        """A pause empties the recurrent state. After long sounding its last answers are not trusted: heard again."""
        run = np.where(gap, self._gap_run[rows] + 1, 0)
        self._gap_run[rows] = run
        rests = run == at.GAP_FRAMES
        stale = rows[rests & (self._since_reset[rows] > at.STALE_FRAMES)]
        self._since_reset[rows] = np.where(run >= at.GAP_FRAMES, 0, self._since_reset[rows] + 1)
        self._silero.forget(rows[rests])
        return self._hear_again(stale) if stale.size else {}

    def _hear_again(self, rows: Rows) -> dict[int, Floats]:
        """The last frames of these rows from an empty state; leaves it empty."""
        heard = np.zeros((at.AGAIN_FRAMES, rows.size), np.float32)
        for n in range(at.AGAIN_FRAMES):
            slot = (self._slot[rows] - at.AGAIN_FRAMES + 1 + n) % RING
            heard[n] = self._silero.speech(rows, self._frames[rows, slot] * (np.float32(1.0) / FULL_SCALE))
        heard[: at.AGAIN_BLIND] = 0.0
        self._silero.forget(rows)
        return {int(row): heard[:, n] for n, row in enumerate(rows)}

    def _hear_music(self, rows: Rows, speech: Floats, level: Floats) -> Flags:
        """Music is what stays loud for two seconds and in which the model hears no voice."""
        loud = (self._loud[rows] << np.uint64(1)) | (level > at.MUSIC_LOUD_DBFS)
        self._loud[rows] = loud
        slot = self._slot[rows]
        p = (speech * P_SCALE).astype(np.uint8)
        total = self._p_sum[rows] + p - self._p_ring[rows, (slot - at.MUSIC_WINDOW) % RING]
        self._p_ring[rows, slot] = p
        self._p_sum[rows] = total
        share = np.bitwise_count(loud & LOUD_BITS) / at.MUSIC_WINDOW
        calm = total < at.MUSIC_SPEECH_MEAN * P_SCALE * at.MUSIC_WINDOW
        enough = np.where(self._music[rows], at.MUSIC_END_SHARE, at.MUSIC_LOUD_SHARE)
        music: Flags = (share >= enough) & calm
        self._music[rows] = music
        return music
