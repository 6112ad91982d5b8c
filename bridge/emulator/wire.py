"""What the stand-ins' state machines answer with, and when it is due. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from bridge.emulator.recogniser import HeardWord


@dataclass(frozen=True, slots=True)
class SendText:
    """A text frame."""

    message: dict[str, Any]
    words: tuple[HeardWord, ...] = ()
    "Words that this frame makes final."

    @property
    def text(self) -> str:
        return json.dumps(self.message, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Close:
    """A closing handshake."""

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """The TCP connection is reset: the client sees 1006."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """From now on nothing is read, sent or ponged; the socket stays open."""


Output = SendText | Close | Abort | Freeze


class Schedule:
    """Outputs in the order in which they are due. What is put behind the rest never overtakes it."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Output]] = []
        self._count = 0

    def put(self, output: Output, now: float, *, delay: float = 0.0, behind_all: bool = False) -> None:
        due = now + delay
        if behind_all and self._entries:
            due = max(due, self._entries[-1][0])
        self._entries.append((due, self._count, output))
        self._entries.sort(key=lambda entry: entry[:2])
        self._count += 1

    def deadline(self) -> float | None:
        return self._entries[0][0] if self._entries else None

    def take(self, now: float) -> list[Output]:
        due = [output for at, _, output in self._entries if at <= now]
        self._entries = self._entries[len(due) :]
        return due


class Throttle:
    """Reading at most `factor` times as fast as real time (Deepgram: 1.25), what came in a burst is caught up with.

    The driver reads nothing before `ready_at()`; the rest waits in TCP, as it does at the provider.
    """

    SLACK = 0.5  # s of reading ahead, so that live chunks and their jitter never wait

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self._busy_until = float("-inf")

    def spend(self, seconds: float, now: float) -> None:
        """`seconds` of audio were read."""
        if self._factor > 0:
            self._busy_until = max(self._busy_until, now) + seconds / self._factor

    def ready_at(self) -> float:
        return self._busy_until - self.SLACK
