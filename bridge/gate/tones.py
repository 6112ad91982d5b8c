"""Signalling tones by the purity of the spectrum: ringback, busy, dial, SIT, fax, beeps, and DTMF.

Runs only on rows that sound and in which the model hears no speech. A tone is one or two lines that hold most of the
energy and stay where they are; DTMF is told by its pair of frequencies (ITU-T Q.23), because its digits are short.
"""

from __future__ import annotations

import numpy as np
from numpy.fft import rfft
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.scalars import f32, i32
from bridge.gate.silero import FRAME, FULL_SCALE, Floats, Rows

Flags = NDArray[np.bool_]
Counts = NDArray[np.int32]
BIN_HZ = np.array(8000 / FRAME, np.float32)
LOW, HIGH = 5, 118  # bins: 156 to 3690 Hz, the telephone band
WINDOW: Floats = np.hanning(FRAME).astype(np.float32) / FULL_SCALE  # of samples as they come
DTMF_HZ = np.array([[697.0, 770.0, 852.0, 941.0], [1209.0, 1336.0, 1477.0, 1633.0]], np.float32)
IS_DIGITS: NDArray[np.bool_] = np.asarray(
    (np.abs(np.arange(0.5, 4000)[:, None, None] - DTMF_HZ) < at.DTMF_REACH_HZ).any(axis=2)
)  # by Hz: is it one of the lower lines, of the higher?
NAME_REACH_HZ = 14.0  # exchanges are off by 1 %, and a line lies between the bins
NAMES = {  # ITU-T E.180 supplement 2, Telcordia GR-506, T.30
    "ringback": (460.0, 460.0),  # 440 and 480: one line to a window of 32 ms
    "busy": (480.0, 620.0),
    "dial": (345.0, 433.0),  # 350 and 440, as the skirts of each move the other
    "fax": (1100.0, 1100.0),
    "fax+": (2100.0, 2100.0),
    "information": (950.0, 950.0),
}
REACH = 2  # bins to each side that belong to a line (Hann's main lobe)
LINE = np.arange(2 * REACH + 1)  # its bins, from the lowest
MOMENTS = np.stack([np.ones(LINE.size), LINE], axis=1).astype(np.float32)  # of a line: its energy, and where that lies
BINS = np.arange(LOW - REACH, HIGH + 1).astype(np.float32)  # of the spectrum, where a line may begin
ONE, NONE = np.array(1, np.int32), np.array(0, np.int32)
EACH_FOURTH = np.array(3, np.int32)  # of a tune's frames shows a note that begins a tenth of a second late, of 1.3 s
LEAST = np.array(1e-12, np.float32)  # so that silence has shares


