"""The media plane: one synchronous tick for all legs. Sans-IO; the floor that carries the thousand legs.

    push(arrivals)   a pass of datagrams, at most one per leg (`Incoming`).
    ready()          chunks that need not wait for the ears.
    tick(now)        gives up on holes, lets the ears hear every leg's next 32 ms in one batch, lets the gates decide,
                     and answers what follows (`Outgoing`): audio to send, gates that moved, voices, digits.

State of all legs is in arrays (`Lanes`, `History`, `Ears`, `Gates`); a leg that does nothing special costs no Python
of its own. What a leg has of its own is its `Track`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from bridge.config import GateSettings, RtpSettings
from bridge.gate.ears import FRAME, Ears
from bridge.gate.gate import Change, Gates
from bridge.gate.voices import Voice
from bridge.media.hearing import Hearing, kind_of
from bridge.media.history import HISTORY, UNHEARD_MOST
from bridge.media.incoming import Incoming
from bridge.media.legs import Legs
from bridge.media.outgoing import ABSENT_AFTER, AHEAD_OF_EARS, Outgoing
from bridge.media.outputs import Books, Output, Speaking, Stirring
from bridge.media.settling import Settling
from bridge.media.track import Track
from bridge.model import POSITION_HZ, AudioFormat, Cause

FORGET_AFTER = 0.2  # s of absence after which the detectors start afresh
HEARD_SHARE = 0.66  # of all legs that a tick hears a frame of; 0.625 is what comes in
HEARD_AT_LEAST = 32  # legs; below that spreading them saves nothing
FAR_BEHIND = 3 * FRAME  # 96 ms: such a leg is heard whatever it costs
HEARD_PER_TICK = 12  # frames (0.38 s) of one leg that a tick may catch up with after a burst


Rows = NDArray[np.int64]


class Plane:
    """Rows 0 to `capacity` - 1 are legs. Positions are in 1/8000 s of a leg's received audio."""

    def __init__(self, *, capacity: int, chunk_ms: int, rtp: RtpSettings) -> None:
        self.gates = Gates(capacity)
        self._legs = Legs(capacity)
        self._chunk = chunk_ms * POSITION_HZ // 1000
        self._outgoing = Outgoing(self._legs, self.gates, chunk=self._chunk)
        self.incoming = Incoming(self._legs, self._make_room, rtp=rtp)
        self.lanes = self._legs.lanes
        self._hearing = Hearing(self._legs)
        self._ears = Ears(capacity, self._hearing.earlier)
        self._settling = Settling(self._legs)
        self._is_absent = np.zeros(capacity, bool)
        self._now = 0.0
        "Of the last tick."

    # -- legs -----------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Rows, used or not."""
        return self._legs.capacity

    def open_leg(self, audio: AudioFormat, gate: GateSettings, now: float, *, told: Iterable[Cause] = ()) -> Track:
        """A row for a new leg. Raises CapacityError. `told`: what was signalled before. Its first gate state is among
        the next tick's outputs."""
        track = self._legs.open(audio, now)
        row = track.row
        self.incoming.open_leg(row)
        self._settling.begin(row)
        self._ears.reset(row)
        self._hearing.kind[row] = kind_of(audio)
        self._is_absent[row] = False
        changes = self.gates.open_leg(row, gate, 0)
        for cause in told:
            changes += self.gates.signal(row, cause, True, 0)
        self._follow(changes[-1:], now)  # one state to begin with
        return track

    def close_leg(self, row: int, now: float) -> list[Output]:
        """The leg's last outputs: what is still owed of an open gate, or of one that opens for what no tick has heard
        yet. Its books stay until `free_leg`."""
        track = self._legs.track(row)
        self.incoming.flush(track)
        self._legs.learn_clocks()
        self._hear_out(row, now)
        if track.is_open:
            self._outgoing.send(track, int(self.lanes.position[row]))
        self.gates.close_leg(row)
        self._legs.stop(row)
        return self._legs.take_outputs_of(row)

    def free_leg(self, row: int) -> None:
        """After `close_leg`, once its books were read. Whatever went wrong there, the row lives no longer."""
        self._legs.free(row)

    def signal(self, row: int, cause: Cause, on: bool, now: float) -> None:
        """Hold, mute or pause, signalled or asked for at `now`; in force at once, told with the next tick's outputs. It
        begins and ends behind what has come and still waits for a lost packet or for the ears; but a pause takes back
        even what has not left yet."""
        track, taken_back = self._legs.track(row), -1
        if cause is Cause.PAUSED and on:
            taken_back = self._outgoing.take_back(track)
        else:
            self.incoming.flush(track)
            self._hear_out(row, now)
        position = int(self.lanes.position[row])
        self._follow(self.gates.signal(row, cause, on, position), now)
        if taken_back >= 0:
            track.withheld.closed(taken_back, cause)
        if not on:
            self._hear_afresh(row, now)

    def adjust(self, row: int, gate: GateSettings, now: float) -> None:
        """Other gate settings, in force at once, told with the next tick's outputs."""
        was_deaf = bool(self.gates.is_signalled[row])
        self._follow(self.gates.adjust(row, gate, int(self.lanes.position[row])), now)
        if was_deaf and not self.gates.is_signalled[row]:
            self._hear_afresh(row, now)

    def _hear_afresh(self, row: int, now: float) -> None:
        self._ears.reset(row)
        self.lanes.last_arrival[row] = max(float(self.lanes.last_arrival[row]), now)  # absence counts from here

    def capture_time(self, row: int, position: int) -> float:
        """Monotonic time at which the audio at `position` was captured; NaN before any audio came."""
        return self._legs.capture_time(row, position)

    def books(self, row: int) -> Books:
        """The leg's figures as of now."""
        return self._legs.track(row).books(int(self.lanes.position[row]), int(self.lanes.received[row]))

    # -- the tick ---------------------------------------------------------------------------------------------------

    def ready(self) -> list[Output]:
        """Chunks that have just become whole and need not wait for the ears. Between the passes of `push` and `tick`:
        hearing takes milliseconds, and audio that is to be sent anyhow should not be late by them."""
        self._legs.learn_clocks()
        self._outgoing.send_chunks()
        return self._legs.take_outputs()

    def tick(self, now: float) -> list[Output]:
        """Everything that is due. Call it every `tick_ms`, after the passes of `push`."""
        self._now = now
        is_new_second = self.lanes.advance(now)
        self.incoming.release(now)
        self._legs.learn_clocks(is_new_second=is_new_second)
        self._settling.tick(now)
        self._note_absence(now)
        self._listen(now)
        return self.ready()

    def _note_absence(self, now: float) -> None:
        silent_for = now - self.lanes.last_arrival
        # Audio not heard yet, with what waits in the kernel behind it, is no absence: the loop was late, not the leg
        is_heard = self.lanes.position - self._legs.heard_to < FRAME
        absent = self._legs.is_live & is_heard & (silent_for > ABSENT_AFTER)
        if not absent.any() and not self._is_absent.any():
            return
        for row in np.flatnonzero(absent & ~self._is_absent & (silent_for > FORGET_AFTER)):
            self._ears.reset(int(row))
            self._is_absent[row] = True
        self._is_absent &= absent
        rows = np.flatnonzero(absent & ~self.gates.is_signalled)
        if rows.size:
            self._follow(self.gates.absent(rows, silent_for[rows], self.lanes.position[rows]), now)

    def _listen(self, now: float) -> None:
        gates, position, heard_to = self.gates, self.lanes.position, self._legs.heard_to
        deaf = self._legs.is_live & gates.is_signalled
        heard_to[deaf] = _whole_frames(position[deaf])
        budget = max(HEARD_AT_LEAST, round(HEARD_SHARE * np.count_nonzero(self._legs.is_live)))
        for _ in range(HEARD_PER_TICK):
            rows = self._due(position - heard_to, budget)
            if not rows.size:
                break
            budget = max(budget - rows.size, 0)
            self._hear(rows, now)

    def _hear(self, rows: Rows, now: float) -> None:
        """The next frame of each row. A bug that they meet together costs only whom it meets alone as well."""
        heard_to = self._legs.heard_to
        ends = heard_to[rows] + FRAME
        try:
            heard = self._ears.hear(rows, self._hearing.frames(rows))
            changes = self.gates.hear(heard, ends)
            heard_to[rows] = ends  # not before: the gates may look at this frame once more
        except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
            if rows.size == 1:
                self._legs.fail(int(rows[0]), error)
                return
            for n in range(rows.size):
                self._hear(rows[n : n + 1], now)
            return
        self._follow(changes, now)

    def _hear_out(self, row: int, now: float) -> None:
        """All that has come, unless it makes no difference to what is sent of it. Ears may be 0.5 s behind."""
        legs, one = self._legs, np.array([row])
        while (
            legs.is_live[row]
            and not legs.track(row).is_open
            and not self.gates.is_signalled[row]
            and self.lanes.position[row] - legs.heard_to[row] >= FRAME
        ):
            self._hear(one, now)

    def _make_room(self, rows: Rows, starts: Rows, ends: Rows) -> None:
        """Audio of these rows from `starts` to `ends` is about to be written. Had it to write over what was not sent,
        or what lies a look-back before what was not heard, that is heard and sent now: the loop stood still, and the
        ears are behind."""
        legs, gates = self._legs, self.gates
        most = np.where(legs.is_settled[rows], UNHEARD_MOST, HISTORY)  # nothing lies before a stream that begins
        late = ends - legs.heard_to[rows] > most
        late |= gates.is_open[rows] & (ends - legs.sent_to[rows] > HISTORY)
        if not late.any():
            return
        rows, starts, ends, most = rows[late], starts[late], ends[late], most[late]
        deaf = gates.is_signalled[rows]
        legs.heard_to[rows[deaf]] = _whole_frames(starts[deaf])
        while True:
            heard_to = legs.heard_to[rows]
            unheard = (ends - heard_to > most) & (starts - heard_to >= FRAME) & legs.is_live[rows]
            if not unheard.any():
                break
            self._hear(rows[unheard], self._now)
        legs.heard_to[rows] = np.maximum(heard_to, _whole_frames(ends - most))
        for n in np.flatnonzero(gates.is_open[rows] & (ends - legs.sent_to[rows] > HISTORY)):
            ready = min(legs.heard_to[rows[n]] + AHEAD_OF_EARS, starts[n])
            self._outgoing.send_if_well(int(rows[n]), int(ready))

    def _due(self, behind: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
        """The rows to be heard next, at most `budget` of them unless they are far behind. 20 ms packets make 5 frames
        in 8 ticks: legs that began together would all be heard in the same tick, and none in the next."""
        rows = np.flatnonzero(self._legs.is_live & self._legs.is_settled & (behind >= FRAME) & ~self.gates.is_signalled)
        if rows.size <= budget:
            return rows
        waiting = behind[rows]
        most = max(budget, np.count_nonzero(waiting >= FAR_BEHIND))
        return np.sort(rows[np.argsort(-waiting, kind="stable")[:most]])

    def _follow(self, changes: list[Change], now: float) -> None:
        """What the gates say, voices first: a turn must know that its speech has ended before a hold ends the turn."""
        outputs = self._legs.outputs
        for voice in self.gates.take_voices():
            outputs.append(self._told(voice))
        outputs += map(Stirring, self.gates.take_stirs())
        for change in changes:
            try:
                self._outgoing.apply(change, now)
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._legs.fail(change.row, error)

    def _told(self, voice: Voice) -> Speaking:
        at = self.capture_time(voice.row, max(voice.position, 0))
        return Speaking(voice.row, voice.is_speaking, at)


def _whole_frames(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rounded up: frames stay aligned for the batch."""
    whole: NDArray[np.int64] = -(-positions // FRAME) * FRAME
    return whole
