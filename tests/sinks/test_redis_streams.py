from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from bridge.clock import unix_ms
from bridge.config import RedisSettings
from bridge.errors import SinkError
from bridge.net.redis_link import Address
from bridge.publish.contract import Health, Part, Position
from bridge.sinks import redis_streams
from bridge.sinks.redis_streams import RedisStreams
from bridge.subscribe import replay
from tests.redis_server import RedisServer, Sentinel, cluster, free_port, wait_for_replicas
from tests.sinks.test_contract import AT_MS, part, record


@contextlib.asynccontextmanager
async def sink_to(server: RedisServer, **settings: object) -> AsyncIterator[RedisStreams]:
    sink = RedisStreams(RedisSettings(**({"url": server.url} | settings)))  # type: ignore[arg-type]
    try:
        yield sink
    finally:
        await sink.close()


async def test_entry_ids_carry_the_number_and_never_go_back_in_time(redis_server: RedisServer) -> None:
    async with sink_to(redis_server) as sink:
        times = (AT_MS, AT_MS + 5, AT_MS - 1000, AT_MS + 6)
        await sink.write(0, [Part("a", [record("a", n + 1, at_ms=at) for n, at in enumerate(times)], 1)])
    with redis_server.client() as client:
        ids = [entry for entry, _ in client.xrange("callbridge:call:a")]
    assert ids == [f"{AT_MS}-1", f"{AT_MS + 5}-2", f"{AT_MS + 5}-3", f"{AT_MS + 6}-4"]


async def test_a_duplicate_is_known_by_its_number_even_where_ids_moved(redis_server: RedisServer) -> None:
    """Somebody rewrote the stream with ids of his own."""
    async with sink_to(redis_server) as sink:
        await sink.write(0, [part("a", 1, 3)])
        with redis_server.client() as client:
            entries = client.xrange("callbridge:call:a")
            client.delete("callbridge:call:a")
            for n, (_, fields) in enumerate(entries):
                client.xadd("callbridge:call:a", fields, id=f"{AT_MS + 99_000}-{n + 70}")
        receipt = await sink.write(0, [part("a", 2, 4)])
        assert dict(receipt.held) == {"a": 4}
    with redis_server.client() as client:
        assert [fields["seq"] for _, fields in client.xrange("callbridge:call:a")] == ["1", "2", "3", "4"]
        assert client.xlen("callbridge:events") == 4


