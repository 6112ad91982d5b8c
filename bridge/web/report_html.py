"""`callbridge report CALL --format html`: one call as a file that can be mailed.

No script and nothing loaded from elsewhere; the lanes are SVG. Whatever a call brought along is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator
from importlib import resources

from bridge.publish.events import rfc3339
from bridge.publish.report import LegReport, Report

WIDTH, LANE, GAP, LABEL = 1000.0, 34.0, 10.0, 110.0  # of the drawing, in its own units
TICK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)  # s
MOST_TICKS = 12
LETTER, PLATE = 8.0, 12.0  # units: a letter of a name, and the edges around it
CAUSES = ("silence", "hold", "mute", "music", "tone", "paused")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"

PATTERNS = """<defs>
<pattern id="hold" width="9" height="9" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="4.5" height="9" class="f-hold"/></pattern>
<pattern id="mute" width="7" height="7" patternUnits="userSpaceOnUse">
<circle cx="3.5" cy="3.5" r="1.6" class="f-mute"/></pattern>
<pattern id="tone" width="6" height="6" patternUnits="userSpaceOnUse">
<rect width="2.5" height="6" class="f-tone"/></pattern>
</defs>"""


def as_html(report: Report, *, price_per_hour: float = 0.0) -> str:
    """The whole page. With `price_per_hour` it also says what the withheld seconds would have cost."""
    sheets = "".join((_head(report, price_per_hour), _lanes(report), _ledgers(report), _transcript(report)))
    folder = resources.files("bridge.web").joinpath("page")
    style = "".join(folder.joinpath(name).read_text("utf-8") for name in ("console.css", "report.css"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>Call {_text(report.call)}</title><style>{style}</style></head>\n"
        f"<body><main>{sheets}</main></body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _withheld(leg: LegReport) -> dict[str, float]:
    found = leg.ledger.get("withheld_s")
    return {cause: float(found.get(cause, 0.0)) for cause in CAUSES} if isinstance(found, dict) else {}


def _head(report: Report, price_per_hour: float) -> str:
    parties = " → ".join(_text(party) for party in (report.from_, report.to) if party) or f"Call {_text(report.call)}"
    facts = [
        rfc3339(report.started_ms),
        f"{_clock(report.duration_s)} long",
        f"ended: {report.reason}" if report.reason else "still running",
        report.ingress,
        *(f"{key} {value}" for key, value in report.labels.items()),
        report.call,
    ]
    figures = _figures(report, price_per_hour)
    lines = [f'<p class="meta">{_text(" · ".join(fact for fact in facts if fact))}</p>', *_notes(report)]
    return f'<section class="totals"><h1>{parties}</h1>{"".join(lines)}{figures}</section>'


def _notes(report: Report) -> Iterator[str]:
    if report.missing:
        yield f'<p class="error">{report.missing} events are missing from the stream.</p>'
    for outage in report.outages:
        what = "back" if outage.is_restored else "lost"
        gap = f", {outage.gap_s:.1f} s without" if outage.gap_s else ""
        yield f'<p class="meta">{_text(outage.provider)} {what} on {_text(outage.leg)}: {_text(outage.reason)}{gap}</p>'


def _figures(report: Report, price_per_hour: float) -> str:
    ledgers = [leg.ledger for leg in report.legs.values() if leg.ledger]
    if not ledgers:
        return ""
    received, sent = (sum(float(each.get(key, 0.0)) for each in ledgers) for key in ("received_s", "sent_s"))
    withheld = sum(sum(_withheld(leg).values()) for leg in report.legs.values())
    told = [("Received", f"{received:.1f} s"), ("Sent", f"{sent:.1f} s"), ("Withheld", f"{withheld:.1f} s")]
    if price_per_hour:
        told.append(("Not spent", f"{_spared(report) / 3600 * price_per_hour:.3f}"))
    return "<dl>" + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in told) + "</dl>"


def _spared(report: Report) -> float:
    """Seconds that cost nothing because they were withheld: a provider that bills its stream's length (Soniox) bills
    part of them all the same."""
    total = 0.0
    for leg in report.legs.values():
        unbilled = float(leg.ledger.get("received_s", 0.0)) - float(leg.ledger.get("billable_s", 0.0))
        total += max(0.0, min(sum(_withheld(leg).values()), unbilled))
    return total


def _lanes(report: Report) -> str:
    legs = list(report.legs.values())
    length = max(report.duration_s, 1.0)
    height = len(legs) * (LANE + GAP) + 24
    drawn = "".join(_lane(leg, n * (LANE + GAP), length) for n, leg in enumerate(legs))
    axis = "".join(_axis(length, height - 20))
    names = ", ".join(_text(leg.role or leg.leg) for leg in legs)
    legend = "".join(f'<li><i class="k-{kind}"></i>{name}</li>' for kind, name in _legend())
    return (
        f'<section class="sheet"><h2>Lanes</h2><div class="scroll"><svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        f'aria-label="What was sent and withheld over time: {names}">{PATTERNS}{drawn}{axis}</svg></div>'
        f'<ul class="legend">{legend}</ul></section>'
    )


def _legend() -> Iterable[tuple[str, str]]:
    return (("open", "sent"), ("words", "words"), *((cause, cause) for cause in CAUSES), ("finalize", "finalize"))


def _x(at: float, length: float) -> float:
    return LABEL + (WIDTH - LABEL) * min(max(at / length, 0.0), 1.0)


def _lane(leg: LegReport, top: float, length: float) -> str:
    role = _text((leg.role or leg.leg)[:14])
    parts = [
        f'<text x="0" y="{top + LANE / 2 + 5:g}">{role}</text>',
        f'<rect class="bed" x="{LABEL:g}" y="{top:g}" width="{WIDTH - LABEL:g}" height="{LANE:g}" rx="6"/>',
    ]
    names: list[str] = []
    for stretch in leg.lane:
        left, right = _x(stretch.start, length), _x(stretch.end, length)
        parts.append(_stretch(stretch.cause, left, right - left, top))
        if not stretch.cause and stretch.end < length:
            parts.append(f'<path class="f-mark" d="M{right - 4:.1f} {top:g}h8l-4 6z"/>')
        name = f"{stretch.cause} {stretch.end - stretch.start:.0f} s"
        if stretch.cause not in ("", "silence") and right - left > LETTER * len(name) + 2 * PLATE:
            names.append(_name(name, (left + right) / 2, top))
    for start, end in leg.speech:
        left, wide = _x(start, length), max(_x(end, length) - _x(start, length), 1.0)
        parts.append(
            f'<rect class="f-words" x="{left:.1f}" y="{top + 9:g}" width="{wide:.1f}" height="{LANE - 18:g}"/>'
        )
    return "".join(parts + names)


def _stretch(cause: str, left: float, width: float, top: float) -> str:
    if cause == "silence":
        y, height, paint = top + LANE / 2 - 1, 2.0, 'class="f-silence"'
    elif cause in ("hold", "mute", "tone"):
        y, height, paint = top + 5, LANE - 10, f'fill="url(#{cause})"'
    elif cause in ("music", "paused"):
        y, height, paint = top + 5, LANE - 10, f'class="f-{cause}"'
    else:
        y, height, paint = top + 2, LANE - 4, f'class="f-{"silence" if cause else "open"}"'
    return f'<rect {paint} x="{left:.1f}" y="{y:g}" width="{max(width, 0.5):.1f}" height="{height:g}"/>'


def _name(name: str, middle: float, top: float) -> str:
    wide, y = LETTER * len(name) + PLATE, top + LANE / 2 - 10
    return (
        f'<rect class="plate" x="{middle - wide / 2:.1f}" y="{y:g}" width="{wide:.1f}" height="20" rx="5"/>'
        f'<text x="{middle:.1f}" y="{top + LANE / 2 + 5:g}" text-anchor="middle">{_text(name)}</text>'
    )


def _axis(length: float, top: float) -> Iterator[str]:
    step = next((step for step in TICK_STEPS if length / step <= MOST_TICKS), 7200)
    for at in range(0, int(length) + 1, step):
        x = _x(at, length)
        anchor = "start" if at == 0 else "end" if x > WIDTH - 20 else "middle"
        yield f'<text class="tick" x="{x:.1f}" y="{top + 14:g}" text-anchor="{anchor}">{_clock(at)}</text>'


COLUMNS = (("received_s", "Received"), ("sent_s", "Sent"), ("billable_s", "Billable"), ("lost_s", "Lost"),
           ("absent_s", "Absent"), ("connected_s", "Connected"))  # fmt: skip


def _ledgers(report: Report) -> str:
    told = [leg for leg in report.legs.values() if leg.ledger]
    if not told:
        return ""
    causes = [cause for cause in CAUSES if any(_withheld(leg).get(cause) for leg in told)]
    heads = ["Leg", *(name for _, name in COLUMNS), *(f"Withheld: {cause}" for cause in causes)]
    rows = "".join(_row(leg, causes) for leg in told)
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section class="sheet"><h2>Ledger, seconds</h2><div class="scroll"><table><thead>'
        f"<tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _row(leg: LegReport, causes: list[str]) -> str:
    seconds = [float(leg.ledger.get(key) or 0.0) for key, _ in COLUMNS] + [_withheld(leg)[cause] for cause in causes]
    cells = "".join(f"<td>{value:.1f}</td>" for value in seconds)
    return f'<tr><th scope="row">{_text(leg.role or leg.leg)}</th>{cells}</tr>'


def _transcript(report: Report) -> str:
    if not report.transcript:
        return '<section class="sheet"><h2>Transcript</h2><p class="meta">Nobody was heard.</p></section>'
    lines = "".join(
        f'<li><time>{_clock(line.start)}</time><span class="role">{_text(line.role or line.leg)}</span>'
        f"<p>{_text(line.text)}</p></li>"
        for line in report.transcript
    )
    return f'<section class="sheet"><h2>Transcript</h2><ol class="said-list">{lines}</ol></section>'
