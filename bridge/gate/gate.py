"""The gate: per leg, is audio sent to the provider, and if not, why not. Signalling outranks sound.

A table in arrays: `hear` costs a few dozen NumPy calls for all legs, and Python only for a leg whose gate moves.
Positions are samples at 8 kHz of the leg's received audio (bridge.model.POSITION_HZ).

    mode     withholds
    off      paused
    hold     paused hold mute music tone
    speech   paused hold mute music tone silence
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.config import GateSettings
from bridge.gate import thresholds as at
from bridge.gate.ears import FRAME, Flags, Heard
from bridge.gate.silero import Floats, Rows
from bridge.model import POSITION_HZ, Cause

CAUSES = tuple(Cause)  # strongest first; the arrays hold indices into it
SIGNALLED = 3  # the first three can be told: paused, hold, mute
PAUSED, HOLD, MUTE, MUSIC, TONE, SILENCE = range(len(CAUSES))
OPEN = len(CAUSES)  # "no cause" in the arrays
MODES = {"off": 0, "hold": 1, "speech": 2}
PER_MS = POSITION_HZ // 1000
RING = 64  # frames remembered, 2 s
FAR = 1 << 62  # a position never reached
NOTHING_DBFS = -70.0  # a floor lower than this is digital silence

Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Change:
    """A gate opens, closes, or stays closed for another cause."""

    row: int
    is_open: bool
    cause: Cause | None
    position: int
    "Opening: audio is sent from here on, look-back included. Closing: audio up to here is still sent, then Finalize."
    reason: str
    "Why, in a few words, for logs and the console."
    speech_end: int
    "Where speech was last heard; for turns."
    signalled_at: int = 0
    """Where the leg stood when a cause was signalled: behind `position` in the hangover, whose silence is not sent."""


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody begins to speak at `position` (as far as can be told), or has stopped at it. In every mode."""

    row: int
    is_speaking: bool
    position: int


