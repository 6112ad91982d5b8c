"""One call as its events tell it: lanes, ledger, transcript. Plain data, for any rendering."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.publish import events
from bridge.publish.events import Published


@dataclass(slots=True)
class Stretch:
    """A part of a leg's lane, in call time. `cause` is empty while the gate is open."""

    start: float
    end: float
    cause: str = ""
    reason: str = ""
    "What moved the gate into it; empty: nobody said so."


@dataclass(slots=True)
class LegReport:
    """One leg."""

    leg: str
    role: str = ""
    codec: str = ""
    lane: list[Stretch] = field(default_factory=list)
    speech: list[tuple[float, float]] = field(default_factory=list)
    "Start and end of each final."
    ledger: dict[str, Any] = field(default_factory=dict)
    "As `call.ended` says; empty while the call runs."


@dataclass(slots=True)
class Line:
    """One turn."""

    leg: str
    role: str
    turn: str
    start: float
    end: float
    text: str
    reason: str = ""
    "Why it ended; empty: it has not, or nobody said so."
    latency_ms: int | None = None
    words: list[list[Any]] = field(default_factory=list)


@dataclass(slots=True)
class Outage:
    """A stretch without provider."""

    leg: str
    provider: str
    reason: str
    gap_s: float
    at_ms: int
    is_restored: bool


@dataclass(slots=True)
class Report:
    """One call. Seconds are call time."""

    call: str
    ingress: str = ""
    from_: str = ""
    to: str = ""
    instance: str = ""
    started_ms: int = 0
    "Unix milliseconds, UTC."
    duration_s: float = 0.0
    reason: str = ""
    "Empty: the call runs."
    labels: dict[str, str] = field(default_factory=dict)
    correlation: dict[str, str] = field(default_factory=dict)
    legs: dict[str, LegReport] = field(default_factory=dict)
    transcript: list[Line] = field(default_factory=list)
    "Turns by their start."
    outages: list[Outage] = field(default_factory=list)
    digits: list[tuple[str, str]] = field(default_factory=list)
    "(leg, digit)"
    n_events: int = 0
    missing: int = 0
    "Numbers that are not in the stream."


def build(found: Iterable[Published]) -> Report:
    """Folds a call's events, in order of `seq`. At least one is needed."""
    report: Report | None = None
    turns: dict[tuple[str, str], Line] = {}
    last = 0
    for event in found:
        if report is None:
            report = Report(event.call, started_ms=event.at_ms, instance=event.instance)
        report.n_events += 1
        report.missing += max(0, event.seq - last - 1)
        last = event.seq
        report.duration_s = max(report.duration_s, (event.at_ms - report.started_ms) / 1000)
        if event.leg:
            leg = report.legs.setdefault(event.leg, LegReport(event.leg))
            leg.role = event.role or leg.role
        _fold(report, turns, event)
    if report is None:
        raise ValueError("no events")
    _close_lanes(report)
    report.transcript = sorted(turns.values(), key=lambda line: (line.start, line.end))
    return report


def _fold(report: Report, turns: dict[tuple[str, str], Line], event: Published) -> None:
    data = event.data
    if event.type == events.CALL_STARTED:
        report.ingress, report.from_, report.to = (str(data.get(name, "")) for name in ("ingress", "from", "to"))
        report.labels, report.correlation = dict(data.get("labels") or {}), dict(data.get("correlation") or {})
        for leg in data.get("legs", ()):
            report.legs[leg["leg"]] = LegReport(leg["leg"], leg.get("role", ""), leg.get("codec", ""))
    elif event.type == events.LEG_STARTED:
        report.legs[event.leg].codec = str(data.get("codec", ""))
    elif event.type == events.LEG_GATE:
        _fold_gate(report.legs[event.leg], data)
    elif event.type == events.TRANSCRIPT_FINAL:
        _fold_final(report.legs[event.leg], turns, event)
    elif event.type == events.TURN_ENDED:
        _fold_turn(turns, event)
    elif event.type in (events.STT_LOST, events.STT_RESTORED):
        is_restored = event.type == events.STT_RESTORED
        provider, reason, gap_s = (
            str(data.get("provider", "")),
            str(data.get("reason", "")),
            float(data.get("gap_s") or 0),
        )
        report.outages.append(Outage(event.leg, provider, reason, gap_s, event.at_ms, is_restored))
    elif event.type == events.DTMF:
        report.digits.append((event.leg, str(data.get("digit", ""))))
    elif event.type == events.CALL_ENDED:
        report.reason, report.duration_s = str(data.get("reason", "")), float(data.get("duration_s") or 0)
        for leg_id, ledger in (data.get("legs") or {}).items():
            leg = report.legs.setdefault(leg_id, LegReport(leg_id))
            leg.ledger = dict(ledger)
            leg.role = leg.role or str(ledger.get("role", ""))


def _fold_gate(leg: LegReport, data: Mapping[str, Any]) -> None:
    since = float(data.get("since") or 0)
    if leg.lane:
        leg.lane[-1].end = max(leg.lane[-1].start, since)
    cause = str(data.get("cause", "")) if data.get("state") == "closed" else ""
    leg.lane.append(Stretch(since, since, cause, str(data.get("reason", ""))))


def _fold_final(leg: LegReport, turns: dict[tuple[str, str], Line], event: Published) -> None:
    start, end = event.start or 0.0, event.end or 0.0
    leg.speech.append((start, end))
    turn = str(event.data.get("turn", ""))
    line = turns.setdefault((event.leg, turn), Line(event.leg, event.role, turn, start, end, ""))
    line.start, line.end = min(line.start, start), max(line.end, end)
    line.text = f"{line.text} {event.text or ''}".strip()
    line.words += event.data.get("words") or []


def _fold_turn(turns: dict[tuple[str, str], Line], event: Published) -> None:
    turn = str(event.data.get("turn", ""))
    start, end = event.start or 0.0, event.end or 0.0
    line = turns.setdefault((event.leg, turn), Line(event.leg, event.role, turn, start, end, ""))
    line.text = event.text or line.text
    line.start, line.end = start, end
    line.reason, line.latency_ms = str(event.data.get("reason", "")), event.data.get("latency_ms")


def _close_lanes(report: Report) -> None:
    for leg in report.legs.values():
        if leg.lane:
            leg.lane[-1].end = max(leg.lane[-1].start, report.duration_s)
        leg.lane = [stretch for stretch in leg.lane if stretch.end > stretch.start]
