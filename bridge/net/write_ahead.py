"""The loop between the outbox and the spool on disk: what is numbered is written, and synced in a thread."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog

from bridge import clock
from bridge.net.spool_files import Chunk, SpoolFiles
from bridge.publish import spool
from bridge.publish.box import Entry, Room
from bridge.publish.outbox import MEMORY_BYTES, Outbox
from bridge.publish.spool import Kind

SYNC_EVERY = 0.01  # s between two syncs: an event is accepted within 100 ms, with room for a slow disk
WRITE_ON_EVERY = 0.02  # s, while a sync takes longer than that
RETRY_FIRST = 0.05  # s after a write that failed; doubles
RETRY_MAX = 2.0

log = structlog.get_logger()


class WriteAhead:
    """Appends never wait. `run` saves; after each save the partitions are woken that have something to send."""

    def __init__(
        self,
        outbox: Outbox,
        files: SpoolFiles,
        wake: list[asyncio.Event],
        closing: asyncio.Event,
        *,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._outbox = outbox
        self._files = files
        self._wake = wake
        self._closing = closing
        self._dirty = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "spool")
        self.error = ""
        "Why the disk does not take anything; empty: it does."

    @property
    def size_bytes(self) -> int:
        """On disk, and on the way there."""
        return self._files.size_bytes

    async def open(self) -> None:
        """Locks the spool and reads what earlier processes left into the outbox. Raises ConfigError."""
        now = clock.monotonic()
        recovery = await asyncio.to_thread(self._files.open, now)
        self._outbox.restore(recovery, now=now)
        self._files.append(Kind.SNAPSHOT, spool.snapshot(self._outbox.snapshot()))
        for name in self._files.skipped:
            log.warning("spool skipped", reason="not readable by this user", state=name)
        if recovery.calls:
            log.info("spool recovered", n=self._outbox.pending, state=f"{len(recovery.calls)} calls")
        if recovery.lost_bytes or recovery.damaged:
            log.warning("spool damaged", n=recovery.damaged, reason=f"{recovery.lost_bytes} unreadable bytes")

    def append(self, entry: Entry) -> None:
        """A numbered event."""
        assert entry.body is not None
        entry.where = self._files.append(Kind.EVENT, entry.body)
        self._dirty.set()

    def mark(self, marks: Mapping[str, int]) -> None:
        """The sink has confirmed so far."""
        if marks:
            self._files.append(Kind.MARK, spool.mark(marks))
            self._dirty.set()

    def remember(self, call: str, ledgers: Mapping[str, Mapping[str, Any]]) -> None:
        """A running call's ledgers."""
        self._files.append(Kind.LEDGER, spool.ledger(call, ledgers))
        self._dirty.set()

    async def read(self, entry: Entry) -> bytes:
        """An event's bytes from disk. Raises OSError, ValueError or KeyError when they are gone."""
        assert entry.where is not None
        return await asyncio.to_thread(self._files.read, entry.where)

    async def run(self) -> None:
        """Until `closing` is set and all is saved, or cannot be."""
        retry = RETRY_FIRST
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            next_at = clock.monotonic() + SYNC_EVERY
            if await self._save():
                retry = RETRY_FIRST
                if self._closing.is_set() and not self._files.is_dirty:
                    return
                await asyncio.sleep(0 if self._closing.is_set() else max(next_at - clock.monotonic(), 0.0))
            elif self._closing.is_set():
                log.error("spool abandoned", n=self._outbox.pending, reason=self.error)
                return
            else:
                await self._pause(retry)
                retry = min(2 * retry, RETRY_MAX)
                self._dirty.set()
            if self._closing.is_set():
                self._dirty.set()

    def stop(self) -> None:
        """`closing` has been set."""
        self._dirty.set()

    def tidy(self) -> None:
        """Lets go of what is needed no more, and looks how much room there is. A few times a second."""
        now = clock.monotonic()
        for where in self._outbox.expire(now):
            self._files.release(where)
        try:
            self._files.sweep()
        except OSError as error:
            log.error("spool sweep failed", reason=error.strerror or str(error))
        self._measure_room()
        if self._files.wants_rotation(now):
            self._dirty.set()

    def close(self) -> None:
        """Gives files and locks back."""
        self._thread.shutdown()
        self._files.close()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout_at(clock.monotonic() + seconds):
                await self._closing.wait()
        except TimeoutError:
            pass

    async def _save(self) -> bool:
        now = clock.monotonic()
        if self._files.wants_rotation(now):
            self._files.rotate(spool.snapshot(self._outbox.snapshot()), now)
        ticket = self._outbox.last_ticket
        chunks = self._files.take_unsaved()
        loop = asyncio.get_running_loop()
        landed = loop.create_future()

        def told(saving: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
                loop.call_soon_threadsafe(self._landed, saving, landed, ticket, chunks)

        self._thread.submit(self._files.save, chunks).add_done_callback(told)
        try:
            await self._write_on(landed, len(chunks))
        except OSError as error:
            self._failed(error.strerror or str(error))
            self._tell_durable(ticket)
        finally:
            landed.cancel()  # it is done, or we are cancelled
        return not self.error

    async def _write_on(self, landed: asyncio.Future[None], n_written: int) -> None:
        """Until `landed`, whose error it raises. A sync may take long; what is appended meanwhile gets to the kernel
        all the same."""
        while not (await asyncio.wait([landed], timeout=WRITE_ON_EVERY))[0]:
            further = self._files.take_unsaved()[n_written:]
            n_written += len(further)
            with contextlib.suppress(OSError):  # the next save meets it too, and tells
                await asyncio.to_thread(self._files.write, further)
        landed.result()

    def _landed(self, saving: Future[None], landed: asyncio.Future[None], ticket: int, chunks: list[Chunk]) -> None:
        """`save` is through. The loop calls this itself: on a busy core each turn through a task may cost a tick."""
        error = saving.exception()
        if error is None:
            self._files.saved(chunks)
            self._works()
            self._tell_durable(ticket)
        if landed.done():  # cancelled: nobody asks any more
            return
        if error is None:
            landed.set_result(None)
        else:
            landed.set_exception(error)

    def _tell_durable(self, ticket: int) -> None:
        for partition in self._outbox.made_durable(ticket, is_saved=not self.error):
            self._wake[partition].set()

    def _failed(self, reason: str) -> None:
        """Events go on without it, to the sink at once; if the sink is away too, in memory as far as that goes."""
        if not self.error:
            log.error("spool failed", reason=reason, n=self._outbox.pending)
        self.error = reason
        lost = self._files.lose_deleted()
        if lost or self._files.unsaved_bytes > self._memory_bytes:
            self._append_again(lost)
        self._measure_room()

    def _append_again(self, lost: set[int]) -> None:
        """What is confirmed need not wait for the disk any longer: memory holds only what is not."""
        places, again = self._outbox.unspool(lost)
        self._files.discard_unsaved()
        for where in places:
            self._files.release(where)
        self._files.rotate(spool.snapshot(self._outbox.snapshot()), clock.monotonic())
        for entry in again:
            self.append(entry)

    def _works(self) -> None:
        if self.error:
            log.info("spool restored", n=self._outbox.pending)
        self.error = ""
        self._measure_room()

    def _measure_room(self) -> None:
        size, limit = self._files.size_bytes, self._files.max_bytes
        if size > limit // 2:
            self._outbox.hurry()
        if size > limit or (self.error and self._outbox.memory_bytes > self._memory_bytes):
            room = Room.FULL
        elif self.error or size > limit // 2:
            room = Room.TIGHT
        else:
            room = Room.OPEN
        if room is not self._outbox.room:
            tell = log.info if room is Room.OPEN else log.error
            tell("outbox room", state=room.name.lower(), n=self._outbox.pending, reason=f"{size} of {limit} bytes")
        self._outbox.room = room
