"""What the outbox and a sink say to each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """A numbered event, ready to be written."""

    seq: int
    at_ms: int
    "For the entry id: never less than that of the record before it in its call."
    body: bytes
    "`events.encode`"
    is_first: bool = False
    "call.started"
    is_last: bool = False
    "call.ended"


@dataclass(frozen=True, slots=True)
class Part:
    """What a batch holds of one call: consecutive numbers."""

    call: str
    records: Sequence[Record]
    floor: int
    "The lowest number that can still be offered. Only here may a sink accept a gap before it; elsewhere it refuses."


@dataclass(frozen=True, slots=True)
class Position:
    """How far a sink holds a call."""

    seq: int = 0
    is_ended: bool = False
    is_gone: bool = False
    "It was begun there and somebody took it away: what was confirmed is not asked for again."


@dataclass(frozen=True, slots=True)
class Receipt:
    """A sink's answer to a batch. What is missing in `held` was not taken; `refused` says why."""

    held: Mapping[str, int]
    "Call to the last number that the sink holds now."
    refused: Mapping[str, str] = field(default_factory=dict)
    gaps: int = 0
    "Numbers that were skipped because nobody has them any more."
    is_durable: bool = True
    "False: written, but no replica has confirmed it; such events stay in the spool."


@dataclass(frozen=True, slots=True)
class Health:
    """How a sink's partition is, as of the last look."""

    length: int = 0
    "Entries in the shared stream."
    lag: Mapping[str, int] = field(default_factory=dict)
    "Group to the entries that it has not been given yet."
    held_up_by: str = ""
    "The named group whose unseen entries keep the stream above `maxlen`; empty: none."
    is_durable: bool = True
    "All that was written through this connection is confirmed, by a replica too where there is one."
    overrun: int = 0
    "Entries cut at `maxlen_hard` although a named group had not seen them."


class Sink(Protocol):
    """Where events go. Every method that waits raises SinkError; what was asked may or may not have happened then, and
    asking again is always safe. One caller per partition at a time."""

    @property
    def partitions(self) -> int: ...

    def partition(self, call: str) -> int:
        """Where the call's events go; all of one call to one partition."""
        ...

    def generation(self, partition: int) -> int:
        """Changes whenever the connection is a new one: what was confirmed may have been lost by a failover since, so
        `positions` are to be asked again."""
        ...

    async def open(self, partition: int) -> None:
        """Connects, if not connected."""
        ...

    async def positions(self, partition: int, calls: Iterable[str]) -> Mapping[str, Position]:
        """How far each call is held; for an unknown one `Position()`."""
        ...

    async def write(self, partition: int, batch: Sequence[Part]) -> Receipt:
        """Appends in order, each event whose number is new exactly once."""
        ...

    async def tend(self, partition: int) -> Health:
        """Housekeeping: trims, looks at the groups. Called about once a second."""
        ...

    async def close(self) -> None:
        """Lets go of everything. Never raises."""
        ...
