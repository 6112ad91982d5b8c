"""One call, read back from its stream: ledger, lanes, transcript. And what `callbridge tail` prints.

What a `Report` is stands in `bridge.publish.report`; text, JSON (and whatever else) are renderings of it.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

from bridge.net.redis_link import Address, close_client
from bridge.publish import events
from bridge.publish.events import Published, parse, rfc3339
from bridge.publish.keys import Keys
from bridge.publish.report import LegReport, Line, Outage, Report, Stretch, build

__all__ = [
    "LegReport",
    "Line",
    "Outage",
    "Report",
    "Stretch",
    "as_json",
    "as_text",
    "build",
    "clean",
    "clock_time",
    "event_json",
    "lane_signs",
    "read",
    "tail",
]

LANE_COLUMNS = 72
SIGNS = {"open": "#", "silence": ".", "hold": "H", "mute": "M", "music": "~", "tone": "t", "paused": "P", "": " "}
COLOURS = {"caller": "\x1b[36m", "agent": "\x1b[33m"}  # cyan, yellow: told apart on dark and light
OTHER_COLOUR, DIM, RESET = "\x1b[35m", "\x1b[2m", "\x1b[0m"


async def read(url: str, call: str, *, prefix: str = "callbridge", partitions: int = 1) -> Report | None:
    """The call as its stream has it now; None: there is no such stream. Raises ConfigError for a bad URL, and
    redis-py's errors when Redis does not answer."""
    address = Address.parse(url)
    key = Keys(prefix, partitions, tagged=address.kind == "cluster").call(call)
    client = address.client(decode_responses=True, socket_timeout=10.0)
    found: list[Published] = []
    after = "-"
    try:
        while entries := await client.xrange(key, min=after, count=500):
            for entry, fields in entries:
                try:
                    found.append(parse(fields, entry=entry))
                except ValueError:
                    continue  # not ours
            after = f"({entries[-1][0]}"
    finally:
        await close_client(client)
    return build(found) if found else None


# --- renderings ---


def as_json(report: Report) -> str:
    """The whole of it, indented; the names are the dataclasses' (`from_` is `from`)."""
    plain = dataclasses.asdict(report)
    plain["from"] = plain.pop("from_")
    return json.dumps(plain, ensure_ascii=False, indent=2)


def as_text(report: Report) -> str:
    """For a terminal or a ticket, without colours."""
    return "\n".join([*_head(report), "", *_lanes(report), "", *_ledger(report), "", *_transcript(report)]) + "\n"


def _head(report: Report) -> list[str]:
    state = f"ended: {report.reason}" if report.reason else "running"
    lines = [
        f"call {report.call}  {report.ingress}  {_between(report.from_, report.to)}".rstrip(),
        f"{rfc3339(report.started_ms)}  {report.duration_s:.1f} s  {state}  ({report.n_events} events)",
    ]
    lines += [f"{name}: {clean(value)}" for name, value in (report.correlation | report.labels).items()]
    if report.missing:
        lines.append(f"{report.missing} events are missing in the stream")
    for outage in report.outages:
        what = "restored" if outage.is_restored else "lost"
        lines.append(f"{rfc3339(outage.at_ms)}  {outage.leg}: {outage.provider} {what}: {clean(outage.reason)}")
    return lines


def _lanes(report: Report) -> list[str]:
    lines = [f"{'':12} 0 s{report.duration_s:>{LANE_COLUMNS - 5}.1f} s"]
    lines += [f"{leg.role or leg.leg:12} {lane_signs(leg.lane, report.duration_s)}" for leg in report.legs.values()]
    used = {stretch.cause for leg in report.legs.values() for stretch in leg.lane}
    legend = "  ".join(
        f"{sign} {name}" for name, sign in SIGNS.items() if name in used or (name == "open" and "" in used)
    )
    return [*lines, f"{'':12} {legend}", *_reasons(report)]


def _reasons(report: Report) -> list[str]:
    """What moved each leg's gate, and how often."""
    lines = []
    for leg in report.legs.values():
        counted = Counter(clean(stretch.reason) for stretch in leg.lane if stretch.reason)
        told = ", ".join(f"{reason} {n}" for reason, n in counted.most_common())
        lines += [f"{leg.role or leg.leg:12} {told}"] if told else []
    return ["", "gate moved by", *lines] if lines else []


