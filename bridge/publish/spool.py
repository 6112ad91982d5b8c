"""The spool's format: append-only segments of checksummed records, and what can be read back from them.

A segment is `HEADER`, then records: sync (2 bytes), kind (1), length (4, big endian), CRC-32 of kind and payload (4),
payload. A segment's first record is a snapshot of every call that is not done with, so that earlier segments may go.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from bridge.publish import events
from bridge.publish.books import Book

HEADER = b"callbridge spool 1\n"
SYNC = b"\xcb\x1e"
FRAME = struct.Struct(">2sBII")
MAX_PAYLOAD_BYTES = 64 << 20  # what is longer is damage; a snapshot of 10 000 calls is about 10 MB


class Kind(IntEnum):
    """What a record is."""

    EVENT = 1
    "`events.encode`"
    MARK = 2
    "JSON `{call: seq}`: the sink has confirmed so far."
    LEDGER = 3
    "JSON `{call, legs}`: a running call's ledgers, for its end if the process dies."
    SNAPSHOT = 4
    "JSON `{call: {held, book}}`"


class Where(NamedTuple):
    """A record's payload on disk."""

    segment: int
    offset: int
    length: int


def frame(kind: Kind, payload: bytes) -> bytes:
    """One record."""
    return FRAME.pack(SYNC, kind, len(payload), zlib.crc32(payload, kind)) + payload


def scan(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Every sound record of a segment: (kind, offset of the payload, length). Damage is skipped: reading goes on at the
    next place that makes a whole record with a right checksum. Never raises."""
    at = len(HEADER) if data.startswith(HEADER) else 0
    while (at := data.find(SYNC, at)) >= 0 and at + FRAME.size <= len(data):
        _, kind, length, crc = FRAME.unpack_from(data, at)
        start = at + FRAME.size
        if length <= MAX_PAYLOAD_BYTES and start + length <= len(data) and _is_sound(data, kind, start, length, crc):
            yield kind, start, length
            at = start + length
        else:
            at += 1


def _is_sound(data: bytes, kind: int, start: int, length: int, crc: int) -> bool:
    return zlib.crc32(memoryview(data)[start : start + length], kind) == crc


@dataclass(slots=True)
class Found:
    """An event that is on disk."""

    at_ms: int
    type: str
    where: Where


@dataclass(slots=True)
class Remains:
    """What a dead process left of one call."""

    events: dict[int, Found] = field(default_factory=dict)
    held: int = 0
    "Confirmed up to here."
    book: Book = field(default_factory=Book)


class Recovery:
    """Folds the records of all segments, oldest first, into what is left of each call."""

    def __init__(self) -> None:
        self.calls: dict[str, Remains] = {}
        self.damaged = 0
        "Sound records whose content made no sense."
        self.lost_bytes = 0
        "Bytes of segments that belonged to no sound record: torn tails, damage."

    def read_segment(self, segment: int, data: bytes) -> int:
        """Takes a whole segment; how many events it holds that no earlier one does."""
        n, sound = 0, len(HEADER)
        for kind, offset, length in scan(data):
            sound += FRAME.size + length
            n += self._take(kind, data[offset : offset + length], Where(segment, offset, length))
        self.lost_bytes += max(0, len(data) - sound)
        return n

    def _take(self, kind: int, payload: bytes, where: Where) -> int:
        try:
            if kind == Kind.EVENT:
                return self._take_event(payload, where)
            saved = json.loads(payload)
            if kind == Kind.MARK:
                for call, seq in saved.items():
                    remains = self._call(call)
                    remains.held = max(remains.held, int(seq))
            elif kind == Kind.LEDGER:
                self._call(str(saved["call"])).book.ledgers.update(saved["legs"])
            elif kind == Kind.SNAPSHOT:
                self._take_snapshot(saved)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.damaged += 1
        return 0

    def _take_event(self, payload: bytes, where: Where) -> int:
        event = events.parse(events.decode(payload))
        remains = self._call(event.call)
        if event.seq in remains.events:  # written, not synced, and so appended again: its first place is its place
            return 0
        remains.events[event.seq] = Found(event.at_ms, event.type, where)
        remains.book.fold(event, event.seq)
        return 1

    def _take_snapshot(self, saved: Mapping[str, Any]) -> None:
        for call, state in saved.items():
            book = Book.from_json(state["book"])
            remains = self._call(call)
            remains.held = max(remains.held, int(state["held"]))
            if book.seq >= remains.book.seq:
                remains.book = book

    def _call(self, call: str) -> Remains:
        return self.calls.setdefault(call, Remains())


def mark(held: Mapping[str, int]) -> bytes:
    """A MARK's payload."""
    return json.dumps(held).encode()


def ledger(call: str, legs: Mapping[str, Mapping[str, Any]]) -> bytes:
    """A LEDGER's payload."""
    return json.dumps({"call": call, "legs": legs}, default=str).encode()


def snapshot(calls: Mapping[str, tuple[int, Book]]) -> bytes:
    """A SNAPSHOT's payload, from (confirmed, book) of each call."""
    saved = {call: {"held": held, "book": book.to_json()} for call, (held, book) in calls.items()}
    return json.dumps(saved, default=str).encode()
