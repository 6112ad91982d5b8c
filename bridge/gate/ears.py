"""What is heard on each leg: level, digital silence, speech, music, tones. Batches of legs in, arrays out.

Cheap detectors come first; the model runs only on the rows they leave in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.silero import FRAME, FULL_SCALE, Floats, Rows, Silero
from bridge.gate.tones import Tones

__all__ = ["FRAME", "Ears", "Heard"]

Flags = NDArray[np.bool_]
SWING = 0.7  # dB; taken to be swinging until the first second has shown that it is not
FAINTEST = -60.0  # dBFS; a leg begins as if all on it were faint
NO_BED = -90.0  # dBFS; below: nothing has sounded yet


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
    faint: Flags
    "So far below it that a voice answering would not be."
    again: dict[int, Floats]
    "By row: the last 48 frames' probabilities, heard again with a fresh mind (oldest first; 0 where it tells nothing)."
    name_tone: Callable[[int], str] = lambda _row: "tone"
    "What the tone in a row is, as far as its frequencies tell."


class Ears:
    """State in arrays indexed by leg row, 0 to `capacity` - 1. Pure but for the model file read at construction.

    `earlier` is asked, within `hear`, for [AGAIN_FRAMES + 1, k, 256]: the last frames of k rows, oldest first and the
    present one last. Whoever has the frames keeps a few seconds of audio anyhow."""

    def __init__(self, capacity: int, earlier: Callable[[Rows], NDArray[np.int16]]) -> None:
        self._silero = Silero(capacity)
        self._earlier = earlier
        self._gap_run = np.zeros(capacity, np.int32)
        self._since_reset = np.zeros(capacity, np.int32)
        self._loudest = np.full(capacity, FAINTEST, np.float32)  # slowly falling maximum of the level
        self._bed = np.full(capacity, NO_BED - 1.0, np.float32)
        self._slow = np.full(capacity, NO_BED, np.float32)  # level over about 0.1 s
        self._swing = np.full(capacity, SWING, np.float32)
        self._score = np.zeros(capacity, np.float32)
        self._music = np.zeros(capacity, np.bool_)
        self._steady_dbfs = np.zeros(capacity, np.float32)
        self._steady_run = np.zeros(capacity, np.int32)  # frames that the level has stayed close to it
        self._last = np.zeros(capacity, np.float32)  # probability of speech in the frame before
        self._tones = Tones(capacity)

    def reset(self, row: int) -> None:
        """A new leg in this row, or one that was absent for longer than about 0.2 s."""
        self._silero.reset(row)
        self._gap_run[row] = self._since_reset[row] = self._steady_run[row] = 0
        self._loudest[row] = FAINTEST
        self._bed[row] = NO_BED - 1.0
        self._slow[row] = NO_BED
        self._swing[row], self._score[row] = SWING, 0.0
        self._music[row] = False
        self._tones.reset(row)

    def hear(self, rows: Rows, frames: NDArray[np.int16]) -> Heard:
        """The next frame of each row. `rows` [k] distinct, `frames` [k, 256] linear at 8 kHz."""
        audio = frames * (np.float32(1.0) / FULL_SCALE)
        power = np.einsum("ij,ij->i", audio, audio) / np.float32(FRAME)
        level: Floats = 10.0 * np.log10(power + np.float32(1e-12))
        speech = self._hear_speech(rows, audio, level)
        bed = np.where(self._bed[rows] < NO_BED, level, self._bed[rows])
        gap = (level < at.GAP_DBFS) | (level < bed - at.GAP_BELOW_BED_DB)
        louder = level > bed + at.LOUDER_DB
        again = self._rest(rows, gap & (speech < at.HINT))
        sounding = (speech < at.HINT) & ~gap
        self._bed[rows] = np.where(sounding, bed + at.BED_RATE * (level - bed), self._bed[rows])
        tone = self._tones.hear(rows, audio, level, sounding, gap, self._music[rows])
        music = self._hear_music(rows, speech, level, sounding=sounding & ~tone) & ~tone
        faint = level < bed - at.FAINT_DB
        digital = _is_digital(frames, level)
        return Heard(rows, speech, level, digital, music, tone, gap, louder, faint, again, self._tones.name)

    def _hear_speech(self, rows: Rows, audio: Floats, level: Floats) -> Floats:
        """A leg on which all is faint is heard louder; what is quiet to everybody is not heard at all."""
        loudest = np.maximum(level, self._loudest[rows] - at.LOUDEST_FALL_DB)
        self._loudest[rows] = loudest
        gain_db = np.clip(at.LOUD_ENOUGH_DBFS - loudest, 0.0, at.GAIN_MOST_DB)
        if gain_db.any():
            audio = audio * (10.0 ** (gain_db / 20.0)).astype(np.float32)[:, None]
        speech = np.zeros(rows.size, np.float32)
        doubtful = (level >= at.SKIP_DBFS) & ~self._is_hiss(rows, level)
        self._silero.skip(rows[~doubtful], audio[~doubtful])
        speech[doubtful] = self._silero.speech(rows[doubtful], audio[doubtful])
        self._last[rows] = speech
        self._steady_run[rows[speech >= at.HISS_SPEECH]] = 0
        return speech

    def _is_hiss(self, rows: Rows, level: Floats) -> Flags:
        """Faint, and for a while of a level that no voice keeps: the line itself. Heard again with the first frame that
        moves."""
        slow = self._steady_dbfs[rows]
        stays = (level < at.HISS_DBFS) & (np.abs(level - slow) < at.HISS_SWING_DB)
        self._steady_dbfs[rows] = np.where(stays, slow + at.HISS_RATE * (level - slow), level)
        run = self._steady_run[rows] = np.where(stays, self._steady_run[rows] + 1, 0)
        hiss: Flags = run >= at.HISS_FRAMES
        return hiss

    def _rest(self, rows: Rows, gap: Flags) -> dict[int, Floats]:
        """A pause empties the recurrent state, and where steady noise or music leaves none, time: filled by them it is
        deaf to a voice 10 dB above. After music or tones its last answers are not trusted: heard again."""
        run = np.where(gap, self._gap_run[rows] + 1, 0)
        self._gap_run[rows] = run
        rests = run == at.GAP_FRAMES
        in_doubt = self._music[rows] | self._tones.is_held(rows)
        stale = rows[rests & in_doubt & (self._since_reset[rows] > at.STALE_FRAMES)]
        self._since_reset[rows] = np.where(run >= at.GAP_FRAMES, 0, self._since_reset[rows] + 1)
        is_bed = ((self._swing[rows] <= at.STEADY_DB) & ~in_doubt) | self._music[rows]
        fills = (
            is_bed & (self._last[rows] < at.HINT) & (self._since_reset[rows] % at.STALE_FRAMES == at.STALE_FRAMES - 1)
        )
        self._silero.forget(rows[rests | fills])
        return self._hear_again(stale) if stale.size else {}

    def _hear_again(self, rows: Rows) -> dict[int, Floats]:
        """The last frames of these rows from an empty state, begun at several points: music before a word fills it
        again within a second. The best of the answers."""
        audio = self._earlier(rows) * (np.float32(1.0) / FULL_SCALE)
        best = np.zeros((at.AGAIN_FRAMES, rows.size), np.float32)
        for begin in at.AGAIN_BEGINS:
            p = self._silero.afresh(audio[begin:])[1:]
            np.maximum(best[begin + at.AGAIN_BLIND :], p[at.AGAIN_BLIND :], out=best[begin + at.AGAIN_BLIND :])
        return {int(row): best[:, n] for n, row in enumerate(rows)}

    def _hear_music(self, rows: Rows, speech: Floats, level: Floats, *, sounding: Flags) -> Flags:
        """Music is what goes on sounding, not steadily, and in which the model hears no voice."""
        slow, swing = self._slow[rows], self._swing[rows]
        slow = np.where(slow <= NO_BED, level, slow)
        slow = self._slow[rows] = np.where(sounding, slow + at.SWING_RATE * (level - slow), slow)
        swing = np.where(sounding, swing + at.BED_RATE * (np.abs(slow - self._bed[rows]) - swing), swing)
        self._swing[rows] = swing
        step = np.where(speech < at.HINT, at.MUSIC_QUIET_STEP, 0.0)
        step = np.where(speech > at.SPEECH_ON, at.MUSIC_SPEECH_STEP, step)
        step = np.where(sounding & (swing > at.STEADY_DB), 1.0, step)
        score = self._score[rows] = np.clip(self._score[rows] + step, 0.0, at.MUSIC_TOP).astype(np.float32)
        music: Flags = score >= np.where(self._music[rows], at.MUSIC_OFF, at.MUSIC_ON)
        self._music[rows] = music
        return music


def _is_digital(frames: NDArray[np.int16], level: Floats) -> Flags:
    digital: Flags = level < at.ZERO_DBFS
    if digital.any():
        digital[digital] = (np.abs(frames[digital]) <= at.ZERO).all(axis=1)
    return digital
