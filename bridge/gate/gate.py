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
from bridge.gate.ears import FRAME, Flags, Heard
from bridge.gate.evidence import PER_MS
from bridge.gate.silero import Rows
from bridge.gate.voices import FAR, ONE_FRAME, Positions, Voice, Voices
from bridge.model import POSITION_HZ, Cause

CAUSES = tuple(Cause)  # strongest first; the arrays hold indices into it
SIGNALLED = 3  # the first three can be told: paused, hold, mute
PAUSED, HOLD, MUTE, MUSIC, TONE, SILENCE = range(len(CAUSES))
OPEN = len(CAUSES)  # "no cause" in the arrays
IS_OPEN = np.array(OPEN, np.int8)


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


class Gates:
    """The gates of all legs, by row."""

    def __init__(self, capacity: int) -> None:
        self.is_open: Flags = np.zeros(capacity, np.bool_)
        self.is_signalled: Flags = np.zeros(capacity, np.bool_)
        "Paused, held or muted by signalling that the mode obeys: need not be heard (Ears.reset before it is again)."
        self._voices = Voices(capacity)
        self.speech_end, self.send_to = self._voices.speech_end, self._voices.send_to  # what they are is said there
        self._cause = np.full(capacity, SILENCE, np.int8)
        self._signals = np.zeros((capacity, SIGNALLED), np.bool_)
        self._told = np.full(capacity, OPEN, np.int8)  # the strongest signalled cause that the mode obeys, or OPEN
        self._unspoken = np.full(capacity, OPEN, np.int8)  # what the mode makes of a leg on which nobody speaks
        self._hears = np.zeros(capacity, np.bool_)  # the mode withholds what is heard: mute, tones
        self._hears_music = np.zeros(capacity, np.bool_)  # and the settings want music withheld
        self._mute_after = np.zeros(capacity, np.int64)
        self._barrier = np.zeros(capacity, np.int64)  # where the last hold, mute or pause ended
        self._dead = np.zeros(capacity, np.int64)  # samples of digital silence or absence up to now

    def open_leg(self, row: int, settings: GateSettings, position: int) -> list[Change]:
        """A leg begins in this row. Answers the state it begins in."""
        for flags in (self.is_open, self.is_signalled, self._signals):
            flags[row] = False
        self._obey(row, settings)
        self._voices.open_leg(row, position)
        self._dead[row] = 0
        self._barrier[row] = position
        cause = SILENCE if settings.mode == "speech" else OPEN
        return [self._change(row, cause, position, "start")]

    def _obey(self, row: int, settings: GateSettings) -> None:
        self._unspoken[row] = SILENCE if settings.mode == "speech" else OPEN
        self._hears[row] = settings.mode != "off"
        self._hears_music[row] = settings.mode != "off" and settings.music
        self._mute_after[row] = settings.mute_after_ms * PER_MS
        self._told[row] = self._strongest_signal(row)
        self._voices.obey(row, settings)

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
            self._voices.stop(row)
        elif self._withholds(settings, int(self._cause[row])):
            wanted = int(self._cause[row])
        if wanted == OPEN and not self._voices.speaking[row]:
            wanted = int(self._unspoken[row])
        return self._move(row, wanted, position, "settings")

    def _withholds(self, settings: GateSettings, cause: int) -> bool:
        """Is a cause that was heard one for which these settings close?"""
        if cause in (MUTE, TONE):
            return settings.mode != "off"
        return cause == MUSIC and settings.mode != "off" and settings.music

    def close_leg(self, row: int) -> None:
        """The leg has ended; its row may be used again."""
        self.is_open[row] = self.is_signalled[row] = False
        self._voices.close_leg(row)

    def take_voices(self) -> list[Voice]:
        """Who began and who stopped speaking since the last call, in order. For turns; independent of the mode."""
        return self._voices.take()

    def take_stirs(self) -> list[int]:
        """The rows in which, about when a turn is due, something was heard that may turn out to be speech: one entry a
        frame. For turns, which had better not end just then; independent of the mode."""
        return self._voices.take_stirs()

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
        self._dead[row] = 0
        self._voices.forget(row)
        self._voices.stop(row)
        if wanted == OPEN:
            wanted = int(self._unspoken[row])
        return self._move(row, wanted, position, f"{cause} {'signalled' if on else 'ended'}")

    def absent(self, rows: Rows, seconds: NDArray[np.float64], positions: Positions) -> list[Change]:
        """No RTP, or comfort noise, for `seconds` in these rows; their `positions` stand still meanwhile."""
        gone = (seconds * POSITION_HZ).astype(np.int64)
        self._dead[rows] = np.maximum(self._dead[rows], gone)
        self._voices.stop_absent(rows, gone, positions)
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
        opens_at = self._voices.listen(heard, positions, deaf=self.is_signalled[rows])
        wanted = self._wanted(rows, dead >= mute_after, heard.music, heard.tone)
        return self._settle(rows, wanted, opens_at, positions, heard)

    def _wanted(self, rows: Rows, is_dead: Flags, music: Flags, tone: Flags) -> NDArray[np.int8]:
        """The cause each row should be closed for, or OPEN; weakest first, each stronger one overwrites."""
        speaking, wanted = self._voices.speaking[rows], self._unspoken[rows]
        np.putmask(wanted, speaking, IS_OPEN)
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
        if cause == OPEN and self._voices.speaking[row]:
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
            position = max(position, int(self._barrier[row]), int(self._voices.sent_to[row]))
        return [self._change(row, cause, position, reason)]

    def _change(self, row: int, cause: int, position: int, reason: str) -> Change:
        told_at = position if cause < SIGNALLED and self.is_signalled[row] else 0
        if self.is_open[row]:
            position = min(position, max(int(self.send_to[row]), int(self._voices.sent_to[row])))
            self._voices.sent_to[row] = position
        self.send_to[row] = FAR
        self._cause[row] = cause
        self.is_open[row] = cause == OPEN
        name = None if cause == OPEN else CAUSES[cause]
        return Change(row, cause == OPEN, name, position, reason, int(self.speech_end[row]), told_at)
