from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from bridge.publish import events
from bridge.publish.events import Event, Published, fields
from bridge.publish.keys import Keys
from bridge.subscribe import follow, replay, subscribe
from tests.redis_server import RedisServer, free_port

AT_MS = 1_790_000_000_000


def event(call: str, seq: int, n: int) -> Event:
    if seq == 1:
        return events.call_started(call, AT_MS, ingress="sip", from_="a", to="b", legs=[])
    if seq == n:
        return events.call_ended(call, AT_MS + seq, reason="hangup", duration_s=1.0, legs={})
    return events.turn_ended(
        call,
        AT_MS + seq,
        leg="a",
        role="caller",
        text=f"t{seq}",
        start=1.0,
        end=2.0,
        turn=seq,
        reason="silence",
        latency_ms=1,
    )


def write(server: RedisServer, n_calls: int, n_events: int, *, partitions: int = 1) -> set[tuple[str, int]]:
    """What a publisher would have written."""
    keys = Keys("callbridge", partitions)
    written: set[tuple[str, int]] = set()
    with server.client() as client:
        pipe: Any = client.pipeline(transaction=False)
        for seq in range(1, n_events + 1):
            for n in range(n_calls):
                call = f"c{n}"
                entry = fields(event(call, seq, n_events), seq, "test")
                pipe.xadd(keys.call(call), entry, id=f"{AT_MS}-{seq}")
                pipe.xadd(keys.events(keys.partition(call)), entry)
                written.add((call, seq))
        pipe.execute()
    return written


async def take(server: RedisServer, n: int, **more: Any) -> list[Published]:
    taken: list[Published] = []
    options: dict[str, Any] = {"group": "g", "consumer": "a"} | more
    async with asyncio.timeout(20), subscribe(server.url, **options) as subscription:
        async for got in subscription:
            taken.append(got)
            if len(taken) == n:
                break
    return taken


def pending(server: RedisServer, stream: str = "callbridge:events", group: str = "g") -> int:
    with server.client() as client:
        return int(client.xpending(stream, group)["pending"])


async def test_events_come_typed_in_order_and_are_acknowledged_when_the_next_is_asked_for(
    redis_server: RedisServer,
) -> None:
    write(redis_server, 1, 5)
    got = await take(redis_server, 5)
    assert [(e.call, e.seq, e.type) for e in got][:2] == [("c0", 1, "call.started"), ("c0", 2, "turn.ended")]
    assert got[1].text == "t2"
    assert got[1].end == 2.0
    assert got[1].data["reason"] == "silence"
    assert not any(e.redelivered for e in got)
    assert pending(redis_server) == 1  # the last was given, the next never asked for


async def test_what_a_consumer_had_in_hand_when_it_died_comes_again_marked(redis_server: RedisServer) -> None:
    write(redis_server, 1, 5)
    await take(redis_server, 2)
    again = await take(redis_server, 4)
    assert [(e.seq, e.redelivered) for e in again] == [(2, True), (3, True), (4, True), (5, True)]


async def test_another_consumer_claims_what_a_dead_one_left(redis_server: RedisServer) -> None:
    write(redis_server, 1, 5)
    await take(redis_server, 2, consumer="dead")
    got = await take(redis_server, 4, consumer="alive", claim_after=0.2)
    assert [(e.seq, e.redelivered) for e in got] == [(2, True), (3, True), (4, True), (5, True)]


async def test_an_event_is_acknowledged_once_only(redis_server: RedisServer) -> None:
    write(redis_server, 1, 1)
    async with asyncio.timeout(20), subscribe(redis_server.url, group="g", consumer="a") as subscription:
        got = await anext(subscription)
        assert await subscription.ack(got)
        assert not await subscription.ack(got)
    assert pending(redis_server) == 0


async def test_ten_consumers_two_of_them_killed_handle_everything(redis_server: RedisServer) -> None:
    written = write(redis_server, 20, 30, partitions=3)
    handled: Counter[tuple[str, int]] = Counter()
    acknowledged: Counter[tuple[str, int]] = Counter()

    async def consume(name: str, dies_after: int | None) -> None:
        n = 0
        async with subscribe(
            redis_server.url, group="g", consumer=name, partitions=3, claim_after=0.5, count=10
        ) as subscription:
            async for got in subscription:
                n += 1
                if n == dies_after:
                    return  # without acknowledging: what it had fetched is left behind too
                handled[got.call, got.seq] += 1
                acknowledged[got.call, got.seq] += await subscription.ack(got)
                await asyncio.sleep(0.001)
                if len(handled) == len(written):
                    return

    async def wait_for_all() -> None:
        async with asyncio.timeout(30):
            while len(handled) < len(written):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as tasks:
        consumers = [
            tasks.create_task(consume(f"k{n}", 7 if n in (3, 6) else None), name=f"consumer-{n}") for n in range(10)
        ]
        await wait_for_all()
        for consumer in consumers:
            consumer.cancel()
    assert set(handled) == written
    assert set(acknowledged.values()) == {1}


async def test_a_subscriber_outlives_a_redis_that_is_killed(redis_server: RedisServer) -> None:
    write(redis_server, 1, 3)
    async with asyncio.timeout(20), subscribe(redis_server.url, group="g", consumer="a") as subscription:
        got = [await anext(subscription) for _ in range(3)]
        await asyncio.to_thread(redis_server.restart)  # empty now: the group is gone too
        write(redis_server, 2, 3)
        got += [await anext(subscription) for _ in range(3)]
    assert Counter((e.call, e.seq) for e in got)["c1", 1] == 1  # c0 was handled before and is not given again


