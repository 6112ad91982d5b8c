from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError, PeerError
from bridge.web.api import call_wish
from bridge.web.contract import VERBS
from tests.web.conftest import Serve, Site


async def test_what_is_going_on_is_listed_and_one_call_can_be_asked_for(site: Site) -> None:
    status, body = await site.ask("GET", "/v1/calls")
    assert status == 200
    assert [call["id"] for call in body["calls"]] == ["one", "two"]
    status, body = await site.ask("GET", "/v1/calls/two")
    assert (status, body["id"]) == (200, "two")


async def test_every_verb_reaches_its_leg_and_may_be_repeated(site: Site) -> None:
    for verb in (*VERBS, *VERBS):
        assert await site.ask("POST", f"/v1/calls/one/legs/a/{verb}") == (204, "")
    assert site.calls.done == [("one", "a", verb) for verb in (*VERBS, *VERBS)]


async def test_a_legs_gate_settings_are_changed_in_part(site: Site) -> None:
    wish = {"mode": "hold", "music": False, "turn_end_ms": 1200}
    assert await site.ask("PATCH", "/v1/calls/one/legs/a", json=wish) == (204, "")
    assert site.calls.done == [("one", "a", wish)]
    assert (await site.ask("PATCH", "/v1/calls/one/legs/z", json=wish))[0] == 404
    assert (await site.ask("PATCH", "/v1/calls/none/legs/a", json={}))[0] == 404


@pytest.mark.parametrize(
    "wish", [[], {"mode": 1}, {"music": 1}, {"hangover_ms": "500"}, {"hangover_ms": 10**30}, {"preroll_ms": None},
             {"preroll_ms": -1}, {"hangover_ms": 99}, {"turn_end_ms": True}, {"chunk_ms": 20}],
)  # fmt: skip
async def test_wrong_gate_settings_are_a_400_problem_and_change_nothing(site: Site, wish: object) -> None:
    status, body = await site.ask("PATCH", "/v1/calls/one/legs/a", json=wish)
    assert (status, body["status"]) == (400, 400)
    assert site.calls.done == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/calls/none"),
        ("DELETE", "/v1/calls/none"),
        ("POST", "/v1/calls/none/legs/a/hold"),
        ("POST", "/v1/calls/one/legs/z/hold"),
        ("POST", "/v1/calls/one/legs/a/explode"),
        ("GET", "/v1/calls/none/events"),
        ("GET", "/nowhere"),
    ],
)
async def test_what_does_not_exist_is_a_404_problem(site: Site, method: str, path: str) -> None:
    async with site.client.request(method, site.url + path) as response:
        assert response.status == 404
        assert response.content_type == "application/problem+json"
        assert (await response.json(content_type=None))["status"] == 404


async def test_a_wrong_method_is_a_405_problem_that_names_the_right_ones(site: Site) -> None:
    async with site.client.put(site.url + "/v1/calls") as response:
        assert response.status == 405
        assert {"GET", "POST"} <= set(response.headers["Allow"].split(","))
        assert response.content_type == "application/problem+json"


async def test_deleting_a_call_ends_it_and_again_finds_nothing(site: Site) -> None:
    assert (await site.ask("DELETE", "/v1/calls/one"))[0] == 204
    assert (await site.ask("DELETE", "/v1/calls/one"))[0] == 404


async def test_external_media_gets_ids_and_a_port_and_a_location(site: Site) -> None:
    wish = {"legs": [{"role": "caller", "codec": "pcmu"}, {"role": "agent", "codecs": ["PCMA", "PCMU"]}], "to": "+1"}
    async with site.client.post(site.url + "/v1/calls", json=wish) as response:
        assert (response.status, response.headers["Location"]) == (201, "/v1/calls/new")
        assert (await response.json())["legs"][0]["port"] == 20000
    assert [leg.codecs for leg in site.external.wishes[0].legs] == [("PCMU",), ("PCMA", "PCMU")]


