"""Reading events: the client for programs that use them.

    async for event in subscribe("redis://localhost", group="billing", consumer="a"):
        ...                                   # acknowledged when the next one is asked for

`subscribe` is for consumer groups: every event at least once per group, spread over its consumers. `follow` is for
looking on without a group, `replay` for one call from any of its numbers. All of them outlive a Redis that goes away.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Mapping
from types import TracebackType
from typing import Any, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from bridge import clock
from bridge.net.redis_link import FAULTS, Address, close_client, is_passing
from bridge.publish.events import CALL_ENDED, Published, parse
from bridge.publish.keys import Keys

BLOCK_MS = 1000  # how long one read waits at Redis; a stop or a claim comes no later
CLUSTER_BLOCK_MS = 100  # the partitions are asked side by side there, so an idle one delays the others by this
REMEMBERED = 100_000  # (call, seq) pairs; a redelivery of what this consumer did already is not given again
BACKOFF_MAX = 5.0  # s between attempts while Redis is away

log = logging.getLogger(__name__)  # a library: its program says where to


async def _wait_out(error: Exception, backoff: float) -> float:
    """Sleeps where time will help; answers how long to sleep the next time. Raises `error` where it will not."""
    if not is_passing(error):
        raise error
    log.warning("redis away: %s", type(error).__name__)
    await asyncio.sleep(backoff)
    return min(2 * backoff, BACKOFF_MAX)


def _published(entry: bytes, fields: Mapping[bytes, bytes], *, redelivered: bool = False) -> Published | None:
    """None: somebody else's entry."""
    flat = {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields.items()}
    try:
        return parse(flat, entry=entry.decode(), redelivered=redelivered)
    except ValueError:
        return None


class _Reader:
    """The streams of all partitions through one client."""

    def __init__(self, url: str, prefix: str, partitions: int) -> None:
        address = Address.parse(url)
        self.is_cluster = address.kind == "cluster"
        self.keys = Keys(prefix, partitions, tagged=self.is_cluster)
        self.streams = [self.keys.events(n) for n in range(partitions)]
        self.client: Any = address.client(socket_timeout=BLOCK_MS / 1000 + 5.0)

    async def read(self, after: Mapping[str, str], count: int, group: tuple[str, str] | None) -> list[Any]:
        """`[(stream, entries)]` of what is new behind `after`; waits a moment when nothing is."""
        if not self.is_cluster or len(after) == 1:
            return await self.read_now(after, count, group, BLOCK_MS)
        rounds = [None, CLUSTER_BLOCK_MS]
        for block_ms in rounds:
            some = [self.read_now({stream: entry}, count, group, block_ms) for stream, entry in after.items()]
            found = [part for parts in await asyncio.gather(*some) for part in parts]
            if found:
                return found
        return []

    async def read_now(
        self, after: Mapping[str, str], count: int, group: tuple[str, str] | None, block_ms: int | None
    ) -> list[Any]:
        try:
            return await self._ask(after, count, group, block_ms)
        except AttributeError as error:
            # redis-py's cluster client, asked for several partitions at once while a node goes away: one coroutine
            # closes a connection in the middle of another's handshake, whose writer is None then
            raise RedisConnectionError("connection closed while in use") from error

    async def _ask(
        self, after: Mapping[str, str], count: int, group: tuple[str, str] | None, block_ms: int | None
    ) -> list[Any]:
        if group is None:
            answer = await self.client.xread(dict(after), count=count, block=block_ms)
        else:
            answer = await self.client.xreadgroup(*group, dict(after), count=count, block=block_ms)
        parts = answer.items() if isinstance(answer, dict) else answer or []
        return [(stream.decode(), entries) for stream, entries in parts]

    async def close(self) -> None:
        await close_client(self.client)


