"""What the outbox holds: one call's numbered events, and the interims that still wait for a number."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum

from bridge.publish import events
from bridge.publish.books import Book
from bridge.publish.events import Event
from bridge.publish.spool import Where


class Room(IntEnum):
    """How much may still come in."""

    OPEN = 0
    TIGHT = 1
    "Interims wait, and are dropped when their final comes."
    FULL = 2
    "Only the start and end of calls are taken: the rest is lost, and counted."


@dataclass(slots=True, eq=False)
class Entry:
    """A numbered event."""

    seq: int
    at_ms: int
    type: str
    body: bytes | None
    "None: to be read back from `where`."
    made: float
    ticket: int
    where: Where | None = None


@dataclass(slots=True, eq=False)
class Box:
    """One call's events, in order: `kept` (confirmed) then `pending`."""

    call: str
    partition: int
    book: Book = field(default_factory=Book)
    held: int = 0
    "The sink has confirmed so far."
    next_seq: int = 1
    last_ms: int = 0
    is_dead: bool = False
    "Left by a process that died; to be ended once the sink has said how far it holds it."
    kept: deque[Entry] = field(default_factory=deque)
    pending: deque[Entry] = field(default_factory=deque)


@dataclass(frozen=True, slots=True)
class Take:
    """What goes into a batch from one call."""

    call: str
    entries: list[Entry]
    floor: int


@dataclass(slots=True)
class Counts:
    """What happened so far."""

    numbered: int = 0
    confirmed: int = 0
    conflated: int = 0
    "Interims that a newer revision or their final replaced before they had a number."
    refused: int = 0
    "Events lost because there was no room on disk nor in memory."
    late: int = 0
    "Events offered after their call's end: a bug of ours."
    resumed: int = 0
    "Events published again because a failover had lost them."
    gaps: int = 0
    "Numbers missing in a stream because nobody had them any more."
    crashed_calls: int = 0


class Waiting:
    """Interims without a number: the newest of each utterance."""

    def __init__(self) -> None:
        self._interims: dict[tuple[str, str, str], tuple[Event, float]] = {}

    def __len__(self) -> int:
        return len(self._interims)

    def put(self, event: Event, now: float) -> int:
        """How many it replaced."""
        n = self._interims.pop(key := self._key(event), None) is not None
        self._interims[key] = (event, now)
        return int(n)

    def drop_stale(self, event: Event) -> int:
        """What `event`, a final or a call's end, makes pointless; how many."""
        if not self._interims:
            return 0
        if event.type == events.CALL_ENDED:
            stale = [key for key in self._interims if key[0] == event.call]
        else:
            stale = [self._key(event)]
        return sum(self._interims.pop(key, None) is not None for key in stale)

    def take_all(self) -> list[tuple[Event, float]]:
        """In the order they came, with when they were made."""
        interims, self._interims = self._interims, {}
        return list(interims.values())

    @staticmethod
    def _key(event: Event) -> tuple[str, str, str]:
        return event.call, event.leg, str(event.data.get("utterance", ""))
