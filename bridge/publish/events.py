"""The schema: what an event is, how it stands in a Redis stream, and how it is read back.

An entry is flat: `v type call seq at instance`, where they apply `leg role text start end`, and `data` (JSON).
All are strings. `start` and `end` are call time in seconds with 3 decimals; `at` is UTC, RFC 3339 with milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from bridge.model import Cause, Word

VERSION = "1"

CALL_STARTED = "call.started"
CALL_ENDED = "call.ended"
LEG_STARTED = "leg.started"
LEG_ENDED = "leg.ended"
LEG_GATE = "leg.gate"
TRANSCRIPT_INTERIM = "transcript.interim"
TRANSCRIPT_FINAL = "transcript.final"
TURN_ENDED = "turn.ended"
DTMF = "dtmf"
STT_LOST = "stt.lost"
STT_RESTORED = "stt.restored"

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=str).encode


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a call. Without a number: the outbox gives it."""

    type: str
    call: str
    at_ms: int
    "Wall clock, milliseconds since the epoch, UTC."
    leg: str = ""
    role: str = ""
    text: str | None = None
    start: float | None = None
    end: float | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published(Event):
    """An event as it stands in a stream."""

    seq: int = 0
    "1, 2, 3 ... within the call."
    instance: str = ""
    entry: str = ""
    "Entry id in the stream it was read from."
    redelivered: bool = False
    "It was given to a consumer of the group before, which did not acknowledge it."


@lru_cache(maxsize=8)
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(unix_ms: int) -> str:
    """`2026-11-21T11:48:08.123Z`"""
    seconds, ms = divmod(unix_ms, 1000)
    return f"{_second(seconds)}.{ms:03d}Z"


def unix_ms(at: str) -> int:
    """The inverse of `rfc3339`, exact. Raises ValueError."""
    moment = datetime.fromisoformat(at)
    return int(moment.replace(microsecond=0).timestamp()) * 1000 + moment.microsecond // 1000


def fields(event: Event, seq: int, instance: str) -> dict[str, str]:
    """The flat entry."""
    flat = {
        "v": VERSION,
        "type": event.type,
        "call": event.call,
        "seq": str(seq),
        "at": rfc3339(event.at_ms),
        "instance": instance,
    }
    if event.leg:
        flat["leg"] = event.leg
    if event.role:
        flat["role"] = event.role
    if event.text is not None:
        flat["text"] = event.text
    if event.start is not None:
        flat["start"] = f"{event.start:.3f}"
    if event.end is not None:
        flat["end"] = f"{event.end:.3f}"
    flat["data"] = _encode(event.data)
    return flat


def encode(event: Event, seq: int, instance: str) -> bytes:
    """The entry as one JSON array `[field, value, field, value ...]`: what the spool keeps and the script appends,
    byte for byte. UTF-8; a lone surrogate becomes `?`."""
    flat = [part for pair in fields(event, seq, instance).items() for part in pair]
    return _encode(flat).encode("utf-8", "replace")


def decode(body: bytes) -> dict[str, str]:
    """The flat entry from `encode`'s bytes. Raises ValueError."""
    flat = json.loads(body)
    if not isinstance(flat, list) or len(flat) % 2 or not all(isinstance(part, str) for part in flat):
        raise ValueError("not a flat entry")
    return dict(zip(flat[::2], flat[1::2], strict=True))


def parse(flat: Mapping[str, str], *, entry: str = "", redelivered: bool = False) -> Published:
    """An entry as it was read from a stream. Unknown fields are ignored. Raises ValueError for what is none of ours."""
    try:
        data = json.loads(flat.get("data") or "{}")
        if not isinstance(data, dict):
            raise ValueError("data is not an object")
        return Published(
            type=flat["type"],
            call=flat["call"],
            at_ms=unix_ms(flat["at"]),
            leg=flat.get("leg", ""),
            role=flat.get("role", ""),
            text=flat.get("text"),
            start=_seconds(flat.get("start")),
            end=_seconds(flat.get("end")),
            data=data,
            seq=int(flat["seq"]),
            instance=flat.get("instance", ""),
            entry=entry,
            redelivered=redelivered,
        )
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not an event: {error!r}") from error


def _seconds(value: str | None) -> float | None:
    return None if value is None else float(value)


def _words(words: Sequence[Word]) -> list[list[Any]]:
    return [[w.text, round(w.start, 3), round(w.end, 3), round(w.confidence, 4)] for w in words]


