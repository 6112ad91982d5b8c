"""Audio out: what leaves for the provider, from where to where, and what is booked as withheld."""

from __future__ import annotations

import numpy as np

from bridge.gate.ears import FRAME
from bridge.gate.gate import Change, Gates
from bridge.media.history import HISTORY
from bridge.media.legs import Legs
from bridge.media.outputs import Audio, Gate
from bridge.media.track import Track
from bridge.model import POSITION_HZ, Cause

AHEAD_OF_EARS = 2 * FRAME  # 64 ms that leave through an open gate before they are heard: waiting would make words late
BARRIERS = (Cause.PAUSED, Cause.HOLD, Cause.MUTE)  # nothing of what lies behind one is ever sent as pre-roll
ABSENT_AFTER = 0.1  # s without a packet: past any jitter, the leg's audio has stopped


class Outgoing:
    """`chunk` is in positions."""

    def __init__(self, legs: Legs, gates: Gates, *, chunk: int) -> None:
        self._legs = legs
        self._gates = gates
        self._chunk = chunk

    def send(self, track: Track, end: int) -> None:
        """Everything up to `end`."""
        legs = self._legs
        start = int(legs.sent_to[track.row])
        if end <= start:
            return
        origin = float(legs.origin[track.row])
        for first, last, shift in track.runs(start, end):
            audio = Audio(track.row, track.read(first, last), origin + first / POSITION_HZ + shift)
            legs.outputs.append(audio)
        legs.sent_to[track.row] = end

    def send_if_well(self, row: int, end: int) -> None:
        """The same, as one of many: a bug that meets this leg is told as a Failure."""
        try:
            self.send(self._legs.track(row), end)
        except Exception as error:  # noqa: BLE001 - the boundary of one leg
            self._legs.fail(row, error)

    def send_chunks(self) -> None:
        """Of every open leg the chunks that are whole."""
        legs = self._legs
        ready = np.minimum(legs.heard_to + AHEAD_OF_EARS, legs.lanes.position)
        waiting = np.minimum(ready, self._gates.send_to) - legs.sent_to  # the hangover's silence waits for its verdict
        for row in np.flatnonzero(legs.is_live & legs.is_settled & self._gates.is_open & (waiting >= self._chunk)):
            due = int(waiting[row]) // self._chunk * self._chunk
            self.send_if_well(int(row), int(legs.sent_to[row]) + due)

    def apply(self, change: Change, now: float) -> None:
        """A gate moved: sends or withholds from there on, and tells."""
        legs, row = self._legs, change.row
        track, position = legs.track(row), change.position
        if change.is_open:
            position = max(position, int(legs.lanes.position[row]) - HISTORY + self._chunk, int(legs.sent_to[row]))
            legs.sent_to[row] = position
            track.withheld.opened(position)
        else:
            position = self._close(track, change)
        track.is_open = change.is_open
        at = legs.capture_time(row, position)
        is_latest = position >= legs.lanes.position[row]
        if at != at or (is_latest and now - at > ABSENT_AFTER):  # nothing was captured then: it happened now
            at = now
        legs.outputs.append(Gate(row, change, at, legs.capture_time(row, change.speech_end)))

    def _close(self, track: Track, change: Change) -> int:
        """Sends what is still to be sent, and books the rest. Answers from where on the cause holds."""
        row, position, cause = track.row, change.position, change.cause
        assert cause is not None
        if not track.is_open:
            # the ears may be behind what was sent (AHEAD_OF_EARS, or a burst that beat them): that was not withheld
            position = max(position, int(self._legs.sent_to[row]))
        held_from = position
        if track.is_open:
            if cause is not Cause.PAUSED:  # of card data not even the rest of the chunk leaves
                self.send(track, position)
            held_from = int(self._legs.sent_to[row])
            position = max(position, held_from, change.signalled_at)
            if cause is not Cause.PAUSED and held_from < change.signalled_at:
                track.withheld.closed(held_from, Cause.SILENCE)  # the hangover's, which is not of the hold
                held_from = change.signalled_at
        if cause in BARRIERS:
            self._legs.sent_to[row] = position
        track.withheld.closed(held_from, cause)
        return position

    def take_back(self, track: Track) -> int:
        """Audio among the next outputs does not leave after all. Answers where it begins, -1: there is none."""
        row, audio, legs = track.row, track.audio, self._legs
        mine = [output for output in legs.outputs if isinstance(output, Audio) and output.row == row]
        if not mine:
            return -1
        legs.outputs = [output for output in legs.outputs if output not in mine]
        n_bytes = sum(len(output.data) for output in mine)
        legs.sent_to[row] -= n_bytes // (audio.bytes_per_sample * track.history.per_position)
        return int(legs.sent_to[row])