async def test_a_full_service_refuses_external_media_and_says_when_to_come_back(site: Site) -> None:
    site.external.is_full = True
    async with site.client.post(site.url + "/v1/calls", json={"legs": [{}]}) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "7")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"legs":[]}', b'{"legs":[{"codec":7}]}', b'{"legs":[{"x":1}]}', b'{"legs":[{"codec":"MP3"}]}',
     b'{"legs":[{"remote":{"address":"h"}}]}', b'{"legs":[{"remote":{"address":"a.example","port":4000}}]}',
     b"\xff\xfe", b"[" * 100_000],
)  # fmt: skip
async def test_a_body_that_cannot_be_taken_is_a_400_problem(site: Site, body: bytes) -> None:
    status, said = await site.ask("POST", "/v1/calls", data=body)
    assert (status, said["status"]) == (400, 400)
    assert said["detail"]


async def test_a_body_beyond_the_limit_is_a_413_problem(site: Site) -> None:
    status, said = await site.ask("POST", "/v1/calls", data=b" " * 200_000)
    assert (status, said["status"]) == (413, 413)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["legs", "codec", "codecs", "role", "remote", "address", "port", "payload_type", "from"]), inner
    ),
)  # fmt: skip


@given(json_values)
def test_no_body_raises_anything_but_peer_error(value: object) -> None:
    import json

    try:
        wish = call_wish(json.dumps(value).encode())
    except PeerError:
        return
    assert 1 <= len(wish.legs) <= 16


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_peer_error(body: bytes) -> None:
    with pytest.raises(PeerError):
        call_wish(body)


async def test_ready_names_what_is_missing_while_alive_stays_true(site: Site) -> None:
    assert (await site.ask("GET", "/readyz"))[0] == 200
    site.calls.state["is_draining"] = True
    status, body = await site.ask("GET", "/readyz")
    assert (status, body["checks"]["not_draining"], body["checks"]["sip_bound"]) == (503, False, True)
    assert (await site.ask("GET", "/healthz"))[0] == 200


async def test_metrics_count_requests_by_route_and_never_by_id(site: Site) -> None:
    for call in ("none-1", "none-2", "none-3"):
        await site.ask("GET", f"/v1/calls/{call}")
    _, text = await site.ask("GET", "/metrics")
    assert 'callbridge_http_requests_total{method="GET",route="/v1/calls/{call}",status="404"} 3.0' in text
    assert "none-1" not in text


async def test_ended_calls_come_from_the_store_without_the_live_ones(site: Site) -> None:
    from bridge.publish.events import Event
    from tests.web.conftest import published

    site.calls.stored = [published(Event("call.started", call, 1), 1) for call in ("one", "old")]
    status, body = await site.ask("GET", "/v1/calls?state=ended")
    assert (status, [call["id"] for call in body["calls"]]) == (200, ["old"])
    site.calls.is_store_away = True
    assert (await site.ask("GET", "/v1/calls?state=ended"))[0] == 503
    assert (await site.ask("GET", "/v1/calls?state=ended&limit=0"))[0] == 400
    assert (await site.ask("GET", "/v1/calls?state=odd"))[0] == 400


async def test_a_bug_in_one_request_is_a_500_problem_and_the_next_is_served(site: Site) -> None:
    site.calls.status = lambda: 1 / 0  # type: ignore[assignment, return-value]
    status, said = await site.ask("GET", "/v1/status")
    assert (status, said["status"]) == (500, 500)
    assert "division" not in str(said)
    assert (await site.ask("GET", "/v1/calls"))[0] == 200


async def test_a_port_in_use_and_a_bad_address_are_configuration_errors(site: Site, serve: Serve) -> None:
    with pytest.raises(ConfigError, match=r"http\.listen"):
        async with serve(listen=f"127.0.0.1:{site.server.address[1]}"):
            pass
    for listen in ("127.0.0.1", "127.0.0.1:99999", ":x", ""):
        with pytest.raises(ConfigError, match=r"http\.listen"):
            async with serve(listen=listen):
                pass
    with pytest.raises(ConfigError, match=r"http\.certificate"):
        async with serve(certificate="/nonexistent.pem"):
            pass


async def test_closing_ends_open_event_streams_at_once(serve: Serve) -> None:
    async with serve() as site:
        response = await site.client.get(site.url + "/v1/events")
        await site.server.close()
        async with asyncio.timeout(5):
            assert (await response.read()).startswith(b"retry:")