async def test_a_key_of_another_type_refuses_its_call_and_no_other(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.set("callbridge:call:bad", "x")
    async with sink_to(redis_server) as sink:
        receipt = await sink.write(0, [part("bad", 1, 2), part("good", 1, 2)])
    assert dict(receipt.held) == {"good": 2}
    assert "WRONGTYPE" in receipt.refused["bad"]


def both(server: RedisServer, call: str) -> tuple[list[int], list[int]]:
    """What the call's stream holds of it, and what the shared one does."""
    with server.client() as client:
        own = [int(fields["seq"]) for _, fields in client.xrange(f"callbridge:call:{call}")]
        shared = [int(fields["seq"]) for _, fields in client.xrange("callbridge:events") if fields["call"] == call]
        return own, shared


def young(call: str, first: int, last: int, *, floor: int = 1) -> Part:
    records = [record(call, seq, at_ms=unix_ms()) for seq in range(first, last + 1)]
    return Part(call, records, floor)


async def test_a_call_whose_stream_somebody_deletes_goes_on_in_both_and_nothing_is_published_twice(
    redis_server: RedisServer,
) -> None:
    async with sink_to(redis_server) as sink:
        await sink.write(0, [young("a", 1, 5)])
        with redis_server.client() as client:
            client.delete("callbridge:call:a")
        await sink.tend(0)
        assert (await sink.positions(0, ["a", "nobody"])) == {"a": Position(0, is_gone=True), "nobody": Position()}
        receipt = await sink.write(0, [young("a", 6, 7)])
        assert (dict(receipt.held), receipt.gaps) == ({"a": 7}, 0)
        assert (await sink.positions(0, ["a"]))["a"] == Position(7)
    assert both(redis_server, "a") == ([6, 7], [1, 2, 3, 4, 5, 6, 7])


async def test_a_call_whose_stream_somebody_replaces_waits_and_goes_on_in_both_once_that_is_gone(
    redis_server: RedisServer,
) -> None:
    async with sink_to(redis_server) as sink:
        await sink.write(0, [young("a", 1, 5)])
        with redis_server.client() as client:
            client.delete("callbridge:call:a")
            client.set("callbridge:call:a", "x")
            assert (await sink.write(0, [young("a", 6, 7)])).refused.keys() == {"a"}
            client.delete("callbridge:call:a")
        await sink.write(0, [young("a", 6, 8)])
    assert both(redis_server, "a") == ([6, 7, 8], [1, 2, 3, 4, 5, 6, 7, 8])


async def test_what_a_redis_has_lost_altogether_is_written_again_to_both(redis_server: RedisServer) -> None:
    async with sink_to(redis_server) as sink:
        await sink.write(0, [young("a", 1, 5)])
        with redis_server.client() as client:
            client.flushall()
        assert (await sink.positions(0, ["a"]))["a"] == Position()
        assert dict((await sink.write(0, [young("a", 6, 7, floor=3)])).held) == {"a": 0}
        await sink.write(0, [young("a", 3, 7, floor=3)])
    assert both(redis_server, "a") == ([3, 4, 5, 6, 7], [3, 4, 5, 6, 7])


async def test_a_call_expires_after_its_end_and_leaves_the_set(redis_server: RedisServer) -> None:
    async with sink_to(redis_server, call_ttl_s=1) as sink:
        await sink.write(0, [part("over", 1, 3, is_last=True), part("runs", 1, 2)])
        with redis_server.client() as client:
            assert client.zrange("callbridge:calls", 0, -1, withscores=True) == [("over", AT_MS), ("runs", AT_MS)]
            assert client.ttl("callbridge:call:over") == 1
            assert client.ttl("callbridge:call:runs") == -1
            client.delete("callbridge:call:over")  # as if the second had passed
            await sink.tend(0)
            assert client.zrange("callbridge:calls", 0, -1) == ["runs"]


async def fill(sink: RedisStreams, n: int, *, call: str = "a") -> None:
    for first in range(1, n + 1, 100):
        await sink.write(0, [part(call, first, min(first + 99, n))])


async def test_without_named_groups_the_stream_is_cut_at_about_maxlen(redis_server: RedisServer) -> None:
    async with sink_to(redis_server, maxlen=300) as sink:
        await fill(sink, 1000)
        health = await sink.tend(0)
    assert 300 <= health.length < 420
    assert health.overrun == 0


def read_as(server: RedisServer, group: str, n: int, *, ack: bool) -> None:
    with server.client() as client:
        with contextlib.suppress(Exception):
            client.xgroup_create("callbridge:events", group, id="0", mkstream=True)
        ((_, entries),) = client.xreadgroup(group, "x", {"callbridge:events": ">"}, count=n)
        if ack:
            client.xack("callbridge:events", group, *(entry for entry, _ in entries))


async def tend(sink: RedisStreams, times: int = 3) -> Health:
    for _ in range(times):
        health = await sink.tend(0)
    return health


async def test_trimming_never_takes_what_a_named_group_has_not_seen(redis_server: RedisServer) -> None:
    async with sink_to(redis_server, maxlen=300, groups=("billing", "quality")) as sink:
        await fill(sink, 1000)
        read_as(redis_server, "billing", 900, ack=True)
        read_as(redis_server, "quality", 200, ack=True)
        health = await tend(sink)
        assert (health.length, health.held_up_by, health.overrun) == (800, "quality", 0)
        assert health.lag == {"billing": 100, "quality": 800}
        read_as(redis_server, "quality", 600, ack=True)
        health = await tend(sink)
        assert (health.length, health.held_up_by) == (300, "")


async def test_what_was_given_but_not_acknowledged_is_kept_for_whoever_claims_it(redis_server: RedisServer) -> None:
    async with sink_to(redis_server, maxlen=100, groups=("billing",)) as sink:
        await fill(sink, 500)
        read_as(redis_server, "billing", 500, ack=False)
        health = await tend(sink)
        assert (health.length, health.held_up_by) == (500, "billing")


async def test_a_named_group_that_nobody_made_holds_the_stream_up_to_the_hard_limit_only(
    redis_server: RedisServer,
) -> None:
    async with sink_to(redis_server, maxlen=100, maxlen_hard=600, groups=("billing",)) as sink:
        await fill(sink, 500)
        health = await tend(sink)
        assert (health.length, health.held_up_by, health.overrun) == (500, "billing", 0)
        await fill(sink, 900, call="b")
        health = await tend(sink)
        assert 600 <= health.length <= 700
        assert health.overrun >= 700


async def test_a_redis_without_the_scripts_gets_them_again(redis_server: RedisServer) -> None:
    async with sink_to(redis_server) as sink:
        await sink.write(0, [part("a", 1, 1)])
        with redis_server.client() as client:
            client.script_flush()
        with pytest.raises(SinkError):
            await sink.write(0, [part("a", 2, 2)])
        assert dict((await sink.write(0, [part("a", 2, 2)])).held) == {"a": 2}


async def test_the_error_never_tells_the_password(tmp_path: Path) -> None:
    sink = RedisStreams(RedisSettings(url=f"redis://user:secret@127.0.0.1:{free_port()}/0"))
    with pytest.raises(SinkError) as caught:
        await sink.open(0)
    assert "secret" not in str(caught.value)


async def test_an_acl_user_with_few_rights_is_enough() -> None:
    rules = "on >pass ~callbridge:* +@connection +evalsha +script|load +xadd +xrevrange +xrange +xinfo +xlen +xtrim "
    rules += "+xpending +zadd +zrange +zrem +exists +type +expire +wait +info"
    with RedisServer() as server, server.client() as client:
        client.execute_command("ACL", "SETUSER", "bridge", *rules.split())
        client.execute_command("ACL", "SETUSER", "default", "off")
        url = f"redis://bridge:pass@127.0.0.1:{server.port}/0"
        async with sink_to(server, url=url, maxlen=1, groups=("g",)) as sink:
            assert dict((await sink.write(0, [part("a", 1, 3, is_last=True)])).held) == {"a": 3}
            assert (await sink.tend(0)).length == 3
            assert (await sink.positions(0, ["a"]))["a"].seq == 3


def make_certificate(path: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *(
                "-addext",
                "subjectAltName=IP:127.0.0.1",
                "-keyout",
                str(path / "key.pem"),
                "-out",
                str(path / "cert.pem"),
            ),
        ],
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
async def test_tls_is_spoken_where_the_url_says_so(tmp_path: Path) -> None:
    make_certificate(tmp_path)
    tls_port = free_port()
    options = {"tls_port": str(tls_port), "tls_auth_clients": "no"}
    options |= {"tls_cert_file": str(tmp_path / "cert.pem"), "tls_key_file": str(tmp_path / "key.pem")}
    options |= {"tls_ca_cert_file": str(tmp_path / "cert.pem")}
    with RedisServer(**options) as server:
        url = f"rediss://127.0.0.1:{tls_port}/0?ssl_ca_certs={tmp_path / 'cert.pem'}"
        async with sink_to(server, url=url) as sink:
            assert dict((await sink.write(0, [part("a", 1, 2)])).held) == {"a": 2}
        async with sink_to(server, url=f"rediss://127.0.0.1:{tls_port}/0") as sink:
            with pytest.raises(SinkError):
                await sink.open(0)  # nobody vouches for that certificate


async def test_sentinel_leads_to_the_master_and_after_a_failover_to_the_new_one(tmp_path: Path) -> None:
    with RedisServer() as old, RedisServer() as new:
        with new.client() as client:
            client.replicaof("127.0.0.1", old.port)
        with Sentinel(old.port) as sentinel:
            url = f"redis+sentinel://127.0.0.1:{sentinel.port}/mymaster"
            async with sink_to(old, url=url) as sink:
                await sink.write(0, [part("a", 1, 2)])
                await asyncio.to_thread(old.kill)
                deadline = asyncio.get_running_loop().time() + 25
                while True:
                    try:
                        receipt = await sink.write(0, [part("a", 1, 4)])
                        break
                    except SinkError:
                        assert asyncio.get_running_loop().time() < deadline
                        await asyncio.sleep(0.1)
                assert dict(receipt.held) == {"a": 4}
                async with asyncio.timeout(20):  # redis-py's sentinel client learns of it a moment later
                    reader = replay(url, "a")
                    assert [(await anext(reader)).seq for _ in range(4)] == [1, 2, 3, 4]
                    await reader.aclose()
        with new.client() as client:
            assert [fields["seq"] for _, fields in client.xrange("callbridge:events")] == ["1", "2", "3", "4"]


async def test_without_the_replica_that_there_was_nothing_counts_as_safe_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(redis_streams, "REPLICA_AWAY", 1.0)
    with RedisServer() as server, RedisServer() as replica, replica.client() as follower:
        async with sink_to(server) as sink:
            assert (await sink.write(0, [part("a", 1, 1)])).is_durable, "there never was one"
            follower.replicaof("127.0.0.1", str(server.port))
            wait_for_replicas([replica], time.monotonic() + 10)
            await sink.tend(0)
            await sink.write(0, [part("a", 2, 2)])
            async with asyncio.timeout(10):
                while not (await sink.tend(0)).is_durable:
                    pass
            replica.kill()
            await sink.tend(0)
            assert not (await sink.write(0, [part("a", 3, 3)])).is_durable
            assert not (await sink.tend(0)).is_durable
            await asyncio.sleep(1.1)
            assert (await sink.tend(0)).is_durable, "it is not coming back"
            assert (await sink.write(0, [part("a", 4, 4)])).is_durable


async def test_on_a_cluster_keys_are_tagged_and_each_partition_finds_its_node() -> None:
    with cluster(3) as servers:
        url = f"redis+cluster://127.0.0.1:{servers[0].port}"
        assert Address.parse(url).kind == "cluster"
        async with sink_to(servers[0], url=url, partitions=6) as sink:
            for n in range(24):
                call = f"c{n}"
                await sink.write(sink.partition(call), [part(call, 1, 3)])
            healths = [await sink.tend(partition) for partition in range(6)]
            assert sum(health.length for health in healths) == 72
            used = 0
            for server in servers:
                with server.client() as client:
                    keys = client.keys("*")
                    used += bool(keys)
                    assert all(key.startswith("{callbridge:") for key in keys)
            assert used >= 2
        async with sink_to(servers[0], url=url, partitions=1) as sink:
            await sink.write(0, [part("one", 1, 1)])
            assert sink.keys.call("one") == "{callbridge:0}:call:one"
        async with sink_to(servers[0], url=f"redis://127.0.0.1:{servers[0].port}") as sink:
            with pytest.raises(SinkError, match=r"redis\+cluster://"):
                await sink.positions(0, [f"c{n}" for n in range(24)])


WRITER = "~callbridge:* +@connection +evalsha +script|load +xadd +xrevrange +xrange +xinfo +xlen +xtrim +xpending "
WRITER += "+zadd +zrange +zrem +exists +type +expire"


@pytest.mark.parametrize("rights", ["", "+info -wait"])
async def test_a_user_who_may_not_ask_or_wait_for_replicas_writes_all_the_same(rights: str) -> None:
    with RedisServer() as server, RedisServer() as replica, server.client() as client, replica.client() as follower:
        follower.replicaof("127.0.0.1", str(server.port))
        wait_for_replicas([replica], time.monotonic() + 10)
        client.execute_command("ACL", "SETUSER", "poor", "on", ">pass", *WRITER.split(), *rights.split())
        url = f"redis://poor:pass@127.0.0.1:{server.port}/0"
        with structlog.testing.capture_logs() as logs:
            async with sink_to(server, url=url) as sink:
                await sink.open(0)
                assert dict((await sink.write(0, [part("a", 1, 3)])).held) == {"a": 3}
                generation = sink.generation(0)
                assert (await sink.tend(0)).length == 3
                assert dict((await sink.write(0, [part("a", 4, 5)])).held) == {"a": 5}
                assert sink.generation(0) == generation, "no connection is lost over it"
        assert [line["event"] for line in logs] == ["replicas unknown"]


async def test_calls_that_never_end_keep_no_expired_one_in_the_set(redis_server: RedisServer) -> None:
    async with sink_to(redis_server) as sink:
        with redis_server.client() as client:
            for n in range(120):  # their process died with its disk
                await sink.write(0, [part(f"lost{n}", 1, 1)])
            await sink.write(0, [part("expired", 1, 2, is_last=True)])
            client.delete("callbridge:call:expired")
            assert client.zcard("callbridge:calls") == 121
            for _ in range(3):
                await sink.tend(0)
            assert client.zscore("callbridge:calls", "expired") is None
            assert client.zcard("callbridge:calls") == 120


@pytest.mark.parametrize(
    "answer",
    [
        b"+OK\r\n",
        b":0\r\n",
        b":1\r\n",
        b"$-1\r\n",
        b"$3\r\nabc\r\n",
        b"*0\r\n",
        b"*1\r\n:9\r\n",
        b"HTTP/1.1 400\r\n\r\n",
    ],
)
@pytest.mark.parametrize("is_open_before", [False, True])
async def test_whatever_else_answers_is_a_sink_that_fails_and_confirms_nothing(
    redis_server: RedisServer, answer: bytes, is_open_before: bool
) -> None:
    """It took the whole service down: a proxy that answers for a Redis which is not there, another program's port."""
    is_there = is_open_before

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", redis_server.port)
        while data := await reader.read(65536):
            n = len(re.findall(rb"(?:^|\r\n)\*\d+\r\n", data))
            if not is_there:
                writer.write(answer * n)
                continue
            to_writer.write(data)
            await asyncio.sleep(0.02)
            writer.write(await to_reader.read(65536))
        to_writer.close()
        writer.close()

    async def fail_and_recover(sink: RedisStreams) -> None:
        nonlocal is_there
        if is_open_before:
            await sink.open(0)
        is_there = False
        for ask in (
            lambda: sink.write(0, [part("c", 1, 2)]),
            lambda: sink.positions(0, ["c"]),
            lambda: sink.tend(0),
        ):
            with pytest.raises(SinkError):
                await ask()
        is_there = True
        assert (await sink.write(0, [part("c", 1, 2)])).held == {"c": 2}

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    sink = RedisStreams(RedisSettings(url=f"redis://127.0.0.1:{port}/0"))
    try:
        await fail_and_recover(sink)
    finally:
        await sink.close()
        server.close()
        await asyncio.sleep(0.05)
