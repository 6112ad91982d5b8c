"""What the last two seconds of each leg say to two questions: does somebody speak, and where did it begin?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.ears import Flags, Heard
from bridge.gate.scalars import f32
from bridge.gate.silero import Floats, Rows
from bridge.model import POSITION_HZ

PER_MS = POSITION_HZ // 1000
NOTHING_DBFS = -70.0  # a floor lower than this is digital silence
RING = 64  # frames remembered, 2 s
RING_BITS, LAST = np.array(6), np.array(RING - 1)
NEWEST_FIRST = (np.arange(RING)[:, None] - np.arange(at.LOOKBACK_FRAMES)) % RING  # by the newest one's place
ONE = np.array(1)

Bits = NDArray[np.uint64]  # one a frame, the newest lowest


def mask(frames: int) -> Bits:
    """The newest `frames` of a history."""
    return np.array((1 << frames) - 1, np.uint64)


BIT, TWO_BITS = np.array(1, np.uint64), np.array(2, np.uint64)
ON = mask(at.ON_FRAMES)


class Evidence:
    """State in arrays by row."""

    def __init__(self, capacity: int) -> None:
        self._hits = np.zeros(capacity, np.uint64)  # speech?
        self._weak = np.zeros(capacity, np.uint64)  # perhaps speech?
        self._sure = np.zeros(capacity, np.uint64)  # speech beyond doubt?
        self._gaps = np.zeros(capacity, np.uint64)  # quiet?
        self._louder = np.zeros(capacity, np.uint64)  # louder than the bed?
        self._speech = np.zeros((capacity, RING), np.float32)  # probability of speech in each of the last frames
        self._level = np.zeros((capacity, RING), np.float32)  # dBFS, NaN before there was any
        self._slot = np.zeros(capacity, np.intp)  # of the newest frame in both

    def reset(self, row: int) -> None:
        """A new leg."""
        for bits in (self._hits, self._weak, self._sure, self._gaps, self._louder):
            bits[row] = 0
        self._speech[row] = 0.0
        self._level[row] = np.nan

    def forget(self, rows: Rows | int) -> None:
        """A hold, an absence: what was said before it is no evidence of what is said behind it."""
        self._hits[rows] = self._weak[rows] = self._sure[rows] = 0

    def believes(self, heard: Heard, talks: Flags) -> Flags:
        """Takes in one frame of each row, once. Is what was heard in the last frames speech? Two frames are enough, but
        not within music. `talks`: the frames that Silero itself calls speech."""
        rows, speech, level = heard.rows, heard.speech, heard.level_dbfs
        slot = (self._slot[rows] + ONE) & LAST
        self._slot[rows] = slot
        place = (rows << RING_BITS) + slot
        self._speech.ravel()[place] = speech
        self._level.ravel()[place] = level
        for row, again in heard.again.items():
            self._revise(row, again)
        doubtful = heard.music | heard.tone
        is_any_doubtful = np.count_nonzero(doubtful)
        hit = talks & ~(doubtful & heard.faint) if is_any_doubtful else talks
        is_weak = (speech > f32.WEAK) & (level < f32.WEAK_DBFS)
        hits = _push(self._hits, rows, hit)
        weak = _push(self._weak, rows, is_weak)
        _push(self._sure, rows, hit & (speech > f32.SURE))
        _push(self._gaps, rows, heard.gap)
        _push(self._louder, rows, heard.louder)
        believes: Flags = hits & ON == ON
        if np.count_nonzero(is_weak):  # not of a voice that has just ended
            believes |= is_weak & (_count(weak, WEAK_WINDOW) >= at.WEAK_FRAMES)
        if is_any_doubtful:
            believes &= ~doubtful
            pick = (doubtful & hit).nonzero()[0]
            if pick.size:
                believes[pick] = self._believes_in_doubt(rows[pick])
        for row, again in heard.again.items():
            is_speech = (again > at.SPEECH_ON).sum() >= at.AGAIN_SPEECH_FRAMES
            believes |= (rows == row) & is_speech & ((again > at.SURE).sum() >= at.SURE_FRAMES)
        return believes

    def _believes_in_doubt(self, rows: Rows) -> Flags:
        """Rows in which speech was heard just now, within music or a tone: is there more evidence?"""
        hits, sure, gaps = self._hits[rows], self._sure[rows], self._gaps[rows]
        n_sure, n_hits = _count(sure, AFTER_GAP_WINDOW), _count(hits, AFTER_GAP_WINDOW)
        is_sure = n_sure >= at.SURE_FRAMES
        stands_out = is_sure & (_count(hits & self._louder[rows], LOUDER_WINDOW) >= at.LOUDER_FRAMES)
        pauses = gaps & gaps >> BIT
        pauses &= pauses >> TWO_BITS
        paused = (pauses & GAP_WINDOW != 0) | (is_sure & (gaps & GAP_WINDOW != 0))
        after_gap = (n_hits >= at.AFTER_GAP_FRAMES) & paused
        evident = n_sure >= at.EVIDENT_FRAMES
        long_enough = _count(hits, DOUBT_WINDOW) >= at.DOUBT_FRAMES
        long_enough &= _count(sure, DOUBT_WINDOW) >= at.DOUBT_SURE_FRAMES
        believes: Flags = stands_out | after_gap | long_enough | evident
        return believes

    def _revise(self, row: int, speech: Floats) -> None:
        """The ears have heard the last frames again: that is what was said."""
        slots = (self._slot[row] - np.arange(len(speech))[::-1]) % RING
        self._speech[row, slots] = speech

    def onset(self, row: int, preroll: int, *, is_doubtful: bool) -> tuple[int, int]:
        """Somebody speaks. Answers for how many frames already, and how many samples before that are to be sent, given
        the most that the settings want sent."""
        order = NEWEST_FIRST[self._slot[row]]
        speech, level = self._speech[row].take(order), self._level[row].take(order)
        hints = np.flatnonzero(speech[: at.DOUBT_LOOKBACK_FRAMES if is_doubtful else None] > at.HINT)
        if is_doubtful:
            hints = _of_the_words(hints, speech)
        first = int(hints[-1]) if hints.size else at.ON_FRAMES - 1
        n_known = np.count_nonzero(level == level)  # the others are NaN
        floor = max(float(np.sort(level)[n_known // 10]), NOTHING_DBFS)  # NaN comes last
        rising = level > max(floor + at.RISE_DB, at.GAP_DBFS)
        if is_doubtful:
            rising &= [bool(int(self._louder[row]) >> n & 1) for n in range(at.LOOKBACK_FRAMES)]
        while first + 1 < at.LOOKBACK_FRAMES and rising[first + 1]:
            first += 1
        lead = preroll
        before = level[first + 1 : first + 4]
        if before.size and (before < max(floor + at.RISE_DB, at.GAP_DBFS)).all():
            lead = min(lead, at.QUIET_LEAD_MS * PER_MS)
        elif (is_doubtful or floor > at.GAP_DBFS) and not int(self._gaps[row]) & int(LOOKBACK):
            lead += at.DOUBT_LEAD_MS * PER_MS
        return first + 1, lead


WEAK_WINDOW, AFTER_GAP_WINDOW, LOUDER_WINDOW = mask(at.WEAK_WINDOW), mask(at.AFTER_GAP_WINDOW), mask(at.LOUDER_WINDOW)
GAP_WINDOW, DOUBT_WINDOW, LOOKBACK = mask(at.GAP_WINDOW), mask(at.DOUBT_WINDOW), mask(at.LOOKBACK_FRAMES)


def _of_the_words(hints: Rows, speech: Floats) -> Rows:
    """Frames that hint at speech, newest first, but for those that lie apart from the words: music has its own."""
    newest, *older = np.split(hints, np.flatnonzero(np.diff(hints) > at.HINTS_APART_FRAMES) + 1)
    spoken = [group for group in older if np.count_nonzero(speech[group] > at.SPEECH_ON) >= at.HINTS_SPOKEN_FRAMES]
    return spoken[-1] if spoken else newest


def _push(histories: Bits, rows: Rows, newest: Flags) -> Bits:
    bits = histories[rows]
    bits += bits
    bits |= newest
    histories[rows] = bits
    return bits


def _count(bits: Bits, window: Bits) -> NDArray[np.uint8]:
    count: NDArray[np.uint8] = np.bitwise_count(bits & window)
    return count
