"""How long words take from the provider to a reader of Redis. Pure: is told entries of the stream, answers delays.

A final of the provider stand-in ends with a *stamp*: the monotonic time, which all processes of a machine share, at
which it was sent. `transcript.final` carries it, and `turn.ended` carries that of the turn's last final.

    final   stamp -> the reader has `transcript.final`
    turn    max(stamp, end of speech + turn_end_ms) -> the reader has `turn.ended`
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

STAMP = re.compile(r"at(\d{6,20})")


def make_stamp(now: float) -> str:
    """As a word."""
    return f"at{round(now * 1e6)}"


def read_stamp(text: str) -> float | None:
    """Monotonic seconds, from the last word of `text`; None: it is no stamp."""
    found = STAMP.fullmatch(text.rpartition(" ")[2].rstrip("."))
    return int(found[1]) / 1e6 if found else None


class TurnEnds:
    """Of one service, whose `gate.turn_end_ms` is known."""

    def __init__(self, turn_end_ms: float) -> None:
        self._turn_end_ms = turn_end_ms
        self.finals: list[float] = []
        self.turns: list[float] = []

    def take(self, fields: Mapping[bytes, bytes], received: float) -> None:
        """An entry that the reader had at `received`."""
        kind = fields.get(b"type", b"")
        if kind not in (b"transcript.final", b"turn.ended"):
            return
        stamp = read_stamp(fields.get(b"text", b"").decode())
        if stamp is None:
            return
        if kind == b"transcript.final":
            self.finals.append(received - stamp)
            return
        told = json.loads(fields[b"data"])
        if told["reason"] == "silence":
            self.turns.append(received - self._due(stamp, told["latency_ms"]))

    def _due(self, stamp: float, latency_ms: float) -> float:
        """`latency_ms` is how long after the end of speech the service had the final: it tells the end of speech, but
        for the way from the stamp to the service, which is thereby counted against the service."""
        return stamp + max(self._turn_end_ms - latency_ms, 0.0) / 1000
