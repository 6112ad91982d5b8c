from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError, SinkError
from bridge.net.redis_link import Address, Link
from tests.redis_server import RedisServer, free_port


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
        Address.parse(url)
    except ConfigError:
        pass


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