def lane_signs(lane: Sequence[Stretch], duration_s: float, columns: int = LANE_COLUMNS) -> str:
    """A lane as a row of signs; each stands for what was so at the middle of its stretch of time."""
    signs = []
    for column in range(columns):
        moment = (column + 0.5) * duration_s / columns
        cause = next((stretch.cause for stretch in lane if stretch.start <= moment < stretch.end), None)
        signs.append(SIGNS[""] if cause is None else SIGNS.get(cause or "open", "?"))
    return "".join(signs)


def _ledger(report: Report) -> list[str]:
    rows: dict[str, dict[str, str]] = {}
    for leg in report.legs.values():
        for name, value in leg.ledger.items():
            parts = (
                {f"  {name}.{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            )
            for key, part in parts.items():
                rows.setdefault(key, {})[leg.leg] = f"{part:.3f}" if isinstance(part, float) else str(part)
    if not rows:
        return ["no ledger: the call has not ended"]
    lines = [f"{'ledger':26}" + "".join(f"{leg.role or leg.leg:>14}" for leg in report.legs.values())]
    return lines + [
        f"{key:26}" + "".join(f"{row.get(leg, ''):>14}" for leg in report.legs) for key, row in rows.items()
    ]


def _transcript(report: Report) -> list[str]:
    return [f"{clock_time(line.start):>9}  {line.role or line.leg:10} {clean(line.text)}" for line in report.transcript]


def clock_time(seconds: float) -> str:
    """Call time as `m:ss.t`."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def clean(text: str) -> str:
    """Without what a terminal would obey: transcripts and SIP headers come from strangers."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _between(from_: str, to: str) -> str:
    """Who called whom; external media knows neither."""
    return f"{clean(from_)} -> {clean(to)}" if from_ or to else ""


# --- tail ---


async def tail(
    found: AsyncIterator[Published], *, interim: bool = False, colour: bool = False, as_json: bool = False
) -> AsyncIterator[str]:
    """A line for each turn of `found` (from `bridge.subscribe.follow` or `replay`), and for each call's start and end.
    `interim`: for each interim and final as well. `as_json`: each event as a JSON object instead, interims if asked."""
    waiting: dict[tuple[str, str, str], Published] = {}
    async for event in found:
        if event.type == events.TRANSCRIPT_INTERIM and not interim:
            continue
        if as_json:
            yield json.dumps(event_json(event), ensure_ascii=False)
            continue
        for line in _tail_lines(event, waiting, interim=interim):
            yield _paint(line, event, colour)


def event_json(event: Published) -> dict[str, Any]:
    """An event for machines: the entry's fields with numbers as numbers and `data` as an object."""
    plain = dataclasses.asdict(event)
    plain["at"] = rfc3339(plain.pop("at_ms"))
    return {name: value for name, value in plain.items() if value not in ("", None, False) or name == "data"}


def _tail_lines(event: Published, waiting: dict[tuple[str, str, str], Published], *, interim: bool) -> list[str]:
    key = (event.call, event.leg, str(event.data.get("turn", "")))
    if event.type == events.TURN_ENDED:
        waiting.pop(key, None)
        return [_spoken(event)]
    if event.type == events.TRANSCRIPT_FINAL:
        waiting[key] = event
        return [_spoken(event, "+ ")] if interim else []
    if event.type == events.TRANSCRIPT_INTERIM:
        return [_spoken(event, "~ ")]
    if event.type == events.CALL_STARTED:
        numbers = _between(str(event.data.get("from", "")), str(event.data.get("to", "")))
        return [f"{event.call}  {rfc3339(event.at_ms)}  started  {event.data.get('ingress', '')}  {numbers}".rstrip()]
    if event.type == events.CALL_ENDED:
        left = [waiting.pop(other) for other in list(waiting) if other[0] == event.call]
        ended = f"{event.call}  {rfc3339(event.at_ms)}  ended  {event.data.get('reason', '')}"
        return [*(_spoken(final) for final in left), f"{ended}  {event.data.get('duration_s', '')} s"]
    if event.type in (events.STT_LOST, events.STT_RESTORED):
        return [f"{event.call}  {event.type}  {event.role}  {clean(str(event.data.get('reason', '')))}"]
    return []


def _spoken(event: Published, sign: str = "") -> str:
    at = clock_time(event.start or 0.0)
    return f"{event.call}  {at:>8}  {event.role or event.leg:8} {sign}{clean(event.text or '')}"


def _paint(line: str, event: Published, colour: bool) -> str:
    if not colour:
        return line
    if event.type in (events.TURN_ENDED, events.TRANSCRIPT_FINAL):
        return f"{COLOURS.get(event.role, OTHER_COLOUR)}{line}{RESET}"
    return f"{DIM}{line}{RESET}"
