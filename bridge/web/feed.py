"""Live events to any number of listeners. Publishing never waits: each listener has a bounded queue of its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from bridge.publish.events import CALL_ENDED, TRANSCRIPT_INTERIM, Published

QUEUED = 2000
"""Entries that a listener may be behind: at 200 calls with two legs about ten seconds of interims."""


class QueueFeed:
    """The `Feed` of one listener. Interims are dropped before anything else: a later one replaces them anyway."""

    def __init__(self, call: str, forget: Callable[[QueueFeed], None], *, limit: int = QUEUED) -> None:
        self.call = call
        self._forget = forget
        self._limit = limit
        self._queue: deque[Published] = deque()
        self._is_closed = False
        self._news = asyncio.Event()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        return self._dropped

    def offer(self, event: Published) -> None:
        """Called for every event; takes those of this feed's call."""
        if self._is_closed or self.call not in ("", event.call):
            return
        if len(self._queue) >= self._limit:
            self._make_room()
        self._queue.append(event)
        if self.call and event.type == CALL_ENDED:
            self._end()
        self._news.set()

    def _make_room(self) -> None:
        for n, event in enumerate(self._queue):
            if event.type == TRANSCRIPT_INTERIM:
                del self._queue[n]
                break
        else:
            self._queue.popleft()
        self._dropped += 1

    def __aiter__(self) -> AsyncIterator[Published]:
        return self

    async def __anext__(self) -> Published:
        while not self._queue:
            if self._is_closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._queue.popleft()

    def _end(self) -> None:
        self._is_closed = True
        self._forget(self)
        self._news.set()

    def close(self) -> None:
        self._queue.clear()
        self._end()


class Feeds:
    """All listeners of a process."""

    def __init__(self) -> None:
        self._feeds: dict[QueueFeed, None] = {}

    def __len__(self) -> int:
        return len(self._feeds)

    def subscribe(self, call: str = "") -> QueueFeed:
        """Events from now on, of one call or of all."""
        feed = QueueFeed(call, self._drop)
        self._feeds[feed] = None
        return feed

    def offer(self, event: Published) -> None:
        """To every listener. Never waits."""
        for feed in tuple(self._feeds):
            feed.offer(event)

    def close(self) -> None:
        """Ends every feed: the listeners' loops end, and with them their responses."""
        for feed in tuple(self._feeds):
            feed.close()

    def _drop(self, feed: QueueFeed) -> None:
        self._feeds.pop(feed, None)