async def test_a_late_joiner_reads_a_call_from_any_number_to_its_end(redis_server: RedisServer) -> None:
    write(redis_server, 2, 6)
    async with asyncio.timeout(20):
        assert [e.seq async for e in replay(redis_server.url, "c1")] == [1, 2, 3, 4, 5, 6]
        assert [e.seq async for e in replay(redis_server.url, "c1", from_seq=4, wait=False)] == [4, 5, 6]
        assert [e async for e in replay(redis_server.url, "nobody", wait=False)] == []


async def test_a_replay_follows_a_call_that_still_runs(redis_server: RedisServer) -> None:
    seen: list[int] = []

    async def read() -> None:
        seen.extend([e.seq async for e in replay(redis_server.url, "c0")])

    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        tasks.create_task(read())
        await asyncio.sleep(0.1)
        write(redis_server, 1, 4)
    assert seen == [1, 2, 3, 4]


async def test_follow_sees_every_partition(redis_server: RedisServer) -> None:
    written = write(redis_server, 10, 3, partitions=4)
    seen: set[tuple[str, int]] = set()
    async with asyncio.timeout(20):
        async for got in follow(redis_server.url, partitions=4, from_start=True):
            seen.add((got.call, got.seq))
            if len(seen) == len(written):
                break
    assert seen == written


async def test_foreign_entries_are_passed_over(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.xadd("callbridge:events", {"hello": "world"})
    write(redis_server, 1, 1)
    got = await take(redis_server, 1)
    assert got[0].call == "c0"
    assert pending(redis_server) == 1


@pytest.mark.parametrize("url", ["http://x", "redis+sentinel://host", "redis+mail://x/y"])
def test_a_bad_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(Exception, match=r"redis\.url"):
        subscribe(url, group="g", consumer="a")


def test_entries_are_plain_fields_for_any_client(redis_server: RedisServer) -> None:
    """What an application in another language sees."""
    write(redis_server, 1, 2)
    client = redis.Redis(port=redis_server.port, decode_responses=True)
    (_, entry), *_ = client.xrange("callbridge:call:c0")
    client.close()
    assert entry["v"] == "1"
    assert entry["seq"] == "1"
    assert json.loads(entry["data"])["ingress"] == "sip"


async def test_a_subscriber_outlives_a_cluster_of_which_no_node_is_there(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis+cluster://127.0.0.1:{free_port()}"
    for reading in (anext(subscribe(url, group="g", consumer="a")), anext(follow(url)), anext(replay(url, "c"))):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await reading
    assert {line.split(":")[0] for line in caplog.messages} == {"redis away"}
    assert capsys.readouterr().out == "", "the program's own"


async def demote(client: redis.Redis, old: RedisServer, new: RedisServer) -> None:
    """What a sentinel does to a master that it has replaced; whoever waits for an entry there is told off."""
    client.replicaof("127.0.0.1", str(new.port))


async def refuse_writes(client: redis.Redis, old: RedisServer, new: RedisServer) -> None:
    """The README's `min-replicas-to-write`, with nobody there who could confirm."""
    client.config_set("min-replicas-to-write", "1")


async def fill_up(client: redis.Redis, old: RedisServer, new: RedisServer) -> None:
    client.config_set("maxmemory", "1")


@pytest.mark.parametrize("trouble", [demote, refuse_writes, fill_up])
async def test_a_subscriber_outlives_a_redis_that_will_not_do_it_for_now(
    redis_server: RedisServer, trouble: Any
) -> None:
    got: list[int] = []

    async def consume() -> None:
        async with subscribe(redis_server.url, group="g", consumer="a", claim_after=0.2) as subscription:
            async for event in subscription:
                got.append(event.seq)
                if len(got) == 6:
                    return

    with RedisServer() as other, redis_server.client() as client:
        write(redis_server, 1, 3)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(consume())
            while len(got) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)  # it waits for the next entry now
            await trouble(client, redis_server, other)
            await asyncio.sleep(1.5)
            client.replicaof("NO", "ONE")
            client.config_set("min-replicas-to-write", "0")
            client.config_set("maxmemory", "0")
            if not client.exists("callbridge:events"):  # a replica takes over its master's emptiness
                got.clear()
                got += [1, 2, 3]
            write_more(redis_server, 4, 6)
    assert sorted(got) == [1, 2, 3, 4, 5, 6]


def write_more(server: RedisServer, first: int, last: int) -> None:
    """To the call that `write` began."""
    with server.client() as client:
        for seq in range(first, last + 1):
            client.xadd("callbridge:events", fields(event("c0", seq, 99), seq, "test"))


@pytest.mark.parametrize("trouble", ["WRONGTYPE", "NOPERM"])
async def test_what_time_will_not_heal_is_raised(redis_server: RedisServer, trouble: str) -> None:
    url = redis_server.url
    with redis_server.client() as client:
        if trouble == "WRONGTYPE":
            client.set("callbridge:events", "text")
        else:
            client.execute_command("ACL", "SETUSER", "poor", "on", ">pass", "~*", "+@connection")
            url = f"redis://poor:pass@127.0.0.1:{redis_server.port}/0"
    with pytest.raises(ResponseError):
        async with asyncio.timeout(20):
            await anext(subscribe(url, group="g", consumer="a"))
