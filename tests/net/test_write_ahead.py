"""The loop between the outbox and the spool, where it is broken off."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
from pathlib import Path

from bridge.net.spool_files import Chunk, SpoolFiles
from bridge.net.write_ahead import WriteAhead
from bridge.publish import events
from bridge.publish.outbox import Outbox


class FullDisk(SpoolFiles):
    """Says so late."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "a", keep_s=60, max_bytes=1 << 30)
        self.is_asked, self.may_answer = threading.Event(), threading.Event()

    def save(self, chunks: list[Chunk]) -> None:
        self.is_asked.set()
        self.may_answer.wait()
        raise OSError(errno.ENOSPC, "no space")


async def test_a_disk_that_fails_behind_our_end_is_no_trouble_any_more(tmp_path: Path) -> None:
    troubles: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
    outbox = Outbox("a", lambda _: 0, partitions=1, keep_s=60, call_ttl_s=60)
    files = FullDisk(tmp_path)
    disk = WriteAhead(outbox, files, [asyncio.Event()], asyncio.Event())
    await disk.open()
    started = events.call_started("c", 0, ingress="sip", from_="", to="", legs=[], correlation={}, labels={})
    entry = outbox.offer(started, 0.0)
    assert entry is not None
    disk.append(entry)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(disk.run())
        await asyncio.to_thread(files.is_asked.wait)
        running.cancel()
    assert running.cancelled()
    del running  # it holds what it waited for
    files.may_answer.set()
    disk.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert troubles == []
