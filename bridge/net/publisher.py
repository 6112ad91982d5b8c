"""The publisher: runs the outbox between the calls, the spool and a sink.

`publish` is a plain def: it numbers the event, buffers it for the spool and returns. Three kinds of loop do the
waiting: one writes the spool ahead (a thread syncs it, all that came meanwhile in one go), one per partition sends
what is durable and heals after every reconnect, one keeps house.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from bridge import clock
from bridge.errors import SinkError
from bridge.metrics import Metrics
from bridge.net.spool_files import SpoolFiles, default_root
from bridge.net.write_ahead import WriteAhead
from bridge.publish.box import Counts, Entry, Room, Take
from bridge.publish.contract import Health, Part, Record, Sink
from bridge.publish.events import Event
from bridge.publish.outbox import MEMORY_BYTES, Outbox

MAX_SPOOL_BYTES = 4 << 30  # about 30 min of 1000 busy legs; above half of it interims are dropped
TEND_EVERY = 1.0  # s; trimming, group lag, and noticing a lost connection of an idle partition
BACKOFF_FIRST = 0.05  # s; doubles
BACKOFF_MAX = 2.0  # s; a Redis that is back is used at most this much later

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PublisherStats:
    """How publishing is."""

    queued: int
    "Numbered, not confirmed."
    accepted: int
    "Events that are on disk, since the start: not even `kill -9` loses them."
    spooled_bytes: int
    lag_s: float
    "Age of the oldest unconfirmed event."
    last_error: str
    "Empty: sink and spool work."
    is_sink_up: bool
    is_spool_up: bool
    counts: Counts
    health: Mapping[int, Health]
    "Per partition of the sink."

    @property
    def is_writable(self) -> bool:
        """For readiness: events find a place, at the sink or on disk."""
        return self.is_sink_up or self.is_spool_up


class Publisher:
    """What the rest of the program uses. Open it, have `run` in a TaskGroup, `flush` and `close` at the end."""

    def __init__(
        self,
        sink: Sink,
        *,
        instance: str,
        spool_path: str = "",
        keep_s: float = 60.0,
        call_ttl_s: float = 86400.0,
        max_spool_bytes: int = MAX_SPOOL_BYTES,
        memory_bytes: int = MEMORY_BYTES,
        metrics: Metrics | None = None,
    ) -> None:
        self._sink = sink
        self._metrics = metrics or Metrics()
        self._expose(self._metrics)
        self._outbox = Outbox(
            instance,
            sink.partition,
            partitions=sink.partitions,
            keep_s=keep_s,
            call_ttl_s=call_ttl_s,
            memory_bytes=memory_bytes,
        )
        root = Path(spool_path) if spool_path else default_root()
        files = SpoolFiles(root, instance, keep_s=keep_s, max_bytes=max_spool_bytes)
        self._wake = [asyncio.Event() for _ in range(sink.partitions)]
        self._settled = asyncio.Event()
        self._closing = asyncio.Event()
        self._disk = WriteAhead(self._outbox, files, self._wake, self._closing, memory_bytes=memory_bytes)
        self._sink_errors: dict[int, str] = dict.fromkeys(range(sink.partitions), "not connected yet")
        self._health: dict[int, Health] = {}
        self._refused_told = 0
        self._refused_calls: set[str] = set()

    def _expose(self, metrics: Metrics) -> None:
        metrics.outbox_queued.read_from(lambda: self._outbox.pending)
        metrics.outbox_spool_bytes.read_from(lambda: self._disk.size_bytes)
        metrics.outbox_oldest.read_from(lambda: self.stats().lag_s)
        metrics.interims_dropped.read_from(lambda: self._outbox.counts.conflated)
        metrics.events_lost.read_from(lambda: self._outbox.counts.refused)
        metrics.sink_up.read_from(lambda: self.stats().is_sink_up)
        metrics.spool_up.read_from(lambda: self.stats().is_spool_up)
        metrics.group_lag.read_each_from(self._group_lag)

    def _group_lag(self) -> dict[str, float]:
        """Of all partitions together."""
        lag: dict[str, float] = {}
        for health in self._health.values():
            for group, n in health.lag.items():
                if n >= 0:  # -1: this Redis cannot tell
                    lag[group] = lag.get(group, 0.0) + n
        return lag

    # --- what calls use ---

    def publish(self, event: Event) -> int:
        """Takes an event and answers its number in its call; 0: none (yet), an interim that waits or was dropped.
        Never waits, never raises for what the event holds. Interims may be dropped, nothing else, unless disk and
        memory are full; `stats` tells."""
        entry = self._outbox.offer(event, clock.monotonic())
        if entry is None:
            return 0
        self._disk.append(entry)
        return entry.seq

    def remember(self, call: str, ledgers: Mapping[str, Mapping[str, Any]]) -> None:
        """A running call's ledgers so far: kept on disk for its `call.ended` in case this process dies. Not published.
        Every few seconds is often enough."""
        if self._outbox.remember(call, ledgers):
            self._disk.remember(call, ledgers)

    def stats(self) -> PublisherStats:
        """A look at everything."""
        oldest = self._outbox.oldest()
        sink_error = next((error for error in self._sink_errors.values() if error), "")
        return PublisherStats(
            queued=self._outbox.pending,
            accepted=self._outbox.saved_ticket,
            spooled_bytes=self._disk.size_bytes,
            lag_s=0.0 if oldest is None else max(0.0, clock.monotonic() - oldest),
            last_error=self._disk.error or sink_error,
            is_sink_up=not any(self._sink_errors.values()),
            is_spool_up=not self._disk.error and self._outbox.room is not Room.FULL,
            counts=self._outbox.counts,
            health=dict(self._health),
        )

    # --- life ---

    async def open(self) -> None:
        """Locks and reads the spool. Raises ConfigError. The sink is connected by `run`: calls do not wait for it."""
        await self._disk.open()

    async def run(self) -> None:
        """Works until `close`. Cancelling it loses nothing that was accepted."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._disk.run(), name="spool")
                for partition in range(self._sink.partitions):
                    tasks.create_task(self._keep_sending(partition), name=f"send-{partition}")
                tasks.create_task(self._keep_house(), name="outbox-house")
        finally:
            await self._sink.close()
            self._disk.close()

    async def flush(self, deadline: float) -> bool:
        """Waits until all is confirmed, at most to `deadline` (the loop's clock). False: some is not; it is on disk."""
        try:
            async with asyncio.timeout_at(deadline):
                while self._outbox.pending:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Lets `run` end, after what is buffered has been written to the spool. `flush` first."""
        for event in (self._closing, self._settled, *self._wake):
            event.set()
        self._disk.stop()

    # --- the sink ---

    async def _keep_sending(self, partition: int) -> None:
        backoff = BACKOFF_FIRST
        asked, tended = 0, 0.0
        while not self._closing.is_set():
            try:
                await self._sink.open(partition)
                if asked != (generation := self._sink.generation(partition)):
                    await self._resume(partition)
                    asked = generation
                while self._outbox.has_work(partition) and asked == self._sink.generation(partition):
                    if not await self._send(partition):
                        break
                    if clock.monotonic() - tended >= TEND_EVERY:
                        break
                if clock.monotonic() - tended >= TEND_EVERY:
                    await self._tend(partition)
                    tended = clock.monotonic()
                self._sink_works(partition)
                backoff = BACKOFF_FIRST
                if not self._outbox.pending:
                    self._settled.set()
                await self._wait_for_work(partition, tended + TEND_EVERY)
            except SinkError as error:
                self._sink_failed(partition, str(error))
                await self._wait_out(backoff * random.uniform(0.7, 1.0))
                backoff = min(2 * backoff, BACKOFF_MAX)

    async def _wait_for_work(self, partition: int, until: float) -> None:
        wake = self._wake[partition]
        try:
            async with asyncio.timeout_at(until):  # clock.monotonic is the loop's clock
                while not self._outbox.has_work(partition) and not self._closing.is_set():
                    wake.clear()
                    await wake.wait()
        except TimeoutError:
            pass

    async def _wait_out(self, seconds: float) -> None:
        """New events do not shorten this, the end does."""
        try:
            async with asyncio.timeout_at(clock.monotonic() + seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _resume(self, partition: int) -> None:
        calls = self._outbox.to_ask(partition, now_ms=clock.unix_ms())
        positions = await self._sink.positions(partition, calls)
        before = self._outbox.counts.resumed, self._outbox.counts.crashed_calls
        made = self._outbox.resume(positions, now=clock.monotonic(), now_ms=clock.unix_ms())
        for entry in made:
            self._disk.append(entry)
        resumed, crashed = self._outbox.counts.resumed - before[0], self._outbox.counts.crashed_calls - before[1]
        if resumed:
            log.warning("sink had lost events", n=resumed)
        if crashed:
            log.warning("crashed calls ended", n=crashed)

    async def _send(self, partition: int) -> bool:
        takes = self._outbox.take(partition)
        batch = [await self._part(take) for take in takes]
        if not any(part.records for part in batch):
            return False
        sent_at = clock.monotonic()
        receipt = await self._sink.write(partition, batch)
        self._metrics.redis_write.observe(clock.monotonic() - sent_at)
        marks = self._outbox.wrote(partition, takes, receipt, now=clock.monotonic())
        self._disk.mark(marks)
        for call in receipt.refused.keys() - self._refused_calls:
            log.error("sink refused call", call=call, reason=receipt.refused[call])
            self._refused_calls.add(call)
        self._refused_calls -= receipt.held.keys()
        if receipt.gaps:
            log.error("events missing", n=receipt.gaps, reason="not held by anybody any more")
        if receipt.refused and not receipt.held:  # nothing else is left to send
            raise SinkError(next(iter(receipt.refused.values())))
        for entry in self._outbox.release(clock.monotonic()):
            self._disk.append(entry)
        return True

    async def _part(self, take: Take) -> Part:
        records: list[Record] = []
        for entry in take.entries:
            body = entry.body
            if body is None:
                body = await self._read_back(take.call, entry)
            if body is None:
                break
            records.append(Record(entry.seq, entry.at_ms, body, entry.is_first, entry.is_last))
        return Part(take.call, records, take.floor)

    async def _read_back(self, call: str, entry: Entry) -> bytes | None:
        try:
            return await self._disk.read(entry)
        except (OSError, ValueError, KeyError) as error:
            log.error("spool unreadable", call=call, reason=str(error), n=1)
            self._outbox.lose(call, entry)
            return None

    async def _tend(self, partition: int) -> None:
        before = self._health.get(partition, Health())
        health = self._health[partition] = await self._sink.tend(partition)
        if health.is_durable:
            self._disk.mark(self._outbox.replicated(partition, clock.monotonic()))
        if health.held_up_by and health.held_up_by != before.held_up_by:
            log.warning(
                "trim held up", state=health.held_up_by, n=health.length, reason="a named group has not seen it"
            )
        if health.overrun > before.overrun:
            log.error("trimmed unseen", n=health.overrun - before.overrun, reason="maxlen_hard reached")

    def _sink_failed(self, partition: int, reason: str) -> None:
        if self._sink_errors[partition] != reason:
            log.warning("sink down", state=partition, reason=reason, n=self._outbox.pending)
        self._sink_errors[partition] = reason
        self._metrics.redis_errors.add(1, reason.partition(":")[0])

    def _sink_works(self, partition: int) -> None:
        if self._sink_errors[partition]:
            log.info("sink up", state=partition, n=self._outbox.pending)
        self._sink_errors[partition] = ""

    # --- house ---

    async def _keep_house(self) -> None:
        while not self._closing.is_set():
            self._disk.tidy()
            for entry in self._outbox.release(clock.monotonic()):
                self._disk.append(entry)
            self._tell_refused()
            await self._wait_out(0.05 if self._outbox.room is not Room.OPEN else 0.25)

    def _tell_refused(self) -> None:
        refused = self._outbox.counts.refused
        if refused > self._refused_told:
            log.error("events lost", n=refused - self._refused_told, reason="no room on disk nor in memory")
        self._refused_told = refused