def call_started(
    call: str,
    at_ms: int,
    *,
    ingress: str,
    from_: str,
    to: str,
    legs: Sequence[Mapping[str, str]],
    correlation: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Event:
    """`legs`: `{leg, role, codec}` (and `participant` where known) of each leg at the start."""
    data: dict[str, Any] = {"ingress": ingress, "from": from_, "to": to, "legs": [dict(leg) for leg in legs]}
    data["correlation"] = dict(correlation or {})
    if labels:
        data["labels"] = dict(labels)
    return Event(CALL_STARTED, call, at_ms, data=data)


def leg_started(call: str, at_ms: int, *, leg: str, role: str, codec: str, participant: str = "") -> Event:
    """A leg that joined after the start, or whose speaker changed."""
    return Event(LEG_STARTED, call, at_ms, leg, role, data={"codec": codec, "participant": participant})


def leg_ended(call: str, at_ms: int, *, leg: str, role: str, codec: str = "", participant: str = "") -> Event:
    """A leg that left while the call goes on."""
    return Event(LEG_ENDED, call, at_ms, leg, role, data={"codec": codec, "participant": participant})


def leg_gate(call: str, at_ms: int, *, leg: str, role: str, cause: str | None, since: float, reason: str = "") -> Event:
    """`cause` None: open. `since`: call time. `reason`: what moved the gate, in a few words."""
    data: dict[str, Any] = {"state": "open" if cause is None else "closed", "since": round(since, 3)}
    if cause is not None:
        data["cause"] = str(cause)
    if reason:
        data["reason"] = reason
    return Event(LEG_GATE, call, at_ms, leg, role, data=data)


def transcript_interim(
    call: str,
    at_ms: int,
    *,
    leg: str,
    role: str,
    text: str,
    start: float,
    end: float,
    utterance: str | int,
    revision: int,
    words: Sequence[Word],
) -> Event:
    """Replaces the utterance's earlier revision. The only type that may be dropped, before it has a number."""
    data = {"utterance": utterance, "revision": revision, "words": _words(words)}
    return Event(TRANSCRIPT_INTERIM, call, at_ms, leg, role, text, start, end, data)


def transcript_final(
    call: str,
    at_ms: int,
    *,
    leg: str,
    role: str,
    text: str,
    start: float,
    end: float,
    utterance: str | int,
    turn: str | int,
    language: str,
    confidence: float,
    provider: str,
    words: Sequence[Word],
) -> Event:
    """Words that stay, in call time."""
    data = {
        "utterance": utterance,
        "turn": turn,
        "language": language,
        "confidence": round(confidence, 4),
        "provider": provider,
        "words": _words(words),
    }
    return Event(TRANSCRIPT_FINAL, call, at_ms, leg, role, text, start, end, data)


def turn_ended(
    call: str,
    at_ms: int,
    *,
    leg: str,
    role: str,
    text: str,
    start: float,
    end: float,
    turn: str | int,
    reason: str,
    latency_ms: int | None,
) -> Event:
    """`latency_ms`: end of speech to the turn's last final; None where nobody can know (after a crash)."""
    data = {"turn": turn, "reason": str(reason), "latency_ms": latency_ms}
    return Event(TURN_ENDED, call, at_ms, leg, role, text, start, end, data)


def dtmf(call: str, at_ms: int, *, leg: str, role: str, digit: str, duration_ms: int) -> Event:
    """Only where `sip.dtmf_events` asks for it: digits can be card numbers."""
    return Event(DTMF, call, at_ms, leg, role, data={"digit": digit, "duration_ms": duration_ms})


def stt_lost(
    call: str,
    at_ms: int,
    *,
    leg: str,
    role: str,
    provider: str,
    reason: str,
    gap_s: float = 0.0,
    replayed_s: float = 0.0,
) -> Event:
    """The leg has no provider now."""
    data = {"provider": provider, "reason": reason, "gap_s": round(gap_s, 3), "replayed_s": round(replayed_s, 3)}
    return Event(STT_LOST, call, at_ms, leg, role, data=data)


def stt_restored(
    call: str, at_ms: int, *, leg: str, role: str, provider: str, reason: str, gap_s: float, replayed_s: float
) -> Event:
    """The leg has a provider again."""
    data = {"provider": provider, "reason": reason, "gap_s": round(gap_s, 3), "replayed_s": round(replayed_s, 3)}
    return Event(STT_RESTORED, call, at_ms, leg, role, data=data)


def call_ended(
    call: str, at_ms: int, *, reason: str, duration_s: float, legs: Mapping[str, Mapping[str, Any]]
) -> Event:
    """A call's last event. `legs`: each leg's ledger; seconds with 3 decimals."""
    data = {"reason": str(reason), "duration_s": round(duration_s, 3), "legs": {k: dict(v) for k, v in legs.items()}}
    return Event(CALL_ENDED, call, at_ms, data=data)


def untold_ledger(role: str, withheld_s: Mapping[str, float] | None = None) -> dict[str, Any]:
    """Of a leg that no more is known of than what was withheld, which then must have been received: one that never
    had audio, or whose process died in its first seconds. All the contract's fields, and its sum holds."""
    withheld = {str(cause): 0.0 for cause in Cause} | {cause: round(s, 3) for cause, s in (withheld_s or {}).items()}
    seconds = ("sent_s", "replayed_s", "padded_s", "concealed_s", "lost_s", "unsent_s")
    more = ("absent_s", "connected_s", "provider_s", "billable_s")
    return {
        "role": role,
        "received_s": round(sum(withheld.values()), 3),
        **dict.fromkeys(seconds, 0.0),
        "withheld_s": withheld,
        **dict.fromkeys(more, 0.0),
        **dict.fromkeys(("keepalives", "sessions", "finals"), 0),
        "packets": dict.fromkeys(("received", "lost", "late", "duplicate"), 0),
    }
