"""What one leg says: the provider's results and the voices that the ears hear, made into events.

stt     Interim, Final         -> `transcript.interim`, `transcript.final`
        Lost, Restored         -> `stt.lost`, `stt.restored`
        Finalized              -> turns
ears    a voice begins, stops  -> turns
turns   TurnEnded              -> `turn.ended`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from bridge.gate.turns import Turns
from bridge.model import Cause
from bridge.publish import events
from bridge.publish.events import Event
from bridge.stt.events import Final, Finalized, Interim, Lost, Restored, SttEvent
from bridge.wiring import Wiring

TAKES_OVER_AFTER = 0.5  # s of speech on one leg that end a silent turn of another


class Publish(Protocol):
    """Makes an event of this leg and hands it on. Never waits."""

    def __call__(self, make: Callable[..., Event], **data: Any) -> None: ...


class Speech:
    """Of the leg named `leg`, in call time; `zero` is the call's (monotonic). `takes_over` is told when somebody has
    spoken for long enough to end the turns of the other legs."""

    def __init__(
        self, leg: str, *, wiring: Wiring, publish: Publish, takes_over: Callable[[float], None], turns: Turns,
        interim: bool, zero: float,
    ) -> None:  # fmt: skip
        self._leg = leg
        self._wiring = wiring
        self._publish = publish
        self._takes_over = takes_over
        self._turns = turns
        self._interim = interim
        self._zero = zero
        self._speaking_since: float | None = None
        self._armed_for = math.inf
        self._is_over = False

    # -- what the ears and the gate say -------------------------------------------------------------------------------

    def begins(self, at: float, now: float) -> None:
        """Somebody began to speak at `at`."""
        self._speaking_since = at
        self._turns.begins(at, now)
        self._wiring.arm(self, now + TAKES_OVER_AFTER)
        self._publish_turns()

    def stops(self, at: float, now: float) -> None:
        """The last sound of this voice was at `at`."""
        self._turns.speech(self._speaking_since if self._speaking_since is not None else at, at, now)
        self._speaking_since = None
        self._publish_turns()

    def stirs(self, now: float) -> None:
        """Something is heard that may turn out to be speech."""
        self._turns.stirs(now)
        self._publish_turns()

    def retime(self, by: float, since: float, now: float) -> None:
        """What was told as of `since` (call time) or later was `by` seconds earlier."""
        if self._speaking_since is not None and self._speaking_since >= since:
            self._speaking_since -= by
        self._turns.retime(by, since, now)
        self._publish_turns()

    def gate_moved(self, cause: Cause | None, since: float, now: float) -> None:
        """Closed for `cause`; None: open."""
        self._turns.closed(cause, since, now)
        self._publish_turns()

    def other_speaks(self, now: float) -> None:
        """Another leg has taken over."""
        self._turns.other_speaks(now)
        self._publish_turns()

    def adjust(self, turn_end: float, now: float) -> None:
        """Another `turn_end_ms`, in seconds."""
        self._turns.adjust(turn_end=turn_end, now=now)
        self._publish_turns()

    def hang_up(self, now: float) -> None:
        """No more audio comes. Finals may still."""
        self._turns.hang_up(now)

    def close(self, now: float) -> None:
        """No more finals come either: every turn is told now."""
        self._is_over = True
        self._turns.hang_up(now)  # also what a final opened after the hang-up
        self._turns.finalized(math.inf, math.inf)  # whatever is still to be told is due
        self._publish_turns()
        self._publish, self._takes_over = nobody, nobody  # they hold the leg, which holds this object

    # -- what speech-to-text says -------------------------------------------------------------------------------------

    def hear(self, heard: list[SttEvent], now: float) -> None:
        """Results, in order."""
        for event in heard:
            if isinstance(event, Interim):
                self._on_interim(in_call_order(event))
            elif isinstance(event, Final):
                self._on_final(in_call_order(event), now)
            elif isinstance(event, Finalized):
                self._turns.finalized(event.through, now)
            elif isinstance(event, Lost):
                self._wiring.metrics.stt_lost.add(1, event.provider, _reason_class(event.reason))
                self._publish(events.stt_lost, provider=event.provider, reason=event.reason)
            elif isinstance(event, Restored):
                self._on_restored(event)
        self._publish_turns()

    def _on_restored(self, event: Restored) -> None:
        self._publish(
            events.stt_restored,
            provider=event.provider,
            reason="reconnected",
            gap_s=event.gap_s,
            replayed_s=event.replayed_s,
        )

    def _on_interim(self, event: Interim) -> None:
        if not self._interim:
            return
        self._publish(
            events.transcript_interim,
            text=event.text,
            start=event.start,
            end=event.end,
            utterance=f"{self._leg}-{event.utterance}",
            revision=event.revision,
            words=event.words,
        )

    def _on_final(self, event: Final, now: float) -> None:
        self._wiring.metrics.finals.add(1, event.provider)
        turn = self._turns.final(event.text, event.start, event.end, now)
        self._publish(
            events.transcript_final,
            text=event.text,
            start=event.start,
            end=event.end,
            utterance=f"{self._leg}-{event.utterance}",
            turn=f"{self._leg}-{turn}",
            language=event.language,
            confidence=event.confidence,
            provider=event.provider,
            words=event.words,
        )

    # -- turns and time -----------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """A deadline of ours may have passed."""
        if self._is_over:
            return
        self._armed_for = math.inf
        since = self._speaking_since
        if since is not None and now - self._zero - since >= TAKES_OVER_AFTER:
            self._takes_over(now)
        self._turns.handle_timer(now)
        self._publish_turns()

    def _publish_turns(self) -> None:
        for turn in self._turns.take_events():
            self._publish(
                events.turn_ended,
                text=turn.text,
                start=max(turn.start, 0.0),
                end=turn.end,
                turn=f"{self._leg}-{turn.turn}",
                reason=turn.reason,
                latency_ms=turn.latency_ms,
            )
            self._wiring.metrics.turn_latency.observe(turn.latency_ms / 1000)
        deadline = self._turns.deadline()
        if deadline is not None and deadline < self._armed_for and not self._is_over:
            self._armed_for = deadline
            self._wiring.arm(self, deadline)


Result = TypeVar("Result", Interim, Final)


def in_call_order(event: Result) -> Result:
    """A call's time begins with its answer, and runs forward: audio of before a network's delay was known may seem to
    have been captured earlier. Such words are told as of the earliest time that is possible."""
    reached, is_in_order = 0.0, event.start >= 0.0
    for word in event.words:
        is_in_order &= word.start >= reached
        reached = word.start
    if is_in_order:
        return event
    reached, words = 0.0, []
    for word in event.words:
        reached = max(word.start, reached)
        words.append(replace(word, start=reached, end=max(word.end, reached)))
    return replace(event, start=max(event.start, 0.0), end=max(event.end, reached), words=tuple(words))


def _reason_class(reason: str) -> str:
    """A label with few values: the status or code that a reason begins with, else `connection`."""
    first = reason.partition(" ")[0]
    return first if first.isdecimal() and len(first) <= 4 and first != "0" else "connection"


def nobody(*_: Any, **__: Any) -> None:
    """Whoever is told what nobody is told any more."""