class Subscription:
    """What `subscribe` returns: an async iterator of `Published`, and an async context manager that closes it.

    The event given is acknowledged when the next one is asked for, or by `ack`. One that is never acknowledged (its
    consumer died, or raised and closed) goes to another of the group after `claim_after`, marked `redelivered`.
    """

    def __init__(
        self,
        url: str,
        *,
        group: str,
        consumer: str,
        prefix: str,
        partitions: int,
        start: str,
        claim_after: float,
        count: int,
    ) -> None:
        self._reader = _Reader(url, prefix, partitions)
        self._group, self._consumer = group, consumer
        self._start, self._count = start, count
        self._claim_after_ms = int(claim_after * 1000)
        self._ready: deque[Published] = deque()
        self._given: Published | None = None
        self._done: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._is_grouped = False
        self._claim_at = self._stale_at = 0.0
        self._is_closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Published:
        if self._given is not None:
            await self.ack(self._given)
        backoff = 0.1
        while not self._is_closed:
            if self._ready and clock.monotonic() < min(self._claim_at, self._stale_at):
                self._given = self._ready.popleft()
                return self._given
            try:
                await self._fetch()
                backoff = 0.1
            except FAULTS as error:
                if "NOGROUP" in str(error):
                    self._is_grouped, self._start = False, "0"  # Redis was emptied: make the group again
                    continue
                backoff = await _wait_out(error, backoff)
        raise StopAsyncIteration

    async def ack(self, event: Published) -> bool:
        """Says that `event` is dealt with. False: somebody had acknowledged or claimed it before, so it may be done
        twice. While Redis is away this waits for it."""
        if self._given is event:
            self._given = None
        self._remember(event)
        stream = self._reader.keys.events(self._reader.keys.partition(event.call))
        backoff = 0.1
        while True:
            try:
                return bool(await self._reader.client.xack(stream, self._group, event.entry))
            except FAULTS as error:
                backoff = await _wait_out(error, backoff)

    async def close(self) -> None:
        """The event in hand is not acknowledged."""
        self._is_closed = True
        await self._reader.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _remember(self, event: Published) -> None:
        self._done[event.call, event.seq] = None
        if len(self._done) > REMEMBERED:
            self._done.popitem(last=False)

    async def _fetch(self) -> None:
        now = clock.monotonic()
        if now >= self._stale_at:
            self._ready.clear()  # read too long ago: others may have claimed them; who is slow gets them back below
        if not self._ready:
            self._stale_at = now + self._claim_after_ms / 1000
        if not self._is_grouped:
            await self._join()
        if now >= self._claim_at:
            self._claim_at = now + max(0.05, self._claim_after_ms / 2000)
            await self._claim()
        if not self._ready:
            new = dict.fromkeys(self._reader.streams, ">")
            for stream, entries in await self._reader.read(new, self._count, (self._group, self._consumer)):
                await self._take(stream, entries, redelivered=False)

    async def _join(self) -> None:
        """Makes the group where it is missing, and takes back what this consumer had in hand when it last died."""
        for stream in self._reader.streams:
            try:
                await self._reader.client.xgroup_create(stream, self._group, id=self._start, mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise
        self._is_grouped = True
        own = dict.fromkeys(self._reader.streams, "0")
        while own:
            read = await self._reader.read(own, self._count, (self._group, self._consumer))
            own = {}
            for stream, entries in read:
                if entries:
                    own[stream] = entries[-1][0].decode()
                    await self._take(stream, entries, redelivered=True)

    async def _claim(self) -> None:
        """Takes over what consumers that are gone have left."""
        for stream in self._reader.streams:
            cursor: Any = "0-0"
            while cursor != b"0-0":
                cursor, entries, *gone = await self._reader.client.xautoclaim(
                    stream, self._group, self._consumer, self._claim_after_ms, cursor, count=self._count
                )
                await self._take(stream, entries, redelivered=True)
                if gone and gone[0]:
                    log.error("%d events trimmed unseen: raise maxlen or name the group", len(gone[0]))

    async def _take(self, stream: str, entries: list[Any], *, redelivered: bool) -> None:
        for entry, fields in entries:
            event = _published(entry, fields, redelivered=redelivered) if fields else None
            if event is None or (event.call, event.seq) in self._done:
                await self._reader.client.xack(stream, self._group, entry)
            elif not self._is_in_hand(event):
                self._ready.append(event)

    def _is_in_hand(self, event: Published) -> bool:
        return any(ready.entry == event.entry and ready.call == event.call for ready in self._ready)


def subscribe(
    url: str,
    *,
    group: str,
    consumer: str,
    prefix: str = "callbridge",
    partitions: int = 1,
    start: str = "0",
    claim_after: float = 30.0,
    count: int = 100,
) -> Subscription:
    """Events of all calls for one consumer of a group. `start`: where a new group begins; `0` the oldest entry, `$`
    now. `claim_after`: seconds after which another consumer's unacknowledged event is taken over; longer than dealing
    with one ever takes. Raises ConfigError for a bad URL. Iterate in one task only."""
    return Subscription(
        url,
        group=group,
        consumer=consumer,
        prefix=prefix,
        partitions=partitions,
        start=start,
        claim_after=claim_after,
        count=count,
    )


async def follow(
    url: str, *, prefix: str = "callbridge", partitions: int = 1, from_start: bool = False, count: int = 200
) -> AsyncGenerator[Published, None]:
    """Events of all calls as they come, without a group: nothing is acknowledged, everybody sees everything."""
    reader = _Reader(url, prefix, partitions)
    after: dict[str, str] = {}
    backoff = 0.1
    try:
        while True:
            try:
                for stream in reader.streams if not after else ():
                    newest = [] if from_start else await reader.client.xrevrange(stream, count=1)
                    after[stream] = newest[0][0].decode() if newest else "0"
                found = await reader.read(after, count, None)
                backoff = 0.1
            except FAULTS as error:
                backoff = await _wait_out(error, backoff)
                continue
            for stream, entries in found:
                for entry, fields in entries:
                    after[stream] = entry.decode()
                    event = _published(entry, fields)
                    if event is not None:
                        yield event
    finally:
        await reader.close()


async def replay(
    url: str, call: str, *, from_seq: int = 1, prefix: str = "callbridge", partitions: int = 1, wait: bool = True
) -> AsyncGenerator[Published, None]:
    """One call's events from number `from_seq` to its end. `wait`: follows a call that still runs (or has not begun);
    else stops at what is there, and raises redis-py's errors."""
    reader = _Reader(url, prefix, partitions)
    stream, after = reader.keys.call(call), "0"
    backoff = 0.1
    try:
        while True:
            try:
                found = await reader.read_now({stream: after}, 500, None, BLOCK_MS if wait else None)
                backoff = 0.1
            except FAULTS as error:
                if not wait:
                    raise
                backoff = await _wait_out(error, backoff)
                continue
            entries = found[0][1] if found else []
            if not entries and not wait:
                return
            for entry, fields in entries:
                after = entry.decode()
                event = _published(entry, fields)
                if event is not None and event.seq >= from_seq:
                    yield event
                if event is not None and event.type == CALL_ENDED:
                    return
    finally:
        await reader.close()


__all__ = ["Published", "Subscription", "follow", "replay", "subscribe"]