class Tones:
    """Whether each row carries a signalling tone; state in arrays by row."""

    def __init__(self, capacity: int) -> None:
        self._lines = np.zeros((capacity, 2), np.float32)  # Hz, lower first
        self._level = np.zeros(capacity, np.float32)  # dBFS of the frame that showed them
        self._run = np.zeros(capacity, np.int32)  # frames that the same lines have stood
        self._digits = np.zeros(capacity, np.int32)  # frames of the same DTMF pair
        self._hold = np.zeros(capacity, np.int32)  # frames for which a cadence's pause still counts
        self._other = np.zeros(capacity, np.int32)  # frames of other sound in a row
        self._turn = np.zeros(capacity, np.int32)  # frames of music, modulo four

    def reset(self, row: int) -> None:
        """A new leg."""
        for array in (self._run, self._digits, self._hold, self._other, self._turn):
            array[row] = 0

    def name(self, row: int) -> str:
        """What the tone last heard in this row is, by its frequencies: `dtmf`, `fax`, `ringback`, `busy`, `dial`,
        `information` (SIT), else `tone`. Where one frequency serves for all, as 425 Hz in most of Europe, it is `tone`:
        only the cadence tells, and that is over when it is known."""
        low, high = (float(hz) for hz in self._lines[row])
        for name, (first, second) in NAMES.items():
            if abs(low - first) < NAME_REACH_HZ and abs(high - second) < NAME_REACH_HZ:
                return name.rstrip("+")
        return "dtmf" if _are_digits(self._lines[row : row + 1])[0] else "tone"

    def is_held(self, rows: Rows) -> Flags:
        """Is a tone, or the pause of its cadence, the last thing heard?"""
        held: Flags = self._hold[rows] > 0
        return held

    def hear(self, rows: Rows, samples: Floats, level: Floats, candidates: Flags, quiet: Flags, music: Flags) -> Flags:
        """`samples`: [k, 256], not scaled. `candidates`: rows that sound without speech; `quiet`: those in a pause; all
        other sound ends a tone. Within `music` a tone must stand much longer, as tunes have long notes, and where no
        line stands only every fourth frame is listened to."""
        heard = np.zeros(rows.size, np.bool_)
        pick = (self._worth_a_look(rows, candidates, music) if np.count_nonzero(music) else candidates).nonzero()[0]
        if pick.size:
            heard[pick] = self._hear_lines(rows[pick], samples.take(pick, 0), level[pick])
        speech = rows[~(candidates | quiet)]
        self._run[speech] = self._digits[speech] = 0
        run = self._run[rows]
        if np.count_nonzero(heard):
            heard &= ~music | (run >= i32.TONE_IN_MUSIC_FRAMES)
        other = (self._other[rows] + ONE) * ~(quiet | heard | (run > NONE))
        self._other[rows] = other
        hold = np.maximum(self._hold[rows] - ONE, NONE)
        np.putmask(hold, heard, i32.TONE_HOLD_FRAMES)
        np.putmask(hold, other >= i32.TONE_OTHER_FRAMES, NONE)
        self._hold[rows] = hold
        tone: Flags = hold > NONE
        return tone

    def _worth_a_look(self, rows: Rows, candidates: Flags, music: Flags) -> Flags:
        """Of the candidates: those not within music, those in which a line stands, and of the others one in four."""
        turn = self._turn[rows] + ONE
        turn &= EACH_FOURTH
        self._turn[rows] = turn
        rests = (turn != NONE) & (self._run[rows] == NONE)
        rests &= music
        worth: Flags = candidates & ~rests
        return worth

    def _hear_lines(self, rows: Rows, samples: Floats, level: Floats) -> Flags:
        """Whether the same one or two lines have stood for long enough, in each of the candidates."""
        band = rfft(samples * WINDOW)[:, LOW - REACH : HIGH + REACH + 1]
        power: Floats = (band.real**2 + band.imag**2).astype(np.float32, copy=False)
        total = power.sum(axis=1) + LEAST
        peaked = np.einsum("ij,ij->i", power, power) > f32.TONE_PEAKED * total * total  # cheap, and settles most
        run, digits = np.maximum(self._run[rows] - i32.TONE_MISS, NONE), np.zeros(rows.size, np.int32)
        pick = peaked.nonzero()[0]
        if pick.size:
            lines, pure = _find_lines(power.take(pick, 0), total[pick])
            pick, lines = pick[pure], lines[pure]
            run[pick], digits[pick] = self._stand(rows[pick], lines, level[pick])
        self._run[rows], self._digits[rows] = run, digits
        heard: Flags = (run >= i32.TONE_FRAMES) | (digits >= i32.DTMF_FRAMES)
        return heard

    def _stand(self, rows: Rows, lines: Floats, level: Floats) -> tuple[Counts, Counts]:
        """For how many frames the same lines, and the same DTMF pair, have been there. `lines` [k, 2] in Hz."""
        moved = np.abs(lines - self._lines[rows]).max(axis=1)
        same = (moved < f32.TONE_DRIFT_HZ) & (np.abs(level - self._level[rows]) < f32.TONE_DRIFT_DB)
        self._lines[rows], self._level[rows] = lines, level
        return self._run[rows] * same + ONE, (self._digits[rows] * same + ONE) * _are_digits(lines)


def _find_lines(power: Floats, total: Floats) -> tuple[Floats, Flags]:
    """The two strongest lines in Hz [k, 2], lower first, and whether they hold nearly all of the energy."""
    first, one = _take_line(power)
    second, two = _take_line(power)
    np.copyto(second, first, where=two < f32.TONE_SECOND_SHARE * one)
    lines = np.empty((len(power), 2), np.float32)
    np.minimum(first, second, lines[:, 0])
    np.maximum(first, second, lines[:, 1])
    lines *= BIN_HZ
    return lines, one + two > f32.TONE_PURITY * total


def _take_line(power: Floats) -> tuple[Floats, Floats]:
    """The strongest line's frequency in bins and its energy; the line is taken out of `power`."""
    count, width = power.shape
    lowest = power[:, REACH:-REACH].argmax(axis=1)
    places = (lowest + np.arange(0, count * width, width))[:, None] + LINE
    flat = power.ravel()
    sums = flat.take(places) @ MOMENTS
    flat[places] = 0.0
    energy = sums[:, 0] + LEAST
    return sums[:, 1] / energy + BINS[lowest], energy


def _are_digits(lines: Floats) -> Flags:
    """Pairs of lines that are a DTMF digit's."""
    low, high = lines.astype(np.intp).T
    digits: Flags = IS_DIGITS[low, 0] & IS_DIGITS[high, 1]
    return digits
