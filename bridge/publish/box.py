"""What the outbox holds: one call's numbered events, and the interims that still wait for a number."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf

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
    body: bytes | None
    "None: to be read back from `where`."
    made: float
    ticket: int
    where: Where | None = None
    is_first: bool = False
    "Its call's `call.started`."
    is_last: bool = False
    "Its call's `call.ended`."


class Kept:
    """A call's confirmed events, oldest first, until no failover can lose them any more. A thousand legs make a
    hundred thousand in a minute: each takes 42 bytes here instead of 300. One whose body is not safe on disk stays
    whole."""

    _RECORD = struct.Struct("<IQdQIII??")

    def __init__(self) -> None:
        self._records = bytearray()
        self._whole: dict[int, Entry] = {}

    def __bool__(self) -> bool:
        return bool(self._records)

    def append(self, entry: Entry) -> None:
        """The next newer one."""
        if entry.where is None or entry.body is not None:
            self._whole[entry.seq] = entry
        where = entry.where or _NOWHERE
        self._records += self._RECORD.pack(
            entry.seq, entry.at_ms, entry.made, entry.ticket, *where, entry.is_first, entry.is_last
        )

    def pop(self) -> Entry:
        """Takes the newest away."""
        entry = self._entry(len(self._records) - self._RECORD.size)
        del self._records[-self._RECORD.size :]
        return entry

    def popleft(self) -> Entry:
        """Takes the oldest away."""
        entry = self._entry(0)
        del self._records[: self._RECORD.size]
        return entry

    @property
    def first_seq(self) -> int:
        """Of the oldest. There must be one."""
        return int(self._RECORD.unpack_from(self._records)[0])

    @property
    def last_seq(self) -> int:
        """Of the newest. There must be one."""
        return int(self._RECORD.unpack_from(self._records, len(self._records) - self._RECORD.size)[0])

    def whole(self) -> list[Entry]:
        """Those that still have their body, or no place on disk."""
        return list(self._whole.values())

    def _entry(self, at: int) -> Entry:
        seq, at_ms, made, ticket, segment, offset, length, first, last = self._RECORD.unpack_from(self._records, at)
        whole = self._whole.pop(seq, None)
        return whole or Entry(seq, at_ms, None, made, ticket, Where(segment, offset, length), first, last)


_NOWHERE = Where(0, 0, 0)


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
    kept: Kept = field(default_factory=Kept)
    pending: deque[Entry] = field(default_factory=deque)


class Confirmed:
    """When what was confirmed, to the next of so many steps: it is kept up to a twelfth longer, and each call stands
    here once a step instead of once a batch."""

    STEPS = 12

    def __init__(self, keep_s: float) -> None:
        self._step = max(keep_s / self.STEPS, 1e-3)
        self._steps: deque[tuple[float, dict[Box, int]]] = deque()

    def add(self, box: Box, seq: int, now: float) -> None:
        """All of `box` up to `seq` was confirmed by `now`, which never decreases but for -inf: at once."""
        until = now if now == -inf else (now // self._step + 1) * self._step
        if not self._steps or self._steps[-1][0] != until:
            self._steps.append((until, {}))
        self._steps[-1][1][box] = seq

    def before(self, time: float) -> Iterator[tuple[Box, int]]:
        """Takes away what was confirmed before `time`."""
        while self._steps and self._steps[0][0] <= time:
            yield from self._steps.popleft()[1].items()

    def hurry(self) -> None:
        """All of it was confirmed long ago."""
        self._steps = deque((-inf, boxes) for _, boxes in self._steps)


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
