"""Signalling tones by the purity of the spectrum: ringback, busy, dial, SIT, fax, beeps, and DTMF.

Runs only on rows that sound and in which the model hears no speech. A tone is one or two lines that hold most of the
energy and stay where they are; DTMF is told by its pair of frequencies (ITU-T Q.23), because its digits are short.
"""

from __future__ import annotations

import numpy as np
from numpy.fft import rfft
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.silero import FRAME, Floats, Rows

Flags = NDArray[np.bool_]
BIN_HZ = 8000 / FRAME
LOW, HIGH = 5, 118  # bins: 156 to 3690 Hz, the telephone band
WINDOW = np.hanning(FRAME).astype(np.float32)
DTMF_LOW_HZ = np.array([697.0, 770.0, 852.0, 941.0], np.float32)
DTMF_HIGH_HZ = np.array([1209.0, 1336.0, 1477.0, 1633.0], np.float32)
NAME_REACH_HZ = 14.0  # exchanges are off by 1 %, and a line lies between the bins
NAMES = {  # ITU-T E.180 supplement 2, Telcordia GR-506, T.30
    "ringback": (460.0, 460.0),  # 440 and 480: one line to a window of 32 ms
    "busy": (480.0, 620.0),
    "dial": (345.0, 433.0),  # 350 and 440, as the skirts of each move the other
    "fax": (1100.0, 1100.0),
    "fax+": (2100.0, 2100.0),
    "information": (950.0, 950.0),
}
NOWHERE_HZ = -1e6  # of a frame without lines
REACH = 2  # bins to each side that belong to a line (Hann's main lobe)


class Tones:
    """Whether each row carries a signalling tone; state in arrays by row."""

    def __init__(self, capacity: int) -> None:
        self._lines = np.zeros((capacity, 2), np.float32)  # Hz, lower first
        self._level = np.zeros(capacity, np.float32)  # dBFS of the frame that showed them
        self._run = np.zeros(capacity, np.int32)  # frames that the same lines have stood
        self._digits = np.zeros(capacity, np.int32)  # frames of the same DTMF pair
        self._hold = np.zeros(capacity, np.int32)  # frames for which a cadence's pause still counts
        self._other = np.zeros(capacity, np.int32)  # frames of other sound in a row

    def reset(self, row: int) -> None:
        """A new leg."""
        for array in (self._run, self._digits, self._hold, self._other):
            array[row] = 0

    def name(self, row: int) -> str:
        """What the tone last heard in this row is, by its frequencies: `dtmf`, `fax`, `ringback`, `busy`, `dial`,
        `information` (SIT), else `tone`. Where one frequency serves for all, as 425 Hz in most of Europe, it is `tone`:
        only the cadence tells, and that is over when it is known."""
        low, high = (float(hz) for hz in self._lines[row])
        for name, (first, second) in NAMES.items():
            if abs(low - first) < NAME_REACH_HZ and abs(high - second) < NAME_REACH_HZ:
                return name.rstrip("+")
        pair = self._lines[row : row + 1]
        is_digit = _is_near(pair[:, 0], DTMF_LOW_HZ) & _is_near(pair[:, 1], DTMF_HIGH_HZ)
        return "dtmf" if is_digit[0] else "tone"

    def is_held(self, rows: Rows) -> Flags:
        """Is a tone, or the pause of its cadence, the last thing heard?"""
        held: Flags = self._hold[rows] > 0
        return held

    def hear(self, rows: Rows, audio: Floats, level: Floats, candidates: Flags, quiet: Flags, music: Flags) -> Flags:
        """`candidates`: rows that sound without speech; `quiet`: those in a pause; all other sound ends a tone.
        Within `music` a tone must stand much longer: tunes have long notes."""
        heard = np.zeros(rows.size, np.bool_)
        if candidates.any():
            heard[candidates] = self._hear_lines(rows[candidates], audio[candidates], level[candidates])
            heard &= ~music | (self._run[rows] >= at.TONE_IN_MUSIC_FRAMES)
        speech = rows[~candidates & ~quiet]
        self._run[speech] = self._digits[speech] = 0
        other = self._other[rows] = np.where(quiet | heard | (self._run[rows] > 0), 0, self._other[rows] + 1)
        hold = np.where(heard, at.TONE_HOLD_FRAMES, np.maximum(self._hold[rows] - 1, 0))
        hold = np.where(other >= at.TONE_OTHER_FRAMES, 0, hold)
        self._hold[rows] = hold
        tone: Flags = hold > 0
        return tone

    def _hear_lines(self, rows: Rows, audio: Floats, level: Floats) -> Flags:
        spectrum = rfft(audio * WINDOW)
        power: Floats = (spectrum.real**2 + spectrum.imag**2)[:, LOW - REACH : HIGH + REACH + 1].astype(np.float32)
        total = power.sum(axis=1) + np.float32(1e-12)
        lines = np.full((rows.size, 2), NOWHERE_HZ, np.float32)
        pure = np.einsum("ij,ij->i", power, power) > at.TONE_PEAKED * total * total  # cheap, and settles most
        if pure.any():
            lines[pure], pure[pure] = _find_lines(power[pure], total[pure])
        same = (np.abs(lines - self._lines[rows]) < at.TONE_DRIFT_HZ).all(axis=1)
        same &= np.abs(level - self._level[rows]) < at.TONE_DRIFT_DB
        run = np.where(pure, np.where(same, self._run[rows] + 1, 1), np.maximum(self._run[rows] - at.TONE_MISS, 0))
        is_digit = pure & _is_near(lines[:, 0], DTMF_LOW_HZ) & _is_near(lines[:, 1], DTMF_HIGH_HZ)
        digits = np.where(is_digit, np.where(same, self._digits[rows] + 1, 1), 0)
        self._run[rows], self._digits[rows] = run, digits
        self._lines[rows[pure]], self._level[rows[pure]] = lines[pure], level[pure]
        heard: Flags = (run >= at.TONE_FRAMES) | (digits >= at.DTMF_FRAMES)
        return heard


def _find_lines(power: Floats, total: Floats) -> tuple[Floats, Flags]:
    """The two strongest lines in Hz [k, 2], and whether they hold nearly all of the energy."""
    first, one = _take_line(power)
    second, two = _take_line(power)
    second = np.where(two < at.TONE_SECOND_SHARE * one, first, second)
    lines = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
    return lines, one + two > at.TONE_PURITY * total


def _take_line(power: Floats) -> tuple[Floats, Floats]:
    """The strongest line's frequency in Hz and its energy; the line is taken out of `power`."""
    count = np.arange(len(power))
    peak = np.clip(power[:, REACH:-REACH].argmax(axis=1) + REACH, REACH, power.shape[1] - REACH - 1)
    around = peak[:, None] + np.arange(-REACH, REACH + 1)
    line = power[count[:, None], around]
    energy = line.sum(axis=1) + np.float32(1e-12)
    centre = (line * around).sum(axis=1) / energy + (LOW - REACH)
    power[count[:, None], around] = 0.0
    return (centre * BIN_HZ).astype(np.float32), energy


def _is_near(line: Floats, wanted: NDArray[np.float32]) -> Flags:
    near: Flags = (np.abs(line[:, None] - wanted) < at.DTMF_REACH_HZ).any(axis=1)
    return near
