from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.clock import monotonic
from bridge.errors import ConfigError, SinkError
from bridge.net.redis_link import Address, Link
from tests.redis_server import Pair, RedisServer, Sentinel, free_port


def test_a_plain_url_is_one_redis() -> None:
    address = Address.parse("rediss://u:p%40ss@[::1]:6390/3?ssl_ca_certs=/x.pem")
    options = address.options()
    assert (address.kind, options["host"], options["port"], options["db"]) == ("single", "::1", 6390, 3)
    assert (options["username"], options["password"], options["ssl_ca_certs"]) == ("u", "p@ss", "/x.pem")


def test_a_sentinel_url_names_its_nodes_the_master_and_the_database() -> None:
    address = Address.parse(
        "redis+sentinel://u:p@a,b:26380,[::1]:26381/mymaster/2?sentinel_password=s&socket_keepalive=1"
    )
    assert address.nodes == (("a", 26379), ("b", 26380), ("::1", 26381))
    assert (address.kind, address.service, address.sentinel_options) == ("sentinel", "mymaster", {"password": "s"})
    options = address.options()
    assert (options["username"], options["password"], options["db"]) == ("u", "p", 2)


def test_a_cluster_url_names_its_nodes_and_tls() -> None:
    address = Address.parse("rediss+cluster://:p@a:7000,b:7001")
    assert (address.kind, address.nodes) == ("cluster", (("a", 7000), ("b", 7001)))
    assert address.options()["connection_class"].__name__ == "SSLConnection"
    assert address.options()["password"] == "p"


@given(st.text() | st.from_regex(r"rediss?(\+sentinel|\+cluster)?://[^ ]*"))
def test_any_url_is_an_address_or_a_configuration_error(url: str) -> None:
    try:
        address = Address.parse(url)
    except ConfigError:
        return
    assert bool(address.nodes) is (address.kind != "single")


async def test_a_redis_that_answers_nothing_is_given_up_at_the_deadline(redis_server: RedisServer) -> None:
    link = Link(Address.parse(redis_server.url), "k")
    assert await link.ask(("PING",)) == [b"PONG"]
    assert link.generation == 1
    redis_server.pause()
    with pytest.raises(SinkError, match="no answer in time"):
        await link.ask(("PING",), timeout=0.1)
    redis_server.resume()
    assert not link.is_open
    assert await link.ask(("ECHO", "new"), ("ECHO", "answers")) == [b"new", b"answers"]
    assert link.generation == 2
    await link.close()


async def test_an_answer_that_was_cancelled_is_never_taken_for_anothers(redis_server: RedisServer) -> None:
    link = Link(Address.parse(redis_server.url), "k")
    await link.open()
    redis_server.pause()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await link.ask(("ECHO", "old"))
    redis_server.resume()
    assert await link.ask(("ECHO", "mine")) == [b"mine"]
    await link.close()


async def test_sentinels_that_are_all_gone_are_told(redis_server: RedisServer) -> None:
    link = Link(Address.parse(f"redis+sentinel://127.0.0.1:{free_port()}/mymaster"), "k")
    with pytest.raises(SinkError):
        await link.open()


@contextlib.contextmanager
def silent_nodes(n: int) -> Iterator[list[int]]:
    """Ports where the kernel takes connections and nobody ever answers: hosts that were stopped or cut off."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        yield [listener.getsockname()[1] for listener in listeners]


async def opened(link: Link, *, attempts: int) -> int:
    """On which attempt it was."""
    for attempt in range(1, attempts + 1):
        with contextlib.suppress(SinkError):
            await link.open()
            return attempt
    raise AssertionError(f"not open after {attempts} attempts")


async def test_silent_nodes_at_the_head_of_the_list_keep_nobody_from_the_one_that_answers(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.net.redis_link.CONNECT_S", 0.6)  # a third for each node
    with silent_nodes(4) as ports, Sentinel(redis_server.port) as sentinel:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (*ports, sentinel.port))
        link = Link(Address.parse(f"redis+sentinel://{hosts}/mymaster"), "k")
        assert await opened(link, attempts=3) > 1
        assert await link.ask(("PING",)) == [b"PONG"]
        await link.close()


async def test_a_sentinel_that_lives_in_the_past_is_not_asked_for_ever(redis_server: RedisServer) -> None:
    async def past(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            n = data.count(b"*")
            answer = b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%s\r\n" % (len(dead), dead)
            writer.write(answer if b"SENTINEL" in data else b"+OK\r\n" * n)
        writer.close()

    dead = str(free_port()).encode()
    async with await asyncio.start_server(past, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with Sentinel(redis_server.port) as sentinel:
            link = Link(Address.parse(f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{sentinel.port}/mymaster"), "k")
            assert await opened(link, attempts=3) == 2
            await link.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6380/2?socket_keepalive=1", "redis://host:6380/2"),
        ("rediss://:secret@[::1]", "rediss://[::1]:6379/0"),
        ("unix://user:secret@/run/redis.sock", "Redis at /run/redis.sock"),
        ("redis+sentinel://u:secret@a,b:1/main?sentinel_password=secret", "Redis sentinel a:26379, b:1, master main"),
        ("rediss+cluster://u:secret@a,b", "Redis cluster a:6379, b:6379"),
    ],
)
def test_where_it_is_can_be_shown_without_secrets(url: str, shown: str) -> None:
    assert Address.parse(url).shown == shown


async def test_a_master_that_was_replaced_while_it_stood_still_is_left_though_it_takes_writes_again() -> None:
    with Pair() as pair:
        link = Link(Address.parse(pair.url), "k")
        await link.open()
        await link.follow_master()
        old = pair.master
        old.pause()
        await asyncio.to_thread(pair.wait_for_failover, old)
        old.resume()
        assert await link.ask(("SET", "k", "lost soon")) == [b"OK"], "it does not know yet"
        with pytest.raises(SinkError, match="another master"):
            await link.follow_master()
        await link.open()
        assert await link.ask(("GET", "k")) == [None]
        await link.follow_master()
        await link.close()


async def test_a_sentinel_that_does_not_answer_holds_up_writes_once_and_not_every_time_the_master_is_looked_for(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.net.redis_link.CONNECT_S", 0.9)  # a third for each node
    with silent_nodes(1) as ports, Sentinel(redis_server.port) as sentinel:
        url = f"redis+sentinel://127.0.0.1:{ports[0]},127.0.0.1:{sentinel.port}/mymaster"
        link = Link(Address.parse(url), "k")
        await link.open()
        began = monotonic()
        for _ in range(10):
            await link.follow_master()
        assert monotonic() - began < 0.5, "0.3 s for each time that it is asked"
        assert link.is_open
        await link.close()
