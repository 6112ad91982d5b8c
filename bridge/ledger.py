"""A leg's books: what the plane and the transcription know, in the contract's words. Seconds with 3 decimals."""

from __future__ import annotations

from typing import Any

from bridge.media.outputs import Books
from bridge.metrics import Metrics
from bridge.stt.ledger import SttLedger


def ledger(role: str, books: Books, spent: SttLedger, *, lasted_s: float, is_over: bool) -> dict[str, Any]:
    """`received_s = sent_s - replayed_s - padded_s + sum(withheld_s) + unsent_s`, to within one tick. What neither came
    nor was withheld of the `lasted_s` seconds since the leg's start is `absent_s`. While the leg runs, what its gate
    has not decided on yet counts as unsent: these books may be its last, should the process die."""
    accounted_s = spent.sent_s - spent.replayed_s - spent.padded_s + sum(books.withheld_s.values()) + spent.unsent_s
    undecided_s = 0.0 if is_over else max(books.received_s - accounted_s, 0.0)
    return {
        "role": role,
        "received_s": _s(books.received_s),
        "sent_s": _s(spent.sent_s),
        "replayed_s": _s(spent.replayed_s),
        "padded_s": _s(spent.padded_s),
        "concealed_s": _s(books.concealed_s),
        "lost_s": _s(spent.lost_s + undecided_s),
        "unsent_s": _s(spent.unsent_s + undecided_s),
        "withheld_s": {cause: _s(seconds) for cause, seconds in books.withheld_s.items()},
        "absent_s": _s(max(lasted_s - books.received_s, 0.0)),
        "connected_s": _s(spent.connected_s),
        "keepalives": spent.keepalives,
        "sessions": spent.sessions,
        "provider_s": _s(spent.provider_s),
        "billable_s": _s(spent.billable_s),
        "finals": spent.finals,
        "packets": books.packets,
    }


def _s(seconds: float) -> float:
    return round(seconds, 3)


def count(metrics: Metrics, closed: dict[str, Any], books: Books, *, provider: str) -> None:
    """A finished leg's books into the process's counters."""
    metrics.packets.add_all({kind: float(n) for kind, n in closed["packets"].items()})
    metrics.packets.add_all({"foreign": books.foreign, "malformed": books.malformed})
    fates = ("received_s", "sent_s", "replayed_s", "concealed_s", "lost_s")
    metrics.audio.add_all({name.removesuffix("_s"): closed[name] for name in fates})
    metrics.audio.add_all({f"withheld_{cause}": seconds for cause, seconds in closed["withheld_s"].items()})
    metrics.keepalives.add(closed["keepalives"], provider)
    metrics.sessions_opened.add(closed["sessions"], provider)
