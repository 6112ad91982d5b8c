"""Events as lines of a file, one JSON object each: for trying out, for tests, and for those who have no Redis.

One process per file. Exactly once, by reading the file at `open`: what stands there is the position.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import SinkError
from bridge.publish.contract import Health, Part, Position, Receipt
from bridge.publish.events import CALL_ENDED, decode


@dataclass(frozen=True, slots=True)
class JsonlSettings:
    """`path`: the file, made if missing."""

    path: str = "callbridge-events.jsonl"


class Jsonl:
    """The Sink. See `bridge.publish.contract`."""

    partitions = 1

    def __init__(self, settings: JsonlSettings) -> None:
        self._path = Path(settings.path)
        self._held: dict[str, Position] = {}
        self._fd = -1
        self._generation = 0

    def partition(self, call: str) -> int:
        return 0

    def generation(self, partition: int) -> int:
        return self._generation

    async def open(self, partition: int) -> None:
        if self._fd < 0:
            await asyncio.to_thread(self._open)

    def _open(self) -> None:
        """Cuts off a torn last line: its event was not confirmed and comes again."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600)
            data = self._path.read_bytes()
            whole = data.rfind(b"\n") + 1
            os.ftruncate(fd, whole)
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror or error}") from error
        self._held = {}
        for line in data[:whole].splitlines():
            try:
                entry = json.loads(line)
                self._held[entry["call"]] = Position(int(entry["seq"]), entry["type"] == CALL_ENDED)
            except (ValueError, KeyError, TypeError):
                continue  # somebody else's line
        self._fd = fd
        self._generation += 1

    async def positions(self, partition: int, calls: Iterable[str]) -> Mapping[str, Position]:
        await self.open(partition)
        return {call: self._held.get(call, Position()) for call in calls}

    async def write(self, partition: int, batch: Sequence[Part]) -> Receipt:
        await self.open(partition)
        lines: list[str] = []
        held: dict[str, int] = {}
        ended: set[str] = set()
        gaps = 0
        for part in batch:
            seq = self._held.get(part.call, Position()).seq
            for record in part.records:
                if record.seq > seq and record.seq in (seq + 1, part.floor):
                    lines.append(json.dumps(decode(record.body), ensure_ascii=False) + "\n")
                    gaps += record.seq - seq - 1
                    seq = record.seq
                    if record.is_last:
                        ended.add(part.call)
            held[part.call] = seq
        if lines:
            await asyncio.to_thread(self._append, "".join(lines).encode("utf-8", "replace"))
        for call, seq in held.items():
            self._held[call] = Position(seq, call in ended or self._held.get(call, Position()).is_ended)
        return Receipt(held, gaps=gaps)

    def _append(self, data: bytes) -> None:
        try:
            done = os.write(self._fd, data)
            if done != len(data):
                raise OSError(28, "short write")
            os.fdatasync(self._fd)
        except OSError as error:
            os.close(self._fd)  # reads again what really stands there
            self._fd = -1
            raise SinkError(f"{self._path}: {error.strerror or error}") from error

    async def tend(self, partition: int) -> Health:
        await self.open(partition)
        return Health(length=sum(position.seq for position in self._held.values()))

    async def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
