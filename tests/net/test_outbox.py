from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from bridge import clock
from bridge.config import RedisSettings
from bridge.net.outbox import Publisher
from bridge.publish import events
from bridge.publish.events import Event
from bridge.sinks.redis_streams import RedisStreams

from tests.redis_server import RedisServer


def started(call: str) -> Event:
    legs = [{"leg": "a", "role": "caller", "codec": "PCMU"}]
    return events.call_started(call, clock.unix_ms(), ingress="sip", from_="+1", to="+2", legs=legs)


def final(call: str, n: int) -> Event:
    return events.transcript_final(
        call,
        clock.unix_ms(),
        leg="a",
        role="caller",
        text=f"word {n}",
        start=float(n),
        end=n + 0.5,
        utterance=f"u{n}",
        turn=n,
        language="en",
        confidence=0.9,
        provider="deepgram",
        words=[],
    )


def interim(call: str, utterance: int, revision: int) -> Event:
    return events.transcript_interim(
        call,
        clock.unix_ms(),
        leg="a",
        role="caller",
        text=f"r{revision}",
        start=0.0,
        end=1.0,
        utterance=f"u{utterance}",
        revision=revision,
        words=[],
    )


def ended(call: str) -> Event:
    return events.call_ended(call, clock.unix_ms(), reason="hangup", duration_s=1.0, legs={})


@contextlib.asynccontextmanager
async def publishing(server: RedisServer | str, path: Path, **more: object) -> AsyncIterator[Publisher]:
    url = server if isinstance(server, str) else server.url
    partitions = int(str(more.pop("partitions", 1)))
    sink = RedisStreams(RedisSettings(url=url, partitions=partitions))
    publisher = Publisher(sink, **({"instance": "test", "spool_path": str(path)} | more))  # type: ignore[arg-type]
    await publisher.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        yield publisher
        publisher.close()


async def flush(publisher: Publisher, seconds: float = 20.0) -> None:
    assert await publisher.flush(asyncio.get_running_loop().time() + seconds), publisher.stats()


def check_streams(server: RedisServer, calls: dict[str, int], *, prefix: str = "callbridge") -> None:
    """Each call has exactly `n` events, in order, once in its stream and once in the shared one."""
    with server.client() as client:
        shared: dict[str, list[int]] = {}
        for _, fields in client.xrange(f"{prefix}:events"):
            shared.setdefault(fields["call"], []).append(int(fields["seq"]))
        for call, n in calls.items():
            own = [(entry, int(fields["seq"])) for entry, fields in client.xrange(f"{prefix}:call:{call}")]
            assert [seq for _, seq in own] == list(range(1, n + 1)), call
            assert [int(entry.split("-")[1]) for entry, _ in own] == list(range(1, n + 1)), call
            assert shared.get(call) == list(range(1, n + 1)), call
        assert set(shared) == set(calls)


async def test_events_stand_once_in_both_streams_in_order(redis_server: RedisServer, tmp_path: Path) -> None:
    async with publishing(redis_server, tmp_path) as publisher:
        for call in ("c1", "c2"):
            publisher.publish(started(call))
            for n in range(50):
                publisher.publish(final(call, n))
            publisher.publish(ended(call))
        await flush(publisher)
        assert publisher.stats().queued == 0
        assert publisher.stats().accepted == 104
    check_streams(redis_server, {"c1": 52, "c2": 52})
    with redis_server.client() as client:
        assert client.zrange("callbridge:calls", 0, -1) == ["c1", "c2"]
        assert 86000 < client.ttl("callbridge:call:c1") <= 86400
