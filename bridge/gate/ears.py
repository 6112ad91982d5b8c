"""What is heard on each leg: level, digital silence, speech, music, tones. Batches of legs in, arrays out.

Cheap detectors come first; the model runs only on the rows they leave in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.scalars import f32, i32
from bridge.gate.silero import CONTEXT, FRAME, FULL_SCALE, MOST_ROWS, Floats, Rows, Silero
from bridge.gate.tones import Tones

__all__ = ["FRAME", "Ears", "Heard"]

Flags = NDArray[np.bool_]
AGAIN_MOST_ROWS = MOST_ROWS // at.AGAIN_FRAMES  # heard again in one run
SWING = 0.7  # dB; taken to be swinging until the first second has shown that it is not
FAINTEST = -60.0  # dBFS; a leg begins as if all on it were faint
NO_BED = np.array(-90.0, np.float32)  # dBFS; below: nothing has sounded yet
TO_POWER = np.array(1.0 / (FRAME * float(FULL_SCALE) ** 2), np.float32)
LEAST_POWER = np.array(1e-12, np.float32)  # so that silence has a logarithm
ONE_MORE, LAST_STALE = np.array(1, np.int32), np.array(at.STALE_FRAMES - 1, np.int32)
ZERO, ONE, TEN, TWENTY = (np.array(number, np.float32) for number in (0, 1, 10, 20))


@dataclass(slots=True)  # not frozen: that takes 2 us more a tick
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
    earlier: Callable[[Rows, int], NDArray[np.int16]] = lambda rows, n: np.zeros((n, rows.size, FRAME), np.int16)
    "The last n frames of these rows, this one included, as Ears asks for them. Of use until the next is heard."


class Ears:
    """State in arrays indexed by leg row, 0 to `capacity` - 1. Pure but for the model file read at construction.

    `earlier` is asked, within `hear` and by whom it told, for [n, k, 256]: the last n frames (at most
    AGAIN_FRAMES + 1) of k rows, oldest first and the present one last. Whoever has the frames keeps a few
    seconds of audio anyhow."""

    def __init__(self, capacity: int, earlier: Callable[[Rows, int], NDArray[np.int16]]) -> None:
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
        samples = frames.astype(np.float32)
        power = np.einsum("ij,ij->i", samples, samples) * TO_POWER
        level: Floats = TEN * np.log10(power + LEAST_POWER)
        speech = self._hear_speech(rows, samples, level)
        unheard = speech < f32.HINT
        known = self._bed[rows]
        bed = known.copy()
        np.putmask(bed, known < NO_BED, level)
        gap = (level < f32.GAP_DBFS) | (level < bed - f32.GAP_BELOW_BED_DB)
        louder = level > bed + f32.LOUDER_DB
        faint = level < bed - f32.FAINT_DB
        again = self._rest(rows, gap & unheard, unheard)
        sounding = unheard & ~gap
        bed += f32.BED_RATE * (level - bed)
        np.putmask(known, sounding, bed)
        self._bed[rows] = known
        tone = self._tones.hear(rows, samples, level, sounding, gap, self._music[rows])
        sounding &= ~tone
        music = self._hear_music(rows, speech, level, bed, unheard=unheard, sounding=sounding) & ~tone
        digital = _is_digital(frames, level)
        return Heard(
            rows, speech, level, digital, music, tone, gap, louder, faint, again, self._tones.name, self._earlier
        )

    def _hear_speech(self, rows: Rows, samples: Floats, level: Floats) -> Floats:
        """A leg on which all is faint is heard louder; what is quiet to everybody is not heard at all."""
        loudest = np.maximum(level, self._loudest[rows] - f32.LOUDEST_FALL_DB)
        self._loudest[rows] = loudest
        gain_db = np.minimum(np.maximum(f32.LOUD_ENOUGH_DBFS - loudest, ZERO), f32.GAIN_MOST_DB)
        gain = (TEN ** (gain_db / TWENTY) / FULL_SCALE)[:, None]
        steady_run = self._count_steady(rows, level)
        heard_at = level + gain_db * (loudest > f32.GAP_DBFS)  # where nothing was louder there is nobody yet
        doubtful = (heard_at >= f32.SKIP_DBFS) & (steady_run < i32.HISS_FRAMES)
        pick = doubtful.nonzero()[0]
        if pick.size == rows.size:
            speech = self._silero.speech(rows, samples, gain)
        else:
            speech = np.zeros(rows.size, np.float32)
            speech[pick] = self._silero.speech(rows[pick], samples.take(pick, 0), gain[pick])
            rest = (~doubtful).nonzero()[0]
            self._silero.skip(rows[rest], samples[rest, -CONTEXT:] * gain[rest])
        steady_run *= speech < f32.HISS_SPEECH
        self._steady_run[rows] = steady_run
        return speech

    def _count_steady(self, rows: Rows, level: Floats) -> NDArray[np.int32]:
        """For how many frames each row was faint and of a level that no voice keeps: the line itself. The first frame
        that moves is heard again."""
        slow = self._steady_dbfs[rows]
        moves = level - slow
        stays = (level < f32.HISS_DBFS) & (np.abs(moves) < f32.HISS_SWING_DB)
        self._steady_dbfs[rows] = np.where(stays, slow + f32.HISS_RATE * moves, level)
        run = self._steady_run[rows]
        run += ONE_MORE
        run *= stays
        return run

    def _rest(self, rows: Rows, gap: Flags, unheard: Flags) -> dict[int, Floats]:
        """A pause empties the recurrent state, and where steady noise or music leaves none, time: filled by them it is
        deaf to a voice 10 dB above. After music or tones its last answers are not trusted: heard again."""
        run = (self._gap_run[rows] + ONE_MORE) * gap
        self._gap_run[rows] = run
        rests = run == i32.GAP_FRAMES
        before = self._since_reset[rows]
        since = (before + ONE_MORE) * (run < i32.GAP_FRAMES)
        self._since_reset[rows] = since
        fills = (since % i32.STALE_FRAMES == LAST_STALE) & unheard
        pick = (rests | fills).nonzero()[0]
        if not pick.size:
            return {}
        row, rests = rows[pick], rests[pick]
        in_music, in_tone = self._music[row], self._tones.is_held(row)
        is_bed = ((self._swing[row] <= f32.STEADY_DB) & ~in_tone) | in_music
        self._silero.forget(row[rests | is_bed])
        stale = row[rests & (in_music | in_tone) & (before[pick] > at.STALE_FRAMES)]
        return self._hear_again(stale) if stale.size else {}

    def _hear_again(self, rows: Rows) -> dict[int, Floats]:
        """The last frames of these rows from an empty state, begun at several points: music before a word fills it
        again within a second. The best of the answers."""
        audio = self._earlier(rows, at.AGAIN_FRAMES + 1) * (np.float32(1.0) / FULL_SCALE)
        heard: dict[int, Floats] = {}
        for start in range(0, rows.size, AGAIN_MOST_ROWS):
            part = slice(start, start + AGAIN_MOST_ROWS)
            p = self._silero.afresh(audio[:, part], at.AGAIN_BEGINS)
            for n, begin in enumerate(at.AGAIN_BEGINS):
                p[n, begin : begin + at.AGAIN_BLIND] = 0.0
            best = p.max(axis=0)
            heard.update((int(row), best[:, n]) for n, row in enumerate(rows[part]))
        return heard

    def _hear_music(
        self, rows: Rows, speech: Floats, level: Floats, bed: Floats, *, unheard: Flags, sounding: Flags
    ) -> Flags:
        """Music is what goes on sounding, not steadily, and in which the model hears no voice."""
        slow, swing, was_music = self._slow[rows], self._swing[rows], self._music[rows]
        np.putmask(slow, slow <= NO_BED, level)
        np.putmask(slow, sounding, slow + f32.SWING_RATE * (level - slow))
        self._slow[rows] = slow
        np.putmask(swing, sounding, swing + f32.BED_RATE * (np.abs(slow - bed) - swing))
        self._swing[rows] = swing
        step = unheard * f32.MUSIC_QUIET_STEP
        np.putmask(step, speech > f32.SPEECH_ON, f32.MUSIC_SPEECH_STEP)
        np.putmask(step, sounding & (swing > f32.STEADY_DB), ONE)
        score = np.minimum(np.maximum(self._score[rows] + step, ZERO), f32.MUSIC_TOP)
        half_heard = was_music & (speech > f32.SPEECH_ON) & (speech <= f32.SURE)
        if np.count_nonzero(half_heard):  # singing, brass: it opens no gate in music, nor may it end what it would
            np.putmask(score, half_heard, np.maximum(score, f32.MUSIC_OFF))
        self._score[rows] = score
        music: Flags = (score >= f32.MUSIC_ON) | (was_music & (score >= f32.MUSIC_OFF))
        self._music[rows] = music
        return music


def _is_digital(frames: NDArray[np.int16], level: Floats) -> Flags:
    digital: Flags = level < f32.ZERO_DBFS
    if np.count_nonzero(digital):
        digital[digital] = (np.abs(frames[digital]) <= at.ZERO).all(axis=1)
    return digital
