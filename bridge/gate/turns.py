"""Turns of one leg: stretches of speech that end, for subscribers, exactly once.

A hesitation does not end a turn, though the gate may close and Finalize in it: a premature Finalize costs little, a
premature `turn.ended` misleads. A turn is over `turn_end` seconds after its last speech (or at once on hold, mute,
music, hangup, or when another leg takes over) and is told when its last final is there, at most `wait` later. What
stirs when it is due, and may be its next word, is waited for: the ears are sure of a word only after a while of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from bridge.model import Cause

Reason = Literal["silence", "hold", "mute", "music", "interrupted", "hangup"]

ENDING: dict[Cause, Reason] = {
    Cause.PAUSED: "hold",  # the contract has no reason of its own for card data: the line is taken, as in a hold
    Cause.HOLD: "hold",
    Cause.MUTE: "mute",
    Cause.MUSIC: "music",
}
SLACK = 0.25  # s; a provider's word times and our speech bounds differ by less (its frames, our hangover)
YIELDING = 1.0  # s; who stops so soon after the other began was interrupted, and did not merely pause
STIRS_FOR = 0.15  # s that a stir is good for: the next frames tell whether it was a word
STIRS_MOST = 0.6  # s that a turn is held up by what stirs and never becomes a word


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """What `turn.ended` tells. Times are call time; `latency_ms` from the end of speech to the turn's last final."""

    turn: str
    text: str
    start: float
    end: float
    reason: Reason
    latency_ms: int


@dataclass(slots=True)
class _Turn:
    name: str
    start: float
    end: float  # of the speech that was heard, or of the last final where that is later
    finals: list[tuple[float, float, str]] = field(default_factory=list)
    heard_at: float = 0.0  # `now` of the last final
    over_at: float | None = None  # `now` at which something other than silence ended it
    reason: Reason = "silence"
    settled: float = -math.inf  # call time up to which the provider has said its last word


