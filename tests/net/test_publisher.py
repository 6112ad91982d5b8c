from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
import structlog

from bridge import clock
from bridge.config import RedisSettings
from bridge.errors import ConfigError
from bridge.net.publisher import Publisher
from bridge.publish import events
from bridge.publish.events import Event
from bridge.sinks.redis_streams import RedisStreams
from bridge.subscribe import follow, replay, subscribe
from tests.redis_server import RedisServer, Sentinel, cluster
from tests.soak.on_disk import events_on_disk


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


async def until(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits for what must come."""
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


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


async def test_numbers_follow_the_stream_when_redis_is_away_and_comes_back(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with publishing(redis_server, tmp_path) as publisher:
        publisher.publish(started("c"))
        await flush(publisher)
        redis_server.pause()
        for n in range(30):
            publisher.publish(final("c", n))
        assert not await publisher.flush(asyncio.get_running_loop().time() + 0.1)
        redis_server.resume()
        await flush(publisher)
    check_streams(redis_server, {"c": 31})


async def test_a_redis_killed_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        async with publishing(server, tmp_path) as publisher:
            for call in range(10):
                publisher.publish(started(f"c{call}"))
            for n in range(60):
                for call in range(10):
                    publisher.publish(final(f"c{call}", n))
                if n in (15, 40):
                    await asyncio.to_thread(server.restart)
                await asyncio.sleep(0.005)
            await flush(publisher)
        check_streams(server, {f"c{call}": 61 for call in range(10)})


async def test_what_a_restart_of_redis_lost_is_published_again(redis_server: RedisServer, tmp_path: Path) -> None:
    """No persistence: everything confirmed is gone. What is younger than `keep_s` comes back, once, in order."""
    async with publishing(redis_server, tmp_path) as publisher:
        publisher.publish(started("live"))
        publisher.publish(started("over"))
        publisher.publish(final("live", 1))
        publisher.publish(ended("over"))
        await flush(publisher)
        await asyncio.to_thread(redis_server.restart)
        publisher.publish(final("live", 2))
        await flush(publisher)
        await until(lambda: publisher.stats().counts.resumed >= 4)
        await flush(publisher)
    check_streams(redis_server, {"live": 3, "over": 2})


async def test_a_full_redis_holds_nobody_up_and_gets_everything_once_it_has_room(tmp_path: Path) -> None:
    with RedisServer(maxmemory_policy="noeviction") as server, server.client() as client:
        async with publishing(server, tmp_path) as publisher:
            publisher.publish(started("c"))
            await flush(publisher)
            client.config_set("maxmemory", "500kb")
            for n in range(200):
                publisher.publish(final("c", n))
            await until(lambda: "maxmemory" in publisher.stats().last_error)
            assert publisher.stats().is_writable
            assert not publisher.stats().is_sink_up
            client.config_set("maxmemory", "100mb")
            await flush(publisher)
        check_streams(server, {"c": 201})


async def test_a_replica_takes_nothing_and_its_promotion_goes_on_behind_what_it_holds(tmp_path: Path) -> None:
    with RedisServer() as server, RedisServer() as other:
        async with publishing(server, tmp_path) as publisher:
            publisher.publish(started("c"))
            await flush(publisher)
            with server.client() as client:
                client.replicaof("127.0.0.1", other.port)  # empty master: what was confirmed is lost
                await until(lambda: not client.exists("callbridge:events"))
                publisher.publish(final("c", 1))
                await until(lambda: not publisher.stats().is_sink_up)
                client.replicaof("NO", "ONE")
            await flush(publisher)
        check_streams(server, {"c": 2})


async def test_confirmed_means_a_replica_has_it_too(tmp_path: Path) -> None:
    with RedisServer() as server, RedisServer() as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", server.port)
            await until(lambda: client.info("replication").get("master_link_status") == "up")
        async with publishing(server, tmp_path, keep_s=0) as publisher:
            publisher.publish(started("c"))
            publisher.publish(final("c", 1))
            await flush(publisher)
            replica.pause()
            publisher.publish(final("c", 2))
            await flush(publisher)  # written, and so no longer queued, but kept in the spool
            await until(lambda: 0 in publisher.stats().health and not publisher.stats().health[0].is_durable)
            replica.resume()
            await until(lambda: publisher.stats().health[0].is_durable)
        check_streams(server, {"c": 3})
        check_streams(replica, {"c": 3})


class LossyProxy:
    """TCP between the publisher and Redis that cuts connections after so many bytes of answers: replies get lost."""

    def __init__(self, port: int, seed: int) -> None:
        self._target = port
        self._random = random.Random(seed)
        self.is_kind = False
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/0"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target)
        left = 10**9 if self.is_kind else self._random.randrange(300, 900)

        async def up() -> None:
            with contextlib.suppress(OSError):
                while data := await reader.read(65536):
                    back_writer.write(data)
                    await back_writer.drain()
            back_writer.close()

        async def down() -> None:
            nonlocal left
            with contextlib.suppress(OSError):
                while data := await back_reader.read(65536):
                    left -= len(data)
                    if left < 0 and not self.is_kind:
                        self.cuts += 1
                        break  # Redis has done it; the answer never arrives
                    writer.write(data)
                    await writer.drain()
            writer.close()
            back_writer.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(up())
            tasks.create_task(down())


async def test_lost_replies_double_nothing(redis_server: RedisServer, tmp_path: Path) -> None:
    async with LossyProxy(redis_server.port, seed=7) as proxy, publishing(proxy.url, tmp_path) as publisher:
        for n in range(150):
            publisher.publish(started(f"c{n % 5}") if n < 5 else final(f"c{n % 5}", n))
            await asyncio.sleep(0.005)
        await until(lambda: proxy.cuts >= 5)
        proxy.is_kind = True
        await flush(publisher)
    check_streams(redis_server, {f"c{n}": 30 for n in range(5)})


async def test_interims_are_conflated_before_they_have_a_number_while_redis_is_away(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.pause()
    async with publishing(redis_server, tmp_path) as publisher:
        publisher.publish(started("c"))
        for revision in range(3000):
            publisher.publish(interim("c", revision // 100, revision))
        publisher.publish(final("c", 25))  # utterance u25: its waiting interim is stale now
        counts = publisher.stats().counts
        assert publisher.stats().queued < 2100
        assert counts.conflated > 900
        redis_server.resume()
        await flush(publisher)
        await asyncio.sleep(0.3)
        await flush(publisher)
    with redis_server.client() as client:
        entries = [fields for _, fields in client.xrange("callbridge:call:c")]
    assert [int(fields["seq"]) for fields in entries] == list(range(1, len(entries) + 1))
    texts = [fields["text"] for fields in entries if fields["type"] == events.TRANSCRIPT_INTERIM]
    assert texts[-4:] == ["r2699", "r2799", "r2899", "r2999"]
    assert "r2599" not in texts


CHILD = """
import asyncio, bisect, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.net.test_publisher import *

async def main():
    sink = RedisStreams(RedisSettings(url=sys.argv[1]))
    publisher = Publisher(sink, instance=sys.argv[4], spool_path=sys.argv[2])
    await publisher.open()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(publisher.run())
        run = sys.argv[5]
        n, tickets = 0, []
        while True:
            call = f"{run}-{n % 3}"
            publisher.publish(started(call) if n < 3 else final(call, n))
            n += 1
            if n == 30:
                publisher.remember(f"{run}-0", {"a": {"role": "caller", "sent_s": 1.25}})
            tickets.append(publisher._outbox.last_ticket)  # crashed calls' ends count in `accepted` too
            print(bisect.bisect_right(tickets, publisher.stats().accepted), flush=True)
            await asyncio.sleep(0.002)

asyncio.run(main())
"""


def run_and_kill(server: RedisServer, path: Path, run: str, seconds: float, *, instance: str) -> int:
    """A child publishes to three calls in turn until it is killed. How many events it had accepted."""
    command = [sys.executable, "-c", CHILD, server.url, str(path), os.getcwd(), instance, run]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        os.kill(child.pid, signal.SIGKILL)
        lines = child.stdout.read().split(b"\n")
    whole = [int(line) for line in lines[:-1] if line.isdigit()]
    return whole[-1] if whole else 0


async def kill_and_recover(server: RedisServer, path: Path, n_kills: int, seed: int) -> None:
    chance = random.Random(seed)
    accepted: dict[str, int] = {}
    for n in range(n_kills):
        run = f"run{n}"
        is_away = chance.random() < 0.5
        if is_away:
            server.pause()
        instance = chance.choice(["same", f"pid-{n}"])
        accepted[run] = await asyncio.to_thread(
            run_and_kill, server, path, run, chance.uniform(0.05, 0.5), instance=instance
        )
        if is_away:
            server.resume()
    async with publishing(server, path) as publisher:
        await until(lambda: publisher.stats().is_sink_up)
        await flush(publisher)
    expected: dict[str, int] = {}
    with server.client() as client:
        for run, n_accepted in accepted.items():
            for call in range(3):
                key = f"callbridge:call:{run}-{call}"
                entries = [fields for _, fields in client.xrange(key)]
                if not entries and n_accepted <= call:
                    continue
                n_finals = sum(1 for fields in entries if fields["type"] == events.TRANSCRIPT_FINAL)
                mine = len(range(call, n_accepted, 3))
                assert n_finals + 1 >= mine, f"{run}-{call}: {n_finals} of {mine - 1} accepted finals"
                finals = [fields["text"] for fields in entries if fields["type"] == events.TRANSCRIPT_FINAL]
                assert finals == [f"word {n}" for n in range(call + 3, call + 3 + 3 * len(finals), 3)]
                last = entries[-1]
                assert last["type"] == events.CALL_ENDED
                assert '"crash"' in last["data"]
                turns = sum(1 for fields in entries if fields["type"] == events.TURN_ENDED)
                assert turns == n_finals
                expected[f"{run}-{call}"] = len(entries)
    assert expected
    check_streams(server, expected)


async def test_after_kill_9_the_next_start_publishes_the_rest_and_ends_the_calls(tmp_path: Path) -> None:
    with RedisServer() as server:
        await kill_and_recover(server, tmp_path, 3, seed=1)


@pytest.mark.soak
async def test_twenty_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    with RedisServer() as server:
        await kill_and_recover(server, tmp_path, 20, seed=2)


async def test_two_processes_never_share_a_spool(redis_server: RedisServer, tmp_path: Path) -> None:
    async with publishing(redis_server, tmp_path):
        second = Publisher(RedisStreams(RedisSettings(url=redis_server.url)), instance="test", spool_path=str(tmp_path))
        with pytest.raises(ConfigError, match="in use"):
            await second.open()


@contextlib.contextmanager
def full_disk(file_bytes: int) -> Iterator[None]:
    """The kernel lets no file of this process grow beyond so much (EFBIG instead of ENOSPC; Python ignores SIGXFSZ)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_told_and_events_go_out_without_it(redis_server: RedisServer, tmp_path: Path) -> None:
    async with publishing(redis_server, tmp_path) as publisher:
        publisher.publish(started("c"))
        await flush(publisher)
        with full_disk(64 << 10):
            for n in range(300):
                publisher.publish(final("c", n))
            await until(lambda: bool(publisher.stats().last_error))
            await flush(publisher)
            assert publisher.stats().last_error == "File too large"
            assert publisher.stats().is_writable
            publisher.publish(interim("c", 999, 1))  # waits: no room
            publisher.publish(interim("c", 999, 2))
            assert publisher.stats().counts.conflated == 1
        await until(lambda: not publisher.stats().last_error)
        publisher.publish(ended("c"))
        await flush(publisher)
        assert publisher.stats().accepted == publisher.stats().counts.numbered
    check_streams(redis_server, {"c": publisher.stats().counts.numbered})


async def test_a_disk_that_stays_full_does_not_fill_the_memory(redis_server: RedisServer, tmp_path: Path) -> None:
    async with publishing(redis_server, tmp_path, memory_bytes=100_000) as publisher:
        publisher.publish(started("c"))
        await flush(publisher)
        with full_disk(64 << 10):
            for n in range(2000):
                publisher.publish(final("c", n))
                if not n % 20:
                    await asyncio.sleep(0.002)
            await flush(publisher)
            await until(lambda: publisher._disk._files.unsaved_bytes < 200_000)
        await until(lambda: not publisher.stats().last_error)
        publisher.publish(ended("c"))
        await flush(publisher)
        numbered = publisher.stats().counts.numbered
    check_streams(redis_server, {"c": numbered})
    async with publishing(redis_server, tmp_path) as publisher:  # what is on disk now is whole
        await until(lambda: publisher.stats().is_sink_up)
        assert publisher.stats().counts.crashed_calls == 0
    check_streams(redis_server, {"c": numbered})


async def test_a_spool_at_its_limit_refuses_loudly_and_never_leaves_a_gap(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.pause()
    async with publishing(redis_server, tmp_path, max_spool_bytes=200_000) as publisher:
        publisher.publish(started("c"))
        for n in range(2000):
            publisher.publish(final("c", n))
            if not n % 20:
                await asyncio.sleep(0.005)
        publisher.publish(ended("c"))
        stats = publisher.stats()
        assert stats.counts.refused > 0
        assert stats.spooled_bytes < 400_000
        redis_server.resume()
        await flush(publisher)
        check_streams(redis_server, {"c": stats.counts.numbered})


async def test_spool_files_go_when_their_events_are_confirmed_and_old(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    async with publishing(redis_server, tmp_path, keep_s=0.1, max_spool_bytes=10_000_000) as publisher:
        publisher._disk._files._segment_bytes = 20_000
        for n in range(300):
            publisher.publish(final("c", n))
            await asyncio.sleep(0.002)
        await flush(publisher)
        await until(lambda: publisher.stats().spooled_bytes < 45_000)
        assert len(list((tmp_path / "test").glob("*.spool"))) <= 2
    check_streams(redis_server, {"c": 300})


async def test_partitions_spread_calls_and_keep_each_whole(redis_server: RedisServer, tmp_path: Path) -> None:
    async with publishing(redis_server, tmp_path, partitions=4) as publisher:
        for call in range(20):
            publisher.publish(started(f"c{call}"))
            publisher.publish(ended(f"c{call}"))
        await flush(publisher)
    with redis_server.client() as client:
        lengths = [client.xlen(f"{{callbridge:{n}}}:events") for n in range(4)]
        assert sum(lengths) == 40
        assert all(lengths)
        assert sum(client.zcard(f"{{callbridge:{n}}}:calls") for n in range(4)) == 20


async def test_a_cluster_that_loses_a_master_loses_no_event_and_holds_up_no_other_partition(tmp_path: Path) -> None:
    with cluster(3) as servers:
        url = f"redis+cluster://127.0.0.1:{servers[1].port},127.0.0.1:{servers[2].port}"
        calls = [f"c{n}" for n in range(12)]
        async with publishing(url, tmp_path, partitions=6) as publisher:
            for call in calls:
                publisher.publish(started(call))
            await flush(publisher)
            await asyncio.to_thread(servers[0].kill)
            for n in range(20):
                for call in calls:
                    publisher.publish(final(call, n))
            await until(lambda: 0 < publisher.stats().queued < 200)  # the living partitions go on
            await asyncio.to_thread(servers[0].start)
            await flush(publisher)
        seen: dict[str, list[int]] = {}
        async with asyncio.timeout(20):
            async for event in follow(url, partitions=6, from_start=True):
                seen.setdefault(event.call, []).append(event.seq)
                if sum(map(len, seen.values())) >= 12 * 21:
                    break
        assert seen == {call: list(range(1, 22)) for call in calls}
        assert [event.seq async for event in replay(url, "c3", partitions=6, wait=False)] == list(range(1, 22))
        async with asyncio.timeout(20), subscribe(url, group="g", consumer="a", partitions=6) as subscription:
            got = [await anext(subscription) for _ in range(12 * 21)]
        assert len({(event.call, event.seq) for event in got}) == 12 * 21


async def test_logs_hold_no_word_number_or_key(redis_server: RedisServer, tmp_path: Path) -> None:
    secrets = ("word 1", "+4930999", "+4930888", "pass-w0rd")
    with redis_server.client() as client:
        client.execute_command("ACL", "SETUSER", "bridge", "on", ">pass-w0rd", "~*", "+@all")
    url = f"redis://bridge:pass-w0rd@127.0.0.1:{redis_server.port}/0"
    with structlog.testing.capture_logs() as logs:
        async with publishing(url, tmp_path) as publisher:
            begun = events.call_started("c", clock.unix_ms(), ingress="sip", from_="+4930999", to="+4930888", legs=[])
            publisher.publish(begun)
            await flush(publisher)
            redis_server.kill()
            publisher.publish(final("c", 1))
            await until(lambda: bool(publisher.stats().last_error))
            await asyncio.to_thread(redis_server.start)  # empty: what was confirmed is sent again
            with redis_server.client() as client:
                client.execute_command("ACL", "SETUSER", "bridge", "on", ">pass-w0rd", "~*", "+@all")
            await flush(publisher)
        async with publishing(url, tmp_path) as publisher:
            await until(lambda: publisher.stats().counts.crashed_calls == 1)
    assert {"sink down", "sink up", "sink had lost events", "spool recovered", "crashed calls ended"} <= {
        entry["event"] for entry in logs
    }
    told = repr(logs)
    assert not [secret for secret in secrets if secret in told]


@pytest.mark.soak
async def test_chaos_at_redis_during_fifty_calls_loses_doubles_and_reorders_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)
    with RedisServer(appendonly="yes", appendfsync="always", maxmemory_policy="noeviction") as server:
        async with publishing(server, tmp_path) as publisher:
            counts = {f"c{n}": 0 for n in range(50)}
            is_over = False

            async def calls() -> None:
                for call in counts:
                    publisher.publish(started(call))
                    counts[call] += 1
                while not is_over:
                    for call in counts:
                        publisher.publish(final(call, counts[call]))
                        counts[call] += 1
                    await asyncio.sleep(0.05)
                for call in counts:
                    publisher.publish(ended(call))
                    counts[call] += 1

            async def chaos() -> None:
                nonlocal is_over
                for _ in range(20):
                    await asyncio.sleep(chance.uniform(0.2, 1.0))
                    kind = chance.choice(["kill", "pause", "fill", "cut"])
                    if kind == "kill":
                        await asyncio.to_thread(server.restart)
                    elif kind == "pause":
                        server.pause()
                        await asyncio.sleep(chance.uniform(0.1, 6.0))
                        server.resume()
                    else:
                        with server.client() as client:
                            if kind == "cut":
                                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                                continue
                            client.config_set("maxmemory", "500kb")
                            await asyncio.sleep(chance.uniform(0.1, 1.0))
                            client.config_set("maxmemory", "0")
                is_over = True

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(calls())
                tasks.create_task(chaos())
            await flush(publisher, 60)
            assert publisher.stats().counts.refused == 0
        check_streams(server, counts)


@pytest.mark.soak
async def test_a_master_that_dies_under_load_is_followed_to_its_replica_without_loss(tmp_path: Path) -> None:
    with RedisServer() as master, RedisServer() as replica:
        with replica.client() as client:
            client.replicaof("127.0.0.1", master.port)
            await until(lambda: client.info("replication").get("master_link_status") == "up")
        with Sentinel(master.port) as sentinel:
            async with publishing(f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster", tmp_path) as publisher:
                for n in range(20):
                    publisher.publish(started(f"c{n}"))
                for round_ in range(100):
                    for n in range(20):
                        publisher.publish(final(f"c{n}", round_))
                    if round_ == 50:
                        await asyncio.to_thread(master.kill)
                    await asyncio.sleep(0.01)
                await flush(publisher, 60)
        check_streams(replica, {f"c{n}": 101 for n in range(20)})


async def test_while_a_slow_disk_syncs_what_is_published_reaches_the_kernel_within_100_ms(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fdatasync

    def slow(fd: int) -> None:
        time.sleep(1.0)
        sync(fd)

    async with publishing(redis_server, tmp_path) as publisher:
        publisher.publish(started("c"))
        await flush(publisher)
        monkeypatch.setattr(os, "fdatasync", slow)
        publisher.publish(final("c", 1))
        await asyncio.sleep(0.05)  # its sync is under way
        publisher.publish(final("c", 2))
        await asyncio.sleep(0.1)
        on_disk = await asyncio.to_thread(events_on_disk, tmp_path)
        assert {("c", 2), ("c", 3)} <= on_disk.keys()
        assert publisher.stats().counts.confirmed == 1, "sent is only what a power cut would not take"
        monkeypatch.undo()
        publisher.publish(ended("c"))
        await flush(publisher)
    check_streams(redis_server, {"c": 4})


async def test_what_waits_in_segments_that_somebody_deletes_is_written_ahead_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    redis_server.pause()
    async with publishing(redis_server, tmp_path) as publisher:
        publisher.publish(started("c"))
        await until(lambda: publisher.stats().accepted == 1)
        await asyncio.to_thread(shutil.rmtree, tmp_path)
        with structlog.testing.capture_logs() as logs:
            publisher.publish(final("c", 1))
            await until(lambda: publisher.stats().accepted == 2)
        told = [line["reason"] for line in logs if line["event"] == "spool failed"]
        assert told == ["a segment was deleted"]
        assert {("c", 1), ("c", 2)} <= (await asyncio.to_thread(events_on_disk, tmp_path)).keys()
        with pytest.raises(ConfigError, match="in use"):
            await Publisher(publisher._sink, instance="test", spool_path=str(tmp_path)).open()
        redis_server.resume()
        publisher.publish(ended("c"))
        await flush(publisher)
        assert publisher.stats().counts.refused == 0
    check_streams(redis_server, {"c": 3})


async def test_a_call_whose_key_somebody_has_taken_holds_up_no_other_and_is_healed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with redis_server.client() as client:
        client.set("callbridge:call:bad", "mine")
        async with publishing(redis_server, tmp_path) as publisher:
            with structlog.testing.capture_logs() as logs:
                publisher.publish(started("bad"))
                for n in range(400):  # more than a batch takes
                    publisher.publish(final("bad", n))
                for n in range(5):
                    publisher.publish(started(f"good{n}"))
                    publisher.publish(ended(f"good{n}"))
                await until(lambda: client.xlen("callbridge:events") == 10)
                await until(lambda: "WRONGTYPE" in publisher.stats().last_error)
                await asyncio.sleep(0.5)
            assert [line["call"] for line in logs if line["event"] == "sink refused call"] == ["bad"], "told once"
            client.delete("callbridge:call:bad")
            await flush(publisher)
    check_streams(redis_server, {"bad": 401} | {f"good{n}": 2 for n in range(5)})