class Gates:
    """The gates of all legs, by row."""

    def __init__(self, capacity: int) -> None:
        self.is_open: Flags = np.zeros(capacity, np.bool_)
        self.is_signalled: Flags = np.zeros(capacity, np.bool_)
        "Paused, held or muted by signalling that the mode obeys: need not be heard (Ears.reset before it is again)."
        self.speech_end = np.zeros(capacity, np.int64)
        self.send_to = np.full(capacity, FAR, np.int64)
        """Where an open leg's audio may be sent up to for now. It stands still once nobody has spoken for a while: what
        lies behind it is sent when speech goes on, and withheld when the gate closes."""
        self._cause = np.full(capacity, SILENCE, np.int8)
        self._signals = np.zeros((capacity, SIGNALLED), np.bool_)
        self._mode = np.zeros(capacity, np.int8)
        self._withholds_music = np.zeros(capacity, np.bool_)
        self._preroll = np.zeros(capacity, np.int64)
        self._hangover = np.zeros(capacity, np.int64)
        self._mute_after = np.zeros(capacity, np.int64)
        self._turn_end = np.zeros(capacity, np.int64)
        self._tail = np.zeros(capacity, np.int64)  # where the last word's sound had faded
        self._sent_to = np.zeros(capacity, np.int64)  # where the gate last closed: audio before this was sent
        self._barrier = np.zeros(capacity, np.int64)  # where the last hold, mute or pause ended
        self._dead = np.zeros(capacity, np.int64)  # samples of digital silence or absence up to now
        self._speaking = np.zeros(capacity, np.bool_)
        self._hits = np.zeros(capacity, np.uint64)  # one bit a frame: speech? newest lowest
        self._weak = np.zeros(capacity, np.uint64)  # one bit a frame: perhaps speech?
        self._sure = np.zeros(capacity, np.uint64)  # one bit a frame: speech beyond doubt?
        self._gaps = np.zeros(capacity, np.uint64)  # one bit a frame: quiet? newest lowest
        self._louder = np.zeros(capacity, np.uint64)  # one bit a frame: louder than the bed?
        self._past = np.zeros((2, capacity, RING), np.float32)  # probability of speech and level of the last 2 s
        self._slot = np.zeros(capacity, np.intp)
        self._loudness = np.zeros(capacity, np.float32)  # level of this voice's loud frames, dBFS
        self._floor = np.zeros(capacity, np.float32)  # level of the line's quietest frames, rising slowly
        self._spoken = np.zeros(capacity, np.int32)  # frames of speech since the voice began
        self._voices: list[Voice] = []
        self._stirs: list[int] = []

    def open_leg(self, row: int, settings: GateSettings, position: int) -> list[Change]:
        """A leg begins in this row. Answers the state it begins in."""
        self._obey(row, settings)
        for flags in (self.is_open, self.is_signalled, self._speaking, self._signals):
            flags[row] = False
        for array in (self._dead, self._hits, self._weak, self._sure, self._gaps, self._louder):
            array[row] = 0
        self._past[0, row] = 0.0
        self._past[1, row] = np.nan
        self._loudness[row] = NOTHING_DBFS
        self._floor[row] = 0.0
        for array in (self.speech_end, self._tail, self._sent_to, self._barrier):
            array[row] = position
        cause = SILENCE if settings.mode == "speech" else OPEN
        return [self._change(row, cause, position, "start")]

    def _obey(self, row: int, settings: GateSettings) -> None:
        self._mode[row] = MODES[settings.mode]
        self._withholds_music[row] = settings.music
        self._preroll[row] = settings.preroll_ms * PER_MS
        self._hangover[row] = settings.hangover_ms * PER_MS
        self._mute_after[row] = settings.mute_after_ms * PER_MS
        self._turn_end[row] = settings.turn_end_ms * PER_MS

    def adjust(self, row: int, settings: GateSettings, position: int) -> list[Change]:
        """Other settings for a leg that runs. What they make of what is known is in force at once; nothing of what
        was withheld before is sent."""
        self._obey(row, settings)
        wanted = int(self._told(row))
        if self.is_signalled[row] or wanted != OPEN:
            self.is_signalled[row] = wanted != OPEN
            self._barrier[row] = position
            self._stop_speaking(row)
        elif self._withholds(settings, int(self._cause[row])):
            wanted = int(self._cause[row])
        if wanted == OPEN and settings.mode == "speech" and not self._speaking[row]:
            wanted = SILENCE
        return self._move(row, wanted, position, "settings")

    def _withholds(self, settings: GateSettings, cause: int) -> bool:
        """Is a cause that was heard one for which these settings close?"""
        if cause in (MUTE, TONE):
            return settings.mode != "off"
        return cause == MUSIC and settings.mode != "off" and settings.music

    def close_leg(self, row: int) -> None:
        """The leg has ended; its row may be used again."""
        self.is_open[row] = self.is_signalled[row] = self._speaking[row] = False
        self._voices = [voice for voice in self._voices if voice.row != row]
        self._stirs = [other for other in self._stirs if other != row]

    def take_voices(self) -> list[Voice]:
        """Who began and who stopped speaking since the last call, in order. For turns; independent of the mode."""
        voices, self._voices = self._voices, []
        return voices

    def take_stirs(self) -> list[int]:
        """The rows in which, about when a turn is due, something was heard that may turn out to be speech: one entry a
        frame. For turns, which had better not end just then; independent of the mode."""
        stirs, self._stirs = self._stirs, []
        return stirs

    def signal(self, row: int, cause: Cause, on: bool, position: int) -> list[Change]:
        """Hold, mute or pause was signalled or asked for, or has ended. In force at once, idempotent."""
        which = CAUSES.index(cause)
        if self._signals[row, which] == on:
            return []
        self._signals[row, which] = on
        wanted = int(self._told(row))
        if wanted == OPEN and not self.is_signalled[row]:
            return []  # the mode does not obey it
        self.is_signalled[row] = wanted != OPEN
        self._barrier[row] = position
        self._hits[row] = self._weak[row] = self._sure[row] = self._dead[row] = 0
        self._stop_speaking(row)
        if wanted == OPEN and self._mode[row] == MODES["speech"]:
            wanted = SILENCE
        return self._move(row, wanted, position, f"{cause} {'signalled' if on else 'ended'}")

    def absent(self, rows: Rows, seconds: NDArray[np.float64], positions: Positions) -> list[Change]:
        """No RTP, or comfort noise, for `seconds` in these rows; their `positions` stand still meanwhile."""
        gone = (seconds * POSITION_HZ).astype(np.int64)
        self._dead[rows] = np.maximum(self._dead[rows], gone)
        self._hits[rows] = self._weak[rows] = self._sure[rows] = 0
        is_over = self._speaking[rows] & (positions - self.speech_end[rows] + gone >= self._hangover[rows])
        for row in rows[is_over]:
            self._stop_speaking(int(row))
        nothing = np.zeros(rows.size, np.bool_)
        return self._settle(rows, self._wanted(rows, nothing, nothing), positions, positions, "no rtp")

    def hear(self, heard: Heard, positions: Positions) -> list[Change]:
        """What the ears heard in one frame of each row; `positions` are the frames' ends."""
        rows = heard.rows
        leaves_mute = (self._dead[rows] >= self._mute_after[rows]) & ~heard.digital
        self._barrier[rows[leaves_mute]] = positions[leaves_mute] - FRAME
        self._dead[rows] = np.where(heard.digital, self._dead[rows] + FRAME, 0)
        opens_at = self._listen(heard, positions)
        wanted = self._wanted(rows, heard.music, heard.tone)
        return self._settle(rows, wanted, opens_at, positions, heard)

    def _listen(self, heard: Heard, positions: Positions) -> Positions:
        """Who speaks. Answers from where on each row would be sent, were it opened now."""
        rows = heard.rows
        slot = self._slot[rows] = (self._slot[rows] + 1) % RING
        self._past[0, rows, slot] = heard.speech
        self._past[1, rows, slot] = heard.level_dbfs
        floor = np.minimum(heard.level_dbfs, self._floor[rows] + at.FLOOR_RISE_DB)
        self._floor[rows] = np.maximum(floor, NOTHING_DBFS)
        speaking = self._speaking[rows]
        begins = self._believes(heard) & ~speaking & ~self.is_signalled[rows]
        goes_on = speaking & (heard.speech > at.SPEECH_KEEP)
        voiced = begins | goes_on
        silence = positions - self.speech_end[rows] - self._turn_end[rows]
        stirs = ~voiced & (heard.speech > at.STIR)
        stirs &= (silence > -at.STIR_BEFORE_MS * PER_MS) & (silence < at.STIR_BEHIND_MS * PER_MS)
        self._stirs += rows[stirs].tolist()
        self.speech_end[rows[voiced]] = positions[voiced]
        self._spoken[rows] = np.where(begins, 0, self._spoken[rows] + (heard.speech > at.SPEECH_ON))
        is_brief = (self._spoken[rows] < at.BRIEF_FRAMES) & (heard.speech < at.BRIEF_SPEECH)
        is_brief &= heard.level_dbfs > self._loudness[rows] - at.BRIEF_DEPTH_DB
        hangover = np.where(is_brief, at.BRIEF_HANGOVER_MS * PER_MS, self._hangover[rows])
        ends = speaking & ~voiced & (positions - self.speech_end[rows] >= hangover - FRAME // 2)
        self._keep_back(heard, positions, patient=speaking & ~voiced & (self._mode[rows] == MODES["speech"]))
        opens_at = positions - FRAME
        for n in np.flatnonzero(begins):
            opens_at[n] = self._begin(int(rows[n]), int(positions[n]), is_doubtful=bool(heard.music[n] | heard.tone[n]))
        for row in rows[ends]:
            self._stop_speaking(int(row))
        return opens_at

    def _keep_back(self, heard: Heard, positions: Positions, *, patient: Flags) -> None:
        """In the hangover, audio behind the tail of the last sound waits: it is sent if speech goes on."""
        rows = heard.rows
        loudness = self._loudness[rows]
        louder = np.maximum(heard.level_dbfs, loudness - at.LOUDNESS_FALL_DB)
        loudness = np.where(heard.speech > at.SPEECH_ON, louder, loudness)
        self._loudness[rows] = loudness
        quiet = np.minimum(at.GAP_DBFS, loudness - at.GAP_BELOW_BED_DB)  # a faint voice's last sounds are fainter still
        quiet = np.maximum(quiet, self._floor[rows] + at.TAIL_ABOVE_FLOOR_DB)
        audible = ~heard.gap | (heard.level_dbfs > quiet)
        sounds = audible & (heard.level_dbfs > loudness - at.TAIL_DEPTH_DB)
        tail = self._tail[rows]
        is_tail = audible & (heard.level_dbfs > loudness - at.FADE_DEPTH_DB)
        is_tail &= heard.level_dbfs > self._floor[rows] + at.TAIL_ABOVE_FLOOR_DB
        is_tail &= heard.level_dbfs < loudness - at.FADE_BELOW_DB
        is_tail &= (tail >= positions - FRAME) & (positions - self.speech_end[rows] <= at.FADE_MS * PER_MS)
        self._tail[rows] = np.where(is_tail, positions, np.maximum(tail, self.speech_end[rows]))
        kept_from = np.where(sounds, positions, self.speech_end[rows]) + at.TAIL_MS * PER_MS
        kept_from = np.where(self.send_to[rows] == FAR, kept_from, np.where(sounds, kept_from, self.send_to[rows]))
        self.send_to[rows] = np.where(patient, kept_from, FAR)

    def _believes(self, heard: Heard) -> Flags:
        """Is what was heard in the last frames speech? Two frames are enough, but not within music."""
        rows = heard.rows
        for row, speech in heard.again.items():
            self._revise(row, speech)
        doubtful = heard.music | heard.tone
        hit = (heard.speech > at.SPEECH_ON) & ~(doubtful & heard.faint)
        hits = self._hits[rows] = (self._hits[rows] << np.uint64(1)) | hit
        sure = self._sure[rows] = (self._sure[rows] << np.uint64(1)) | (hit & (heard.speech > at.SURE))
        gaps = self._gaps[rows] = (self._gaps[rows] << np.uint64(1)) | heard.gap
        louder = self._louder[rows] = (self._louder[rows] << np.uint64(1)) | heard.louder
        is_weak = (heard.speech > at.WEAK) & (heard.level_dbfs < at.WEAK_DBFS)
        weak = self._weak[rows] = (self._weak[rows] << np.uint64(1)) | is_weak
        believes: Flags = hits & _mask(at.ON_FRAMES) == _mask(at.ON_FRAMES)
        believes |= is_weak & (_count(weak, at.WEAK_WINDOW) >= at.WEAK_FRAMES)  # not of a voice that has just ended
        if doubtful.any():
            is_sure = _count(sure, at.AFTER_GAP_WINDOW) >= at.SURE_FRAMES
            stands_out = is_sure & (_count(hits & louder, at.LOUDER_WINDOW) >= at.LOUDER_FRAMES)
            pauses = gaps & gaps >> np.uint64(1)
            pauses &= pauses >> np.uint64(2)
            after_gap = (_count(hits, at.AFTER_GAP_WINDOW) >= at.AFTER_GAP_FRAMES) & (
                (pauses & _mask(at.GAP_WINDOW) != 0) | (is_sure & (gaps & _mask(at.GAP_WINDOW) != 0)))  # fmt: skip
            evident = _count(sure, at.AFTER_GAP_WINDOW) >= at.EVIDENT_FRAMES
            long_enough = (_count(hits, at.DOUBT_WINDOW) >= at.DOUBT_FRAMES) & (
                _count(sure, at.DOUBT_WINDOW) >= at.DOUBT_SURE_FRAMES)  # fmt: skip
            believes = np.where(doubtful, hit & (stands_out | after_gap | long_enough | evident), believes)
        for row, speech in heard.again.items():
            is_speech = (speech > at.SPEECH_ON).sum() >= at.AGAIN_SPEECH_FRAMES
            believes |= (rows == row) & is_speech & ((speech > at.SURE).sum() >= at.SURE_FRAMES)
        return believes

    def _revise(self, row: int, speech: Floats) -> None:
        """The ears have heard the last frames again: that is what was said."""
        slots = (self._slot[row] - np.arange(len(speech))[::-1]) % RING
        self._past[0, row, slots] = speech

    def _begin(self, row: int, position: int, *, is_doubtful: bool) -> int:
        """Somebody speaks. Answers where to send from: the onset, less the pre-roll."""
        order = (self._slot[row] - np.arange(at.LOOKBACK_FRAMES)) % RING  # newest first
        speech, level = self._past[0, row, order], self._past[1, row, order]
        hints = np.flatnonzero(speech[: at.DOUBT_LOOKBACK_FRAMES if is_doubtful else None] > at.HINT)
        first = int(hints[-1]) if hints.size else at.ON_FRAMES - 1
        known = np.sort(level[~np.isnan(level)])
        floor = max(float(known[len(known) // 10]), NOTHING_DBFS)
        rising = level > max(floor + at.RISE_DB, at.GAP_DBFS)
        if is_doubtful:
            rising &= [bool(int(self._louder[row]) >> n & 1) for n in range(at.LOOKBACK_FRAMES)]
        while first + 1 < at.LOOKBACK_FRAMES and rising[first + 1]:
            first += 1
        lead = int(self._preroll[row])
        before = level[first + 1 : first + 4]
        if before.size and (before < max(floor + at.RISE_DB, at.GAP_DBFS)).all():
            lead = min(lead, at.QUIET_LEAD_MS * PER_MS)
        elif (is_doubtful or floor > at.GAP_DBFS) and not int(self._gaps[row]) & int(_mask(at.LOOKBACK_FRAMES)):
            lead += at.DOUBT_LEAD_MS * PER_MS
        self._speaking[row] = True
        onset = position - (first + 1) * FRAME
        self._voices.append(Voice(row, True, max(onset, int(self._sent_to[row]))))
        return onset - lead

    def _stop_speaking(self, row: int) -> None:
        if self._speaking[row]:
            self._speaking[row] = False
            self._voices.append(Voice(row, False, int(self._tail[row]) - at.VOICE_TRAIL_MS * PER_MS))

    def _told(self, rows: Rows | int) -> NDArray[np.int8]:
        """The strongest signalled cause that the mode obeys, or OPEN."""
        signals = self._signals[rows].copy()
        obeys = np.asarray(self._mode[rows] > 0)
        signals[..., HOLD] &= obeys
        signals[..., MUTE] &= obeys
        return np.where(signals.any(axis=-1), signals.argmax(axis=-1), OPEN).astype(np.int8)

    def _wanted(self, rows: Rows, music: Flags, tone: Flags) -> NDArray[np.int8]:
        """The cause each row should be closed for, or OPEN; weakest first, each stronger one overwrites."""
        mode, speaking = self._mode[rows], self._speaking[rows]
        wanted = np.where((mode == MODES["speech"]) & ~speaking, SILENCE, OPEN).astype(np.int8)
        hears = (mode > 0) & ~speaking
        wanted[hears & tone] = TONE
        wanted[hears & music & self._withholds_music[rows]] = MUSIC
        wanted[(mode > 0) & (self._dead[rows] >= self._mute_after[rows])] = MUTE
        return np.minimum(wanted, self._told(rows))

    def _settle(
        self, rows: Rows, wanted: NDArray[np.int8], opens_at: Positions, positions: Positions, by: Heard | str
    ) -> list[Change]:
        changes: list[Change] = []
        for n in np.flatnonzero(wanted != self._cause[rows]):
            position = opens_at[n] if wanted[n] == OPEN else positions[n]
            reason = by if isinstance(by, str) else self._reason(by, int(n), int(wanted[n]))
            changes += self._move(int(rows[n]), int(wanted[n]), int(position), reason)
        return changes

    def _reason(self, heard: Heard, n: int, cause: int) -> str:
        """What in the n-th of the heard frames moved its gate."""
        row = int(heard.rows[n])
        before = int(self._cause[row])
        if cause == OPEN and self._speaking[row]:
            if row in heard.again:
                return "speech heard again"
            return "speech over music" if heard.music[n] else "speech over a tone" if heard.tone[n] else "speech"
        if cause == SILENCE and before == OPEN:
            return "hangover"
        if cause in (OPEN, SILENCE):
            return f"{CAUSES[before]} ended"
        if cause == TONE:
            return heard.name_tone(row)
        return "digital silence" if cause == MUTE else str(CAUSES[cause])

    def _move(self, row: int, cause: int, position: int, reason: str) -> list[Change]:
        if cause == self._cause[row]:
            return []
        if cause == OPEN:
            position = max(position, int(self._barrier[row]), int(self._sent_to[row]))
        return [self._change(row, cause, position, reason)]

    def _change(self, row: int, cause: int, position: int, reason: str) -> Change:
        told_at = position if cause < SIGNALLED and self.is_signalled[row] else 0
        if self.is_open[row]:
            position = min(position, max(int(self.send_to[row]), int(self._sent_to[row])))
            self._sent_to[row] = position
        self.send_to[row] = FAR
        self._cause[row] = cause
        self.is_open[row] = cause == OPEN
        name = None if cause == OPEN else CAUSES[cause]
        return Change(row, cause == OPEN, name, position, reason, int(self.speech_end[row]), told_at)


def _mask(frames: int) -> np.uint64:
    return np.uint64((1 << frames) - 1)


def _count(bits: NDArray[np.uint64], frames: int) -> NDArray[np.uint8]:
    count: NDArray[np.uint8] = np.bitwise_count(bits & _mask(frames))
    return count