class Turns:
    """Sans-IO. `zero` is `now` at call time 0; without it `now` is call time. Drain `take_events` after each call."""

    def __init__(self, *, turn_end: float, wait: float, zero: float = 0.0) -> None:
        self._turn_end = turn_end
        self._wait = wait
        self._zero = zero
        self._count = 0
        self._turns: list[_Turn] = []  # not yet told, oldest first; only the last can still be speaking
        self._is_speaking = False  # in the last turn
        self._other_spoke_at = -math.inf
        self._stirred_at = -math.inf
        self._events: list[TurnEnded] = []

    def adjust(self, *, turn_end: float, now: float) -> None:
        """Another `turn_end`, for the turn that runs as well."""
        self._turn_end = turn_end
        self.handle_timer(now)

    def retime(self, by: float, since: float, now: float) -> None:
        """What was told as of `since` (call time) or later was `by` seconds earlier."""
        for turn in self._turns:
            if turn.end >= since:
                turn.start -= by * (turn.start >= since)
                turn.end -= by
                turn.settled -= by
        self.handle_timer(now)

    def begins(self, start: float, now: float) -> None:
        """Speech begins at `start`. Until `speech` tells its end the turn cannot end by silence."""
        self.handle_timer(now)
        self._turn_for(start, now)
        self._is_speaking = True

    def stirs(self, now: float) -> None:
        """Something is heard that may turn out to be speech, or not. Told anew while it lasts."""
        self.handle_timer(now)
        self._stirred_at = now

    def speech(self, start: float, end: float, now: float) -> None:
        """Speech was heard from `start` to `end` and has stopped. More may follow within the same turn."""
        turn = self._current(start)
        turn.end = max(turn.end, end)
        self._is_speaking = False
        if now - self._other_spoke_at <= YIELDING:
            self._end(turn, "interrupted", now)
        self.handle_timer(now)

    def closed(self, cause: Cause | None, at: float, now: float) -> None:
        """The leg's gate closed for `cause` at call time `at` (None: it opened, which ends nothing)."""
        if cause in ENDING and self._turns:
            self._end(self._turns[-1], ENDING[cause], now, at)
        self.handle_timer(now)

    def final(self, text: str, start: float, end: float, now: float) -> str:
        """A final result for `start` to `end`. Answers the turn it belongs to: the one in whose time it was spoken, or,
        when that has been told already, one of its own."""
        turn = self._turn_of((start + end) / 2) or self._begin(start, end, is_late=bool(self._turns))
        turn.finals.append((start, end, text))
        turn.heard_at = now
        turn.end = max(turn.end, end)
        turn.settled = max(turn.settled, end)
        self.handle_timer(now)
        return turn.name

    def finalized(self, through: float, now: float) -> None:
        """The provider has said its last word about audio up to `through`."""
        for turn in self._turns:
            turn.settled = max(turn.settled, through + SLACK)
        self.handle_timer(now)

    def other_speaks(self, now: float) -> None:
        """Another leg clearly took over (spoke for half a second, say). A turn in silence is over; one that stops
        within a second from now was interrupted."""
        self._other_spoke_at = now
        if self._turns and not self._is_speaking:
            self._end(self._turns[-1], "interrupted", now)
        self.handle_timer(now)

    def hang_up(self, now: float) -> None:
        """The leg has ended: no more speech comes, finals may. `finalized(math.inf)` tells that none will."""
        if self._turns:
            self._end(self._turns[-1], "hangup", now)
        self.handle_timer(now)

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called, or None."""
        due = min((self._due(turn) for turn in self._turns), default=math.inf)
        return None if due == math.inf else due

    def handle_timer(self, now: float) -> None:
        """Ends the turns that are due. One in which nothing was recognised ends unheard."""
        for turn in [turn for turn in self._turns if self._due(turn) <= now]:
            self._turns.remove(turn)
            if turn.finals:
                self._events.append(self._told(turn))

    def take_events(self) -> list[TurnEnded]:
        """The turns that ended since the last call, in that order."""
        events, self._events = self._events, []
        return events

    def _begin(self, start: float, end: float, *, is_late: bool = False) -> _Turn:
        self._count += 1
        turn = _Turn(f"t{self._count}", start, end)
        self._turns.insert(0 if is_late else len(self._turns), turn)
        return turn

    def _current(self, start: float) -> _Turn:
        """The turn that speech beginning at `start` goes on with, or a new one."""
        if self._turns:
            turn = self._turns[-1]
            if turn.over_at is None and (self._is_speaking or start - turn.end < self._turn_end):
                return turn
        return self._begin(start, start)

    def _turn_for(self, start: float, now: float) -> None:
        """Of speech that is heard now. A turn that has been silent for so long that only its finals are missing is
        over, whatever `start` says: the look-back of a gate reaches into the silence before the voice."""
        is_silent = bool(self._turns) and not self._is_speaking
        if is_silent and now >= self._silent_at(self._turns[-1]) + STIRS_MOST:
            self._begin(start, start)
        else:
            self._current(start)

    def _turn_of(self, middle: float) -> _Turn | None:
        for turn in reversed(self._turns):
            if turn.start - SLACK <= middle:
                return turn
        return None

    def _end(self, turn: _Turn, reason: Reason, now: float, at: float | None = None) -> None:
        """Ends it for `reason` unless it has ended before, be it by silence; speech that goes on ends `at` (or now)."""
        if self._is_speaking:
            turn.end = max(turn.end, now - self._zero if at is None else at)
            self._is_speaking = False
        self._stirred_at = -math.inf
        if turn.over_at is None and now < self._silent_at(turn):
            turn.over_at, turn.reason = now, reason

    def _silent_at(self, turn: _Turn) -> float:
        return self._zero + turn.end + self._turn_end

    def _due(self, turn: _Turn) -> float:
        if self._is_speaking and turn is self._turns[-1]:
            return math.inf
        over_at = self._silent_at(turn) if turn.over_at is None else turn.over_at
        if turn.settled < turn.end:
            return over_at + self._wait
        if turn.over_at is not None or turn is not self._turns[-1]:
            return over_at
        return max(over_at, min(self._stirred_at + STIRS_FOR, over_at + min(STIRS_MOST, self._wait)))

    def _told(self, turn: _Turn) -> TurnEnded:
        finals = sorted(turn.finals)
        latency = max(0.0, turn.heard_at - self._zero - turn.end)
        return TurnEnded(
            turn.name,
            " ".join(text for _, _, text in finals if text),
            min(start for start, _, _ in finals),
            max(end for _, end, _ in finals),
            turn.reason,
            round(latency * 1000),
        )
