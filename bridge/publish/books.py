"""What is known of a call from its own events: enough to end it properly after the process that had it has died."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.publish import events
from bridge.publish.events import Event


@dataclass(slots=True)
class OpenTurn:
    """A turn with finals but without its `turn.ended`."""

    turn: str | int
    start: float
    end: float
    texts: list[str] = field(default_factory=list)


@dataclass(slots=True)
class LegBook:
    """One leg."""

    role: str = ""
    cause: str = ""
    "Why the gate is closed; empty: open."
    since: float = 0.0
    withheld_s: dict[str, float] = field(default_factory=dict)
    finals: int = 0
    turns: dict[str, OpenTurn] = field(default_factory=dict)


@dataclass(slots=True)
class Book:
    """One call, folded from its events in order of `seq`."""

    seq: int = 0
    "The last event folded in."
    started_ms: int = 0
    last_ms: int = 0
    is_ended: bool = False
    legs: dict[str, LegBook] = field(default_factory=dict)
    ledgers: dict[str, dict[str, Any]] = field(default_factory=dict)
    "As last told by the call itself; what the events show stands in where it never told."

    def fold(self, event: Event, seq: int) -> None:
        """Takes the next event. One that was folded before is passed over."""
        if seq <= self.seq:
            return
        if not self.seq:
            self.started_ms = event.at_ms
        self.seq = seq
        self.last_ms = max(self.last_ms, event.at_ms)
        if event.leg:
            self._leg(event.leg, event.role)  # a later speaker's role stands
        fold = _FOLDS.get(event.type)
        if fold is not None:
            fold(self, event)

    def _leg(self, leg: str, role: str) -> LegBook:
        book = self.legs.setdefault(leg, LegBook())
        book.role = role or book.role
        return book

    def _fold_started(self, event: Event) -> None:
        self.started_ms = event.at_ms
        for leg in event.data.get("legs", ()):
            if isinstance(leg, Mapping) and leg.get("leg"):
                self._leg(str(leg["leg"]), str(leg.get("role", "")))

    def _fold_ended(self, event: Event) -> None:
        self.is_ended = True

    def _fold_gate(self, event: Event) -> None:
        leg = self._leg(event.leg, event.role)
        since = float(event.data.get("since", leg.since))
        _withhold(leg, since)
        leg.cause = str(event.data.get("cause", "")) if event.data.get("state") == "closed" else ""
        leg.since = since

    def _fold_final(self, event: Event) -> None:
        leg = self._leg(event.leg, event.role)
        leg.finals += 1
        turn = event.data.get("turn", "")
        start, end = event.start or 0.0, event.end or 0.0
        opened = leg.turns.setdefault(str(turn), OpenTurn(turn, start, end))
        opened.end = max(opened.end, end)
        if event.text:
            opened.texts.append(event.text)

    def _fold_turn(self, event: Event) -> None:
        self._leg(event.leg, event.role).turns.pop(str(event.data.get("turn", "")), None)

    def closing(self, call: str, at_ms: int) -> list[Event]:
        """The events that end a call that died: each open turn (`interrupted`), then `call.ended` (`crash`)."""
        made = [
            events.turn_ended(
                call,
                at_ms,
                leg=leg_id,
                role=leg.role,
                text=" ".join(turn.texts),
                start=turn.start,
                end=turn.end,
                turn=turn.turn,
                reason="interrupted",
                latency_ms=None,
            )
            for leg_id, leg in self.legs.items()
            for turn in leg.turns.values()
        ]
        duration_s = max(0.0, (self.last_ms - self.started_ms) / 1000)
        ledgers = self._ledgers(duration_s)
        return [*made, events.call_ended(call, at_ms, reason="crash", duration_s=duration_s, legs=ledgers)]

    def _ledgers(self, duration_s: float) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = {}
        for leg_id, leg in self.legs.items():
            _withhold(leg, max(duration_s, leg.since))
            told = self.ledgers.get(leg_id) or events.untold_ledger(leg.role, leg.withheld_s)
            known[leg_id] = {**told, "finals": leg.finals}  # what was published since it was told counts too
        return known

    def to_json(self) -> dict[str, Any]:
        """For a snapshot in the spool."""
        return {
            "seq": self.seq,
            "started_ms": self.started_ms,
            "last_ms": self.last_ms,
            "is_ended": self.is_ended,
            "ledgers": self.ledgers,
            "legs": {
                leg_id: [
                    leg.role,
                    leg.cause,
                    leg.since,
                    leg.withheld_s,
                    leg.finals,
                    [[t.turn, t.start, t.end, t.texts] for t in leg.turns.values()],
                ]
                for leg_id, leg in self.legs.items()
            },
        }

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Book:
        """The inverse of `to_json`. Raises ValueError, KeyError or TypeError for anything else."""
        legs: dict[str, LegBook] = {}
        for leg_id, (role, cause, since, withheld, finals, turns) in saved["legs"].items():
            opened = {str(turn): OpenTurn(turn, start, end, list(texts)) for turn, start, end, texts in turns}
            legs[leg_id] = LegBook(role, cause, since, dict(withheld), finals, opened)
        return cls(
            int(saved["seq"]),
            int(saved["started_ms"]),
            int(saved["last_ms"]),
            bool(saved["is_ended"]),
            legs,
            dict(saved["ledgers"]),
        )


def _withhold(leg: LegBook, until: float) -> None:
    if leg.cause:
        leg.withheld_s[leg.cause] = leg.withheld_s.get(leg.cause, 0.0) + max(0.0, until - leg.since)


_FOLDS = {
    events.CALL_STARTED: Book._fold_started,
    events.CALL_ENDED: Book._fold_ended,
    events.LEG_GATE: Book._fold_gate,
    events.TRANSCRIPT_FINAL: Book._fold_final,
    events.TURN_ENDED: Book._fold_turn,
}
