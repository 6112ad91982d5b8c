"""Fifty calls through the whole service while every Redis that it may have fails: one that is swapped by a sentinel,
and a cluster that loses a master. Judged by what stands in Redis, by what the provider got, and by the callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
from redis.cluster import ClusterNode

from bridge.publish.keys import Keys
from tests.redis_server import Pair, RedisServer, cluster, is_installed
from tests.soak.invariants import Client, Streams, check, ledgers, legs_of
from tests.soak.stand_in import StandIn, stand_in

from .house import Running, service
from .scenarios import WEASELS, WRONG, Lines, plain
from .test_chaos import DURABLE, Outcome, play

N_CALLS = 50
RATE = 12.0  # calls a second: all of them run when the first storm comes, and until the last has passed
LINES: Lines = tuple((0.5 + 4.0 * n, (WRONG, WEASELS)[n % 2]) for n in range(6))
CALL = plain(LINES)
ALL_RUN = N_CALLS / RATE + 1.0  # s
STALE = 4.0  # s; a sentinel lets ten pass before it demotes one that came back
KEEP_S = 3.0  # s of the spool: what a swap loses is noticed and healed within that
SETTLE = 30.0  # s for what waited
TOLD = 0.25  # s by which the caller and the ledger may differ about a call's length on a loaded machine
PARTITIONS = 6
Storm = Callable[[], Coroutine[Any, Any, None]]
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(180)]


def besiege(running: Running, provider: StandIn, storm: Storm, read: Callable[[], Streams]) -> Outcome:
    async def run() -> Any:
        async with asyncio.TaskGroup() as group:
            weather = group.create_task(storm())
            calls = group.create_task(play(running, CALL, calls=N_CALLS, rate=RATE))
        assert weather.done()
        return calls.result()

    results = asyncio.run(run())
    deadline = time.monotonic() + SETTLE
    while (streams := read()).ended < N_CALLS and time.monotonic() < deadline:
        time.sleep(0.2)
    table = check(streams, provider.connections(), legs=legs_of(running.log_lines()))
    return Outcome(results, streams, table, running)


def assert_nothing_happened(outcome: Outcome) -> None:
    """To the events, nor to the calls."""
    assert outcome.streams.ended == N_CALLS
    assert outcome.table.violations == []
    assert [result.reason for result in outcome.results] == ["done"] * N_CALLS
    lasted = {result.sip_call_id: result.ended_at - result.answered_at for result in outcome.results}
    for call, entries in outcome.streams.calls.items():
        spoken = lasted.pop(entries[0].data["correlation"]["sip_call_id"])
        assert abs(entries[-1].data["duration_s"] - spoken) <= TOLD, call
        (ledger,) = ledgers(entries).values()
        disturbed = {key: ledger[key] for key in ("lost_s", "unsent_s", "concealed_s", "replayed_s") if ledger[key]}
        assert (disturbed, ledger["sessions"], ledger["packets"]["lost"]) == ({}, 1, 0), call
        assert ledger["finals"] > 0
    assert lasted == {}
    problems = [line for line in outcome.running.log_lines() if line["level"] in ("error", "critical")]
    assert problems == []


# -- a sentinel -------------------------------------------------------------------------------------------------------


async def swap_fill_and_swap_back(pair: Pair) -> None:
    """The master dies and comes back as a replica; the new one is full for a while, then stands still until the first
    is master again, and wakes up believing that it is one too."""
    await asyncio.sleep(ALL_RUN)
    first = pair.master
    first.kill()
    second = await asyncio.to_thread(pair.wait_for_failover, first)
    await asyncio.to_thread(first.start)
    await asyncio.to_thread(pair.wait_for_replica)
    with second.client() as client:
        await asyncio.to_thread(client.config_set, "maxmemory", "1")
        await asyncio.sleep(1.5)
        await asyncio.to_thread(client.config_set, "maxmemory", "0")
    await asyncio.sleep(1.0)
    second.pause()
    await asyncio.to_thread(pair.wait_for_failover, second)
    second.resume()
    await asyncio.sleep(STALE)  # calls go on, and so does it: whoever believed it would lose what it took


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outcome, Pair]]:
    folder = tmp_path_factory.mktemp("swapped")
    with contextlib.ExitStack() as stack:
        pair = stack.enter_context(Pair(**DURABLE))
        provider = stack.enter_context(stand_in(folder, recogniser="scripted", keep_audio_bytes=0, throttle=0))
        running = stack.enter_context(
            service(folder, pair.servers[0], provider.url, redis={"url": pair.url}, spool={"keep_s": KEEP_S})
        )
        yield (
            besiege(running, provider, lambda: swap_fill_and_swap_back(pair), lambda: Streams.read(pair.master.url)),
            pair,
        )


def test_a_redis_killed_full_stopped_and_failed_over_twice_disturbs_no_event_of_fifty_calls(
    swapped: tuple[Outcome, Pair],
) -> None:
    assert_nothing_happened(swapped[0])


def test_redis_was_really_swapped_twice_and_full_between(swapped: tuple[Outcome, Pair]) -> None:
    outcome, pair = swapped
    reasons = [line["reason"] for line in outcome.running.log_lines() if line.get("event") == "sink down"]
    assert any("maxmemory" in reason for reason in reasons), reasons
    assert len(reasons) >= 3, reasons
    assert pair.master is pair.servers[0]


# -- a cluster --------------------------------------------------------------------------------------------------------


async def lose_a_master(servers: list[RedisServer]) -> None:
    """For good: one of its replicas takes over what it knew, the service fills in what it did not."""
    await asyncio.sleep(ALL_RUN)
    await asyncio.to_thread(servers[0].kill)


def read_cluster(servers: list[RedisServer]) -> Streams:
    client: Client = redis.RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", server.port) for server in servers], decode_responses=True
    )
    keys = Keys(partitions=PARTITIONS, tagged=True)
    with contextlib.closing(client):
        streams = Streams.read_from(client, [keys.base(n) for n in range(PARTITIONS)])
        calls = {call: streams.calls[call] for call in streams.calls}
        return Streams(streams.shared, calls, streams.index, streams.not_streams)


@pytest.fixture(scope="module")
def bereft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outcome, list[RedisServer]]]:
    folder = tmp_path_factory.mktemp("bereft")
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(cluster(3, replicas=1))
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in servers[:3])
        table: dict[str, object] = {"url": f"redis+cluster://{nodes}", "partitions": PARTITIONS}
        provider = stack.enter_context(stand_in(folder, recogniser="scripted", keep_audio_bytes=0, throttle=0))
        running = stack.enter_context(service(folder, servers[0], provider.url, redis=table))
        outcome = besiege(running, provider, lambda: lose_a_master(servers), lambda: read_cluster(servers[1:]))
        yield outcome, servers


def test_a_cluster_that_loses_one_of_three_masters_loses_doubles_and_disorders_no_event_of_fifty_calls(
    bereft: tuple[Outcome, list[RedisServer]],
) -> None:
    assert_nothing_happened(bereft[0])


def test_all_three_masters_had_calls_and_one_was_really_lost(bereft: tuple[Outcome, list[RedisServer]]) -> None:
    outcome, servers = bereft
    keys = Keys(partitions=PARTITIONS, tagged=True)
    assert len({keys.partition(call) for call in outcome.streams.calls}) == PARTITIONS
    assert [line for line in outcome.running.log_lines() if line.get("event") == "sink down"]
    with servers[1].client() as client:
        roles = [node["flags"] for node in client.cluster("NODES").values()]
    assert sum("fail" in role.split(",") for role in roles) == 1, roles
