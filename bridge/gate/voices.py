"""Voices: who speaks on each leg, from where to where, and what of a hangover's audio waits for its verdict.

In every mode, and whatever the gate makes of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.config import GateSettings
from bridge.gate import thresholds as at
from bridge.gate.buzz import Buzzes
from bridge.gate.ears import FRAME, Flags, Heard
from bridge.gate.evidence import NOTHING_DBFS, PER_MS, Evidence
from bridge.gate.scalars import f32, i32
from bridge.gate.silero import Floats, Rows

FAR = 1 << 62  # a position never reached
Positions = NDArray[np.int64]


def _samples(n: int) -> Positions:
    return np.array(n, np.int64)  # see bridge.gate.scalars


ONE_FRAME, HALF_A_FRAME, NEVER = _samples(FRAME), _samples(FRAME // 2), _samples(FAR)
FADE, TAIL = _samples(at.FADE_MS * PER_MS), _samples(at.TAIL_MS * PER_MS)
BRIEF_HANGOVER = _samples(at.BRIEF_HANGOVER_MS * PER_MS)
STIRS_ABOUT_MS = (at.STIR_BEHIND_MS - at.STIR_BEFORE_MS) // 2  # behind a turn's due end: the middle of when it may stir
STIRS_WITHIN = _samples((at.STIR_BEHIND_MS + at.STIR_BEFORE_MS) // 2 * PER_MS)
LEAST_FLOOR = np.array(NOTHING_DBFS, np.float32)


@dataclass(frozen=True, slots=True)
class Voice:
    """Somebody begins to speak at `position` (as far as can be told), or has stopped at it. In every mode."""

    row: int
    is_speaking: bool
    position: int


class Voices:
    """State in arrays by row. Positions are samples at 8 kHz of the leg's received audio."""

    def __init__(self, capacity: int) -> None:
        self.speaking: Flags = np.zeros(capacity, np.bool_)
        self.speech_end = np.zeros(capacity, np.int64)
        "Where speech was last heard."
        self.send_to = np.full(capacity, FAR, np.int64)
        """Where an open leg's audio may be sent up to for now. It stands still once nobody has spoken for a while: what
        lies behind it is sent when speech goes on, and withheld when the gate closes."""
        self.sent_to = np.zeros(capacity, np.int64)
        "Where the gate last closed: audio before this was sent, and no voice is told to begin there."
        self._evidence, self._buzzes = Evidence(capacity), Buzzes()
        self._preroll = np.zeros(capacity, np.int64)
        self._hangover = np.zeros(capacity, np.int64)
        self._stirs_about = np.zeros(capacity, np.int64)  # silence, in the middle of when what stirs matters
        self._keeps_back = np.zeros(capacity, np.bool_)  # silence is withheld
        self._tail = np.zeros(capacity, np.int64)  # where the last word's sound had faded
        self._loudness = np.zeros(capacity, np.float32)  # level of this voice's loud frames, dBFS
        self._floor = np.zeros(capacity, np.float32)  # level of the line's quietest frames, rising slowly
        self._spoken = np.zeros(capacity, np.int32)  # frames of speech since the voice began
        self._told: list[Voice] = []
        self._stirs: list[int] = []

    def open_leg(self, row: int, position: int) -> None:
        """A leg begins in this row."""
        self._evidence.reset(row)
        self._buzzes.reset(row)
        self.speaking[row] = False
        self._loudness[row] = NOTHING_DBFS
        self._floor[row] = 0.0
        self.speech_end[row] = self._tail[row] = self.sent_to[row] = position

    def obey(self, row: int, settings: GateSettings) -> None:
        """Settings, at a leg's beginning or later."""
        self._preroll[row] = settings.preroll_ms * PER_MS
        self._hangover[row] = settings.hangover_ms * PER_MS
        self._stirs_about[row] = (settings.turn_end_ms + STIRS_ABOUT_MS) * PER_MS
        self._keeps_back[row] = settings.mode == "speech"

    def close_leg(self, row: int) -> None:
        """The leg has ended; its row may be used again."""
        self.speaking[row] = False
        self._told = [voice for voice in self._told if voice.row != row]
        self._stirs = [other for other in self._stirs if other != row]

    def forget(self, row: int) -> None:
        """What was said so far is no evidence of what is said from now on."""
        self._evidence.forget(row)

    def take(self) -> list[Voice]:
        """Who began and who stopped speaking since the last call, in order."""
        voices, self._told = self._told, []
        return voices

    def take_stirs(self) -> list[int]:
        """The rows in which something stirred about when a turn is due, one entry a frame."""
        stirs, self._stirs = self._stirs, []
        return stirs

    def stop(self, row: int) -> None:
        """Whoever speaks there does so no longer."""
        if self.speaking[row]:
            self.speaking[row] = False
            self._told.append(Voice(row, False, int(self._tail[row]) - at.VOICE_TRAIL_MS * PER_MS))

    def stop_absent(self, rows: Rows, gone: Positions, positions: Positions) -> None:
        """No audio for `gone` samples in these rows: their voices stop once the hangover is over."""
        self._evidence.forget(rows)
        is_over = self.speaking[rows] & (positions - self.speech_end[rows] + gone >= self._hangover[rows])
        for row in rows[is_over]:
            self.stop(int(row))

    def listen(self, heard: Heard, positions: Positions, *, deaf: Flags) -> Positions:
        """One frame of each row; on `deaf` ones nobody begins to speak. Answers from where on each row would be sent,
        were it opened now."""
        rows, speech, level = heard.rows, heard.speech, heard.level_dbfs
        talks = speech > f32.SPEECH_ON
        speaking = self.speaking[rows]
        begins = self._evidence.believes(heard, talks) & ~(speaking | deaf)
        for index in begins.nonzero()[0].tolist():
            begins[index] = not self._buzzes.is_buzzing(heard, index)
        voiced = begins | (speaking & (speech > f32.SPEECH_KEEP))
        speech_end = self.speech_end[rows]
        self._note_level(rows, level, talks, begins)
        self._note_stirs(heard, voiced, positions - speech_end)
        np.putmask(speech_end, voiced, positions)
        self.speech_end[rows] = speech_end
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
            self.stop(int(row))
        return opens_at

    def _note_stirs(self, heard: Heard, voiced: Flags, silence: Positions) -> None:
        """What may be a word's beginning about when a turn is due: a little like speech, or as loud as the voice was.
        `silence`: samples since speech was last heard, this frame left out."""
        pick = (np.abs(silence - self._stirs_about[heard.rows]) < STIRS_WITHIN).nonzero()[0]
        if not pick.size:
            return
        pick = pick[~voiced[pick]]
        row, level = heard.rows[pick], heard.level_dbfs[pick]
        stirs = (level > self._loudness[row] - f32.STIR_DEPTH_DB) & (level > self._floor[row] + f32.RISE_DB)
        stirs &= ~(heard.music[pick] | heard.tone[pick])
        stirs |= heard.speech[pick] > f32.STIR
        self._stirs += row[stirs].tolist()

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
        """A word's sound goes on behind where speech was last heard, for a while: it fades from frame to frame, or what
        is nearly as loud as the voice follows a moment's closure, another syllable to all but the network."""
        rows = heard.rows
        tail = self._tail[rows]
        np.putmask(tail, voiced, positions)
        pick = ((silence <= FADE) & ~voiced).nonzero()[0]
        if pick.size:
            row, level = rows[pick], heard.level_dbfs[pick]
            loudness, floor = self._loudness[row], self._floor[row] + f32.TAIL_ABOVE_FLOOR_DB
            is_tail = tail[pick] >= positions[pick] - ONE_FRAME
            is_tail |= level > loudness - f32.SYLLABLE_DEPTH_DB
            is_tail &= (level > loudness - f32.FADE_DEPTH_DB) & (level < loudness - f32.FADE_BELOW_DB)
            is_tail &= level > floor
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
        np.putmask(kept_from, ~self._keeps_back[row], NEVER)
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
        self.speaking[row] = True
        self._told.append(Voice(row, True, max(onset, int(self.sent_to[row]))))
        return onset - lead
