"""Redis Streams: each event once in its call's stream and once in the shared one, whatever happens on the way.

One connection per partition; a batch is one script. Whoever asks again after a lost answer gets the position, not a
second copy. Works on one Redis, behind Sentinel, and on a Cluster; see `bridge.net.redis_link` for the URLs.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from redis.exceptions import NoPermissionError

from bridge.clock import monotonic, unix_ms
from bridge.config import RedisSettings
from bridge.errors import SinkError
from bridge.net.redis_link import Address, Link
from bridge.publish.contract import Health, Part, Position, Receipt
from bridge.publish.events import CALL_ENDED
from bridge.publish.keys import Keys
from bridge.sinks import scripts

WAIT = ("WAIT", 1, 250)  # ms; a healthy replica on a LAN confirms in a few; a batch waits this long at most
REPLICA_AWAY = 120.0
"""s without the replica that there was, until writes count as safe without one. A Sentinel that goes back on a failover
(after its TILT of 30 s, and timeouts) throws away all that the other master took meanwhile."""
MAY_WAIT = ("WAIT", 0, 1)  # answered at once
TRIM_LOOK = 2000  # entries that one trim looks at: bounds the time that the script holds Redis to about 10 ms
ASK_CALLS = 500  # calls per POSITIONS script
LOOK_UP_TO = 5000  # calls; then from the oldest again
CALLS_LOOK = 50  # oldest calls looked at per second for streams that have expired

P = ParamSpec("P")
T = TypeVar("T")
log = structlog.get_logger()


def _understood(
    ask: Callable[Concatenate[RedisStreams, int, P], Awaitable[T]],
) -> Callable[Concatenate[RedisStreams, int, P], Coroutine[Any, Any, T]]:
    """Whatever answers there may be no Redis: a proxy without one behind it, another program on its port. What cannot
    be made out is a failure of the sink as any other, and never a confirmation."""

    @functools.wraps(ask)
    async def asked(self: RedisStreams, partition: int, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await ask(self, partition, *args, **kwargs)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            await self.disconnect(partition)
            raise SinkError(f"that is no answer of Redis: {type(error).__name__}") from error

    return asked


class RedisStreams:
    """The Sink. See `bridge.publish.contract`."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._address = Address.parse(settings.url)
        self.keys = Keys(settings.prefix, settings.partitions, tagged=self._address.kind == "cluster")
        self._links = [Link(self._address, self.keys.events(n)) for n in range(settings.partitions)]
        self._scripts: list[dict[str, str]] = [{} for _ in self._links]
        self._replicas = [0 for _ in self._links]
        self._replicated_at = [monotonic() if self._address.kind == "sentinel" else -inf for _ in self._links]
        "When there last was a replica; a Sentinel means that there is one somewhere."
        self._is_durable = [True for _ in self._links]
        self._overrun = [0 for _ in self._links]
        self._looked = [0 for _ in self._links]
        self._may_wait = True

    @property
    def partitions(self) -> int:
        return self._settings.partitions

    def partition(self, call: str) -> int:
        return self.keys.partition(call)

    def generation(self, partition: int) -> int:
        return self._links[partition].generation

    @_understood
    async def open(self, partition: int) -> None:
        link = self._links[partition]
        if link.is_open:
            return
        await link.open()
        sources = {"write": scripts.WRITE, "positions": scripts.POSITIONS, "trim": scripts.TRIM}
        digests = await link.ask(*(("SCRIPT", "LOAD", source) for source in sources.values()))
        self._scripts[partition] = dict(zip(sources, digests, strict=True))
        await self._count_replicas(partition)

    @_understood
    async def positions(self, partition: int, calls: Iterable[str]) -> Mapping[str, Position]:
        await self.open(partition)
        wanted = list(calls)
        found: dict[str, Position] = {}
        for at in range(0, len(wanted), ASK_CALLS):
            some = wanted[at : at + ASK_CALLS]
            keys = (self.keys.calls(partition), *map(self.keys.call, some))
            command = ("EVALSHA", self._scripts[partition]["positions"], len(keys), *keys, *some)
            (answer,) = await self._links[partition].ask(command)
            for call, seq, kind in zip(some, answer[::2], answer[1::2], strict=True):
                found[call] = Position(max(int(seq), 0), kind.decode() == CALL_ENDED, is_gone=int(seq) < 0)
        return found

    @_understood
    async def write(self, partition: int, batch: Sequence[Part]) -> Receipt:
        await self.open(partition)
        parts = [part for part in batch if part.records]
        keys = [self.keys.events(partition), self.keys.calls(partition), *(self.keys.call(part.call) for part in parts)]
        arguments: list[int | str | bytes] = [self._settings.call_ttl_s]
        for part in parts:
            arguments += (len(part.records), part.floor)
            for record in part.records:
                mark = "first" if record.is_first else "last" if record.is_last else ""
                arguments += (record.seq, record.at_ms, mark, record.body)
        script = ("EVALSHA", self._scripts[partition]["write"], len(keys), *keys, *arguments)
        self._is_durable[partition] = False
        if self._replicas[partition]:
            answer, n_replicas = await self._links[partition].ask(script, WAIT)
            is_durable = n_replicas > 0
        else:
            (answer,) = await self._links[partition].ask(script)
            is_durable = self._does_without_replica(partition)
        self._is_durable[partition] = is_durable
        return _receipt(parts, answer, is_durable)

    @_understood
    async def tend(self, partition: int) -> Health:
        await self.open(partition)
        await self._links[partition].follow_master()
        await self._count_replicas(partition)
        if self._is_durable[partition]:
            pass
        elif self._replicas[partition]:
            (n_replicas,) = await self._links[partition].ask(WAIT)
            self._is_durable[partition] = n_replicas > 0
        else:
            self._is_durable[partition] = self._does_without_replica(partition)
        await self._forget_expired(partition)
        return await self._trim(partition)

    def _does_without_replica(self, partition: int) -> bool:
        return monotonic() - self._replicated_at[partition] > REPLICA_AWAY

    @_understood
    async def eviction(self, partition: int) -> str:
        """The policy by which this Redis throws entries away when full; empty: none, or it may not be asked."""
        await self.open(partition)
        if not self._may_wait:
            return ""
        lines = await self._info(partition, "memory")
        policy = lines.get("maxmemory_policy", "noeviction")
        return "" if policy == "noeviction" or lines.get("maxmemory", "0") == "0" else policy

    async def disconnect(self, partition: int) -> None:
        """Never raises; what is asked next connects again."""
        await self._links[partition].close()

    async def close(self) -> None:
        for link in self._links:
            await link.close()

    async def _trim(self, partition: int) -> Health:
        settings = self._settings
        command = (
            *("EVALSHA", self._scripts[partition]["trim"], 1, self.keys.events(partition)),
            *(settings.maxlen, settings.maxlen_hard, TRIM_LOOK, *settings.groups),
        )
        for _ in range(8):  # about 16 000 entries a second go at most: more than one Redis takes in
            (answer,) = await self._links[partition].ask(command)
            length, overrun, held_up_by = int(answer[0]), int(answer[1]), answer[2].decode()
            self._overrun[partition] += overrun
            if held_up_by or length <= settings.maxlen or not settings.groups:
                break
        lag = {answer[n].decode(): int(answer[n + 1]) for n in range(3, len(answer), 2)}
        return Health(
            length=length,
            lag=lag,
            held_up_by=held_up_by,
            is_durable=self._is_durable[partition],
            overrun=self._overrun[partition],
        )

    async def _count_replicas(self, partition: int) -> None:
        """An ACL may forbid what it takes to wait for replicas: then nobody does, and the log says so once."""
        if not self._may_wait:
            return
        link = self._links[partition]
        try:
            lines = await self._info(partition, "replication")
            if lines.get("role") == "slave":
                await link.close()
                raise SinkError("this Redis is a replica")
            self._replicas[partition] = int(lines.get("connected_slaves", "0"))
            if self._replicas[partition]:
                await link.ask(MAY_WAIT)
                self._replicated_at[partition] = monotonic()
        except SinkError as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            self._may_wait = False
            self._replicas = [0 for _ in self._links]
            self._replicated_at = [-inf for _ in self._links]
            log.warning("replicas unknown", reason="INFO or WAIT is not allowed to this user; WAIT is not used")
            await link.open()  # a refusal has closed it

    async def _info(self, partition: int, section: str) -> dict[str, str]:
        (answer,) = await self._links[partition].ask(("INFO", section))
        return dict(line.split(":", 1) for line in answer.decode().splitlines() if ":" in line)

    async def _forget_expired(self, partition: int) -> None:
        """The set of calls keeps step with the streams: what has expired leaves it. Oldest first, and further on where
        nothing has: calls that never ended, for want of the spool that knew them, must not hide the rest. One that is
        too young for that may still run, without the stream that somebody took away."""
        link, index = self._links[partition], self.keys.calls(partition)
        at = self._looked[partition]
        (oldest,) = await link.ask(("ZRANGE", index, at, at + CALLS_LOOK - 1, "WITHSCORES"))
        began_by = unix_ms() - self._settings.call_ttl_s * 1000
        calls = [call.decode() for call, ms in zip(oldest[::2], oldest[1::2], strict=True) if float(ms) <= began_by]
        if not calls:
            self._looked[partition] = 0
            return
        exist = await link.ask(*(("EXISTS", self.keys.call(call)) for call in calls))
        gone = [call for call, n in zip(calls, exist, strict=True) if not n]
        if gone:
            await link.ask(("ZREM", index, *gone))
        self._looked[partition] = at + CALLS_LOOK if at < LOOK_UP_TO and not gone else 0


def _receipt(parts: Sequence[Part], answer: object, is_durable: bool) -> Receipt:
    """Raises ValueError for what the script does not answer: events would be taken for published."""
    if not isinstance(answer, list):
        raise ValueError("no list")
    held: dict[str, int] = {}
    refused: dict[str, str] = {}
    for part, told in zip(parts, answer[1:], strict=True):
        if isinstance(told, int):
            held[part.call] = told
        else:
            refused[part.call] = told.decode("utf-8", "replace")
    return Receipt(held, refused, int(answer[0]), is_durable)
