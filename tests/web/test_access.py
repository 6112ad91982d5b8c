from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.web.access import MAX_SOURCES, SourceLimit, is_local_name, is_same_origin, is_token_right
from tests.web.conftest import Serve, Site

TOKEN = {"Authorization": "Bearer s3cret"}


async def test_with_tokens_everything_but_health_the_page_and_preflight_needs_one(serve: Serve) -> None:
    async with serve(tokens=("other", "s3cret")) as site:
        api = ("/v1/calls", "/v1/events", "/v1/calls/one/events", "/metrics", "/openapi.json", "/whip", "/nowhere")
        for path in api:
            async with site.client.get(site.url + path) as response:
                assert response.status == 401, path
                assert response.headers["WWW-Authenticate"].startswith("Bearer")
                assert response.content_type == "application/problem+json"
        for path in ("/healthz", "/readyz", "/", "/console/config.json"):
            assert (await site.ask("GET", path))[0] == 200, path
        assert (await site.ask("OPTIONS", "/v1/calls"))[0] == 204
        assert (await site.ask("GET", "/v1/calls", headers=TOKEN))[0] == 200
        assert (await site.ask("DELETE", "/v1/calls/one"))[0] == 401
        assert "one" in site.calls.live


async def test_guessing_tokens_is_slowed_down_while_the_right_one_still_works(serve: Serve) -> None:
    async with serve(tokens=("s3cret",)) as site:
        wrong = {"Authorization": "Bearer wrong"}
        statuses = [(await site.ask("GET", "/v1/calls", headers=wrong))[0] for _ in range(14)]
        assert statuses[:10] == [401] * 10
        assert statuses[-1] == 429
        assert (await site.ask("GET", "/v1/calls", headers=TOKEN))[0] == 200


@pytest.mark.parametrize("header", ["", "Bearer", "Basic s3cret", "Bearer s3cre", "Bearer s3crett", "s3cret"])
def test_only_the_whole_token_under_the_bearer_scheme_is_right(header: str) -> None:
    assert not is_token_right(header, ["s3cret"])
    assert is_token_right("bearer s3cret", ["x", "s3cret"])


@given(st.text(max_size=40))
def test_no_header_text_breaks_the_comparison(header: str) -> None:
    assert is_token_right(f"Bearer {header}", ["s3cret"]) == (header.strip() == "s3cret")


async def test_a_preflight_allows_any_origin_only_where_a_token_protects(serve: Serve) -> None:
    ask = {"Origin": "https://desk.example", "Access-Control-Request-Method": "POST"}
    async with serve(tokens=("s3cret",)) as site:
        async with site.client.options(site.url + "/v1/calls/one/legs/a/hold", headers=ask) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "POST" in response.headers["Access-Control-Allow-Methods"]
            assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()
        async with site.client.get(site.url + "/v1/calls", headers=TOKEN | ask) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "Location" in response.headers["Access-Control-Expose-Headers"]
    async with serve() as site, site.client.options(site.url + "/v1/calls", headers=ask) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_without_tokens_a_foreign_page_in_the_operators_browser_gets_nowhere(site: Site) -> None:
    assert (await site.ask("DELETE", "/v1/calls/one", headers={"Origin": "https://evil.example"}))[0] == 403
    assert (await site.ask("GET", "/v1/calls", headers={"Host": "evil.example:8080"}))[0] == 421
    assert (await site.ask("GET", "/v1/calls", headers={"Origin": site.url}))[0] == 200
    assert "one" in site.calls.live


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("127.0.0.1:80", True),
        ("[::1]:80", True),
        ("localhost", True),
        ("a.localhost:1", True),
        ("evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_local_names_are_addresses_and_localhost(host: str, is_local: bool) -> None:
    assert is_local_name(host) is is_local


def test_an_origin_is_the_same_when_host_and_port_are() -> None:
    assert is_same_origin("", "h:1")
    assert is_same_origin("http://h:1", "h:1")
    assert not is_same_origin("http://h:2", "h:1")
    assert not is_same_origin("null", "h:1")


def test_a_source_gets_its_burst_and_then_its_rate() -> None:
    limit = SourceLimit(rate=2.0, burst=3.0)
    assert [limit.admit("1.2.3.4", 0.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert limit.admit("1.2.3.5", 0.0) == 0.0
    assert limit.admit("1.2.3.4", 0.5) == 0.0
    assert limit.admit("1.2.3.4", 0.5) > 0.0


def test_an_ipv6_subscriber_is_one_source_whatever_address_it_takes() -> None:
    limit = SourceLimit(rate=1.0, burst=1.0)
    assert limit.admit("2001:db8::1", 0.0) == 0.0
    assert limit.admit("2001:db8::2", 0.0) > 0.0
    assert limit.admit("2001:db8:0:1::1", 0.0) == 0.0
    assert limit.admit("::ffff:10.0.0.1", 0.0) == 0.0
    assert limit.admit("::ffff:10.0.0.2", 0.0) == 0.0


def test_a_flood_of_sources_does_not_grow_memory() -> None:
    limit = SourceLimit(rate=1.0, burst=1.0)
    for n in range(MAX_SOURCES + 50):
        limit.admit(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 0.0)
    assert len(limit._buckets) == MAX_SOURCES


async def test_new_calls_are_limited_per_source_and_requests_about_running_ones_never(site: Site) -> None:
    statuses = [(await site.ask("POST", "/v1/calls", json={"legs": [{}]}))[0] for _ in range(120)]
    assert statuses[0] == 201
    assert statuses[-1] == 429
    offer = {"data": "v=0\r\nm=audio", "headers": {"Content-Type": "application/sdp"}}
    assert (await site.ask("POST", "/whip", **offer))[0] == 429
    assert (await site.ask("POST", "/v1/calls/one/legs/a/hold"))[0] == 204
    assert (await site.ask("DELETE", "/v1/calls/one"))[0] == 204
