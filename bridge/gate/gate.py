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
from bridge.gate.evidence import NOTHING_DBFS, PER_MS, Evidence
from bridge.gate.scalars import f32, i32
from bridge.gate.silero import Floats, Rows
from bridge.model import POSITION_HZ, Cause

CAUSES = tuple(Cause)  # strongest first; the arrays hold indices into it
SIGNALLED = 3  # the first three can be told: paused, hold, mute
PAUSED, HOLD, MUTE, MUSIC, TONE, SILENCE = range(len(CAUSES))
OPEN = len(CAUSES)  # "no cause" in the arrays
FAR = 1 << 62  # a position never reached
Positions = NDArray[np.int64]


def _samples(n: int) -> Positions:
    return np.array(n, np.int64)  # see bridge.gate.scalars


ONE_FRAME, HALF_A_FRAME, NEVER = _samples(FRAME), _samples(FRAME // 2), _samples(FAR)
FADE, TAIL = _samples(at.FADE_MS * PER_MS), _samples(at.TAIL_MS * PER_MS)
BRIEF_HANGOVER = _samples(at.BRIEF_HANGOVER_MS * PER_MS)
STIRS_FROM, STIRS_TO = _samples(-at.STIR_BEFORE_MS * PER_MS), _samples(at.STIR_BEHIND_MS * PER_MS)
LEAST_FLOOR = np.array(NOTHING_DBFS, np.float32)


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
        self._evidence = Evidence(capacity)
        self._cause = np.full(capacity, SILENCE, np.int8)
        self._signals = np.zeros((capacity, SIGNALLED), np.bool_)
        self._told = np.full(capacity, OPEN, np.int8)  # the strongest signalled cause that the mode obeys, or OPEN
        self._unspoken = np.full(capacity, OPEN, np.int8)  # what the mode makes of a leg on which nobody speaks
        self._hears = np.zeros(capacity, np.bool_)  # the mode withholds what is heard: mute, tones
        self._hears_music = np.zeros(capacity, np.bool_)  # and the settings want music withheld
        self._preroll = np.zeros(capacity, np.int64)
        self._hangover = np.zeros(capacity, np.int64)
        self._mute_after = np.zeros(capacity, np.int64)
        self._turn_end = np.zeros(capacity, np.int64)
        self._tail = np.zeros(capacity, np.int64)  # where the last word's sound had faded
        self._sent_to = np.zeros(capacity, np.int64)  # where the gate last closed: audio before this was sent
        self._barrier = np.zeros(capacity, np.int64)  # where the last hold, mute or pause ended
        self._dead = np.zeros(capacity, np.int64)  # samples of digital silence or absence up to now
        self._speaking = np.zeros(capacity, np.bool_)
        self._loudness = np.zeros(capacity, np.float32)  # level of this voice's loud frames, dBFS
        self._floor = np.zeros(capacity, np.float32)  # level of the line's quietest frames, rising slowly
        self._spoken = np.zeros(capacity, np.int32)  # frames of speech since the voice began
        self._voices: list[Voice] = []
        self._stirs: list[int] = []

    def open_leg(self, row: int, settings: GateSettings, position: int) -> list[Change]:
        """A leg begins in this row. Answers the state it begins in."""
        for flags in (self.is_open, self.is_signalled, self._speaking, self._signals):
            flags[row] = False
        self._obey(row, settings)
        self._evidence.reset(row)
        self._dead[row] = 0
        self._loudness[row] = NOTHING_DBFS
        self._floor[row] = 0.0
        for array in (self.speech_end, self._tail, self._sent_to, self._barrier):
            array[row] = position
        cause = SILENCE if settings.mode == "speech" else OPEN
        return [self._change(row, cause, position, "start")]

    def _obey(self, row: int, settings: GateSettings) -> None:
        self._unspoken[row] = SILENCE if settings.mode == "speech" else OPEN
        self._hears[row] = settings.mode != "off"
        self._hears_music[row] = settings.mode != "off" and settings.music
        self._preroll[row] = settings.preroll_ms * PER_MS
        self._hangover[row] = settings.hangover_ms * PER_MS
        self._mute_after[row] = settings.mute_after_ms * PER_MS
        self._turn_end[row] = settings.turn_end_ms * PER_MS
        self._told[row] = self._strongest_signal(row)

    def _strongest_signal(self, row: int) -> int:
        """The strongest signalled cause that the mode obeys, or OPEN."""
        signals = self._signals[row]
        obeyed = signals if self._hears[row] else signals[: PAUSED + 1]
        return int(obeyed.argmax()) if obeyed.any() else OPEN

    def adjust(self, row: int, settings: GateSettings, position: int) -> list[Change]:
        """Other settings for a leg that runs. What they make of what is known is in force at once; nothing of what
        was withheld before is sent."""
        self._obey(row, settings)
        wanted = int(self._told[row])
        if self.is_signalled[row] or wanted != OPEN:
            self.is_signalled[row] = wanted != OPEN
            self._barrier[row] = position
            self._stop_speaking(row)
        elif self._withholds(settings, int(self._cause[row])):
            wanted = int(self._cause[row])
        if wanted == OPEN and not self._speaking[row]:
            wanted = int(self._unspoken[row])
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
        wanted = self._told[row] = self._strongest_signal(row)
        if wanted == OPEN and not self.is_signalled[row]:
            return []  # the mode does not obey it
        self.is_signalled[row] = wanted != OPEN
        self._barrier[row] = position
        self._evidence.forget(row)
        self._dead[row] = 0
        self._stop_speaking(row)
        if wanted == OPEN:
            wanted = int(self._unspoken[row])
        return self._move(row, wanted, position, f"{cause} {'signalled' if on else 'ended'}")

    def absent(self, rows: Rows, seconds: NDArray[np.float64], positions: Positions) -> list[Change]:
        """No RTP, or comfort noise, for `seconds` in these rows; their `positions` stand still meanwhile."""
        gone = (seconds * POSITION_HZ).astype(np.int64)
        self._dead[rows] = np.maximum(self._dead[rows], gone)
        self._evidence.forget(rows)
        is_over = self._speaking[rows] & (positions - self.speech_end[rows] + gone >= self._hangover[rows])
        for row in rows[is_over]:
            self._stop_speaking(int(row))
        nothing = np.zeros(rows.size, np.bool_)
        wanted = self._wanted(rows, self._dead[rows] >= self._mute_after[rows], nothing, nothing)
        return self._settle(rows, wanted, positions, positions, "no rtp")

    def hear(self, heard: Heard, positions: Positions) -> list[Change]:
        """What the ears heard in one frame of each row; `positions` are the frames' ends."""
        rows, mute_after = heard.rows, self._mute_after[heard.rows]
        dead = self._dead[rows]
        leaves_mute = (dead >= mute_after) & ~heard.digital
        if np.count_nonzero(leaves_mute):
            self._barrier[rows[leaves_mute]] = positions[leaves_mute] - FRAME
        dead += ONE_FRAME
        dead *= heard.digital
        self._dead[rows] = dead
        opens_at = self._listen(heard, positions)
        wanted = self._wanted(rows, dead >= mute_after, heard.music, heard.tone)
        return self._settle(rows, wanted, opens_at, positions, heard)

    def _listen(self, heard: Heard, positions: Positions) -> Positions:
        """Who speaks. Answers from where on each row would be sent, were it opened now."""
        rows, speech, level = heard.rows, heard.speech, heard.level_dbfs
        talks = speech > f32.SPEECH_ON
        speaking = self._speaking[rows]
        begins = self._evidence.believes(heard, talks) & ~(speaking | self.is_signalled[rows])
        voiced = begins | (speaking & (speech > f32.SPEECH_KEEP))
        speech_end = self.speech_end[rows]
        self._note_stirs(rows, ~voiced & (speech > f32.STIR), positions - speech_end)
        np.putmask(speech_end, voiced, positions)
        self.speech_end[rows] = speech_end
        self._note_level(rows, level, talks, begins)
        silence = positions - speech_end
        self._follow_tail(heard, voiced, silence, positions)
        pauses = (speaking & ~voiced).nonzero()[0]
        kept_from, self.send_to[rows] = self.send_to[rows[pauses]], NEVER
        ends = pauses
        if pauses.size:
            self._keep_back(heard, pauses, kept_from, silence[pauses], positions[pauses])
            ends = pauses[self._ends(heard, pauses, silence[pauses])]
        opens_at = positions - ONE_FRAME
        for n in begins.nonzero()[0]:
            opens_at[n] = self._begin(int(rows[n]), int(positions[n]), is_doubtful=bool(heard.music[n] | heard.tone[n]))
        for row in rows[ends]:
            self._stop_speaking(int(row))
        return opens_at

    def _note_stirs(self, rows: Rows, stirs: Flags, silence: Positions) -> None:
        """`silence`: samples since speech was last heard, this frame left out."""
        if np.count_nonzero(stirs):
            overdue = silence - self._turn_end[rows]
            self._stirs += rows[stirs & (overdue > STIRS_FROM) & (overdue < STIRS_TO)].tolist()

    def _note_level(self, rows: Rows, level: Floats, talks: Flags, begins: Flags) -> None:
        """Of the line's floor and of this voice."""
        floor = self._floor[rows] + f32.FLOOR_RISE_DB
        np.minimum(floor, level, floor)
        self._floor[rows] = np.maximum(floor, LEAST_FLOOR)
        if np.count_nonzero(talks):
            loudness = self._loudness[rows]
            np.copyto(loudness, np.maximum(level, loudness - f32.LOUDNESS_FALL_DB), where=talks)
            self._loudness[rows] = loudness
            self._spoken[rows] += talks
        if np.count_nonzero(begins):
            self._spoken[rows[begins]] = 0

    def _follow_tail(self, heard: Heard, voiced: Flags, silence: Positions, positions: Positions) -> None:
        """A word's sound fades behind where speech was last heard: from frame to frame, and not for long."""
        rows = heard.rows
        tail = self._tail[rows]
        fades = (tail >= positions - ONE_FRAME) & (silence <= FADE) & ~voiced
        np.putmask(tail, voiced, positions)
        pick = fades.nonzero()[0]
        if pick.size:
            row, level = rows[pick], heard.level_dbfs[pick]
            loudness, floor = self._loudness[row], self._floor[row] + f32.TAIL_ABOVE_FLOOR_DB
            is_tail = (level > loudness - f32.FADE_DEPTH_DB) & (level < loudness - f32.FADE_BELOW_DB)
            is_tail &= (level > floor) & self._is_audible(heard, pick)
            tail[pick[is_tail]] = positions[pick[is_tail]]
        self._tail[rows] = tail

    def _is_audible(self, heard: Heard, pick: Rows) -> Flags:
        """What is a pause on other legs is not yet one where the voice is faint: its last sounds are fainter still."""
        row = heard.rows[pick]
        quiet = np.minimum(f32.GAP_DBFS, self._loudness[row] - f32.GAP_BELOW_BED_DB)
        quiet = np.maximum(quiet, self._floor[row] + f32.TAIL_ABOVE_FLOOR_DB)
        audible: Flags = ~heard.gap[pick] | (heard.level_dbfs[pick] > quiet)
        return audible

    def _keep_back(
        self, heard: Heard, pick: Rows, kept_from: Positions, silence: Positions, positions: Positions
    ) -> None:
        """In the hangover, audio behind the tail of the last sound waits: it is sent if speech goes on. `pick`: which
        of the heard pause, `kept_from`: where their audio has waited from so far."""
        row = heard.rows[pick]
        sounds = self._is_audible(heard, pick)
        sounds &= heard.level_dbfs[pick] > self._loudness[row] - f32.TAIL_DEPTH_DB
        sound_end = positions - silence
        np.putmask(sound_end, sounds, positions)
        np.putmask(kept_from, sounds | (kept_from == NEVER), sound_end + TAIL)
        np.putmask(kept_from, self._unspoken[row] == OPEN, NEVER)
        self.send_to[row] = kept_from

    def _ends(self, heard: Heard, pick: Rows, silence: Positions) -> Flags:
        """Of the voices that pause: is the hangover over?"""
        row = heard.rows[pick]
        is_brief = (self._spoken[row] < i32.BRIEF_FRAMES) & (heard.speech[pick] < f32.BRIEF_SPEECH)
        is_brief &= heard.level_dbfs[pick] > self._loudness[row] - f32.BRIEF_DEPTH_DB
        hangover = self._hangover[row]
        np.putmask(hangover, is_brief, BRIEF_HANGOVER)
        ends: Flags = silence >= hangover - HALF_A_FRAME
        return ends

    def _begin(self, row: int, position: int, *, is_doubtful: bool) -> int:
        """Somebody speaks. Answers where to send from: the onset, less the pre-roll."""
        n_frames, lead = self._evidence.onset(row, int(self._preroll[row]), is_doubtful=is_doubtful)
        onset = position - n_frames * FRAME
        self._speaking[row] = True
        self._voices.append(Voice(row, True, max(onset, int(self._sent_to[row]))))
        return onset - lead

    def _stop_speaking(self, row: int) -> None:
        if self._speaking[row]:
            self._speaking[row] = False
            self._voices.append(Voice(row, False, int(self._tail[row]) - at.VOICE_TRAIL_MS * PER_MS))

    def _wanted(self, rows: Rows, is_dead: Flags, music: Flags, tone: Flags) -> NDArray[np.int8]:
        """The cause each row should be closed for, or OPEN; weakest first, each stronger one overwrites."""
        speaking, wanted = self._speaking[rows], self._unspoken[rows]
        wanted[speaking] = OPEN
        if np.count_nonzero(tone):
            wanted[tone & ~speaking & self._hears[rows]] = TONE
        if np.count_nonzero(music):
            wanted[music & ~speaking & self._hears_music[rows]] = MUSIC
        if np.count_nonzero(is_dead):
            wanted[is_dead & self._hears[rows]] = MUTE
        return np.minimum(wanted, self._told[rows])

    def _settle(
        self, rows: Rows, wanted: NDArray[np.int8], opens_at: Positions, positions: Positions, by: Heard | str
    ) -> list[Change]:
        changes: list[Change] = []
        for n in (wanted != self._cause[rows]).nonzero()[0]:
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
