"""An option that is unknown or cannot be read is refused, never ignored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.errors import PeerError
from bridge.web.api import call_wish
from tests.web.conftest import Site

VERB = "/v1/calls/one/legs/a/pause"


@pytest.mark.parametrize(
    ("method", "target", "named"),
    [
        ("GET", "/v1/calls?limit=abc", "limit"),
        ("GET", "/v1/calls?limit=0", "limit"),
        ("GET", "/v1/calls?limit=501", "limit"),
        ("GET", "/v1/calls?limit=", "limit"),
        ("GET", "/v1/calls?limit=%D9%A3", "limit"),
        ("GET", "/v1/calls?state=ended&limit=-1", "limit"),
        ("GET", "/v1/calls?state=odd", "state"),
        ("GET", "/v1/calls?state=live&state=ended", "state"),
        ("GET", "/v1/calls?stat=ended", "stat"),
        ("HEAD", "/v1/calls?stat=ended", ""),
        ("GET", "/v1/calls/one?format=text", "format"),
        ("GET", "/v1/status?x=1", "x"),
        ("GET", "/v1/events?from=start", "from"),
        ("GET", "/v1/events?after=yesterday", "after"),
        ("GET", "/v1/calls/one/events?after=1&after=2", "after"),
        ("GET", "/v1/calls/one/events?from=end", "from"),
        ("GET", "/v1/calls/one/events?interims=0", "interims"),
        ("POST", VERB + "?seconds=10", "seconds"),
        ("DELETE", "/v1/calls/one?reason=fraud", "reason"),
        ("POST", "/v1/calls?role=agent", "role"),
        ("POST", "/whip?role=a%20b", "role"),
        ("POST", "/whip?rol=agent", "rol"),
    ],
)
async def test_a_query_that_would_be_ignored_is_a_400_problem_that_names_it(
    site: Site, method: str, target: str, named: str
) -> None:
    before = site.calls.done[:]
    status, body = await site.ask(method, target)
    assert status == 400
    assert method == "HEAD" or named in body["detail"]
    assert site.calls.done == before


async def test_what_probes_and_scrapers_add_is_their_affair(site: Site) -> None:
    for path in ("/healthz?x=1", "/metrics?name[]=up", "/readyz?verbose"):
        assert (await site.ask("GET", path))[0] in (200, 503)


async def test_a_limit_holds_for_the_calls_that_go_on_as_well(site: Site) -> None:
    (every,) = [body["calls"] for _, body in [await site.ask("GET", "/v1/calls")]]
    assert len(every) >= 1
    assert (await site.ask("GET", "/v1/calls?limit=1"))[1]["calls"] == every[-1:]


@pytest.mark.parametrize("body", [b'{"seconds": 10}', b"10", b"[1]"])
async def test_a_body_that_nobody_reads_is_a_400_problem_and_nothing_is_done(site: Site, body: bytes) -> None:
    before = site.calls.done[:]
    assert (await site.ask("POST", VERB, data=body))[0] == 400
    assert (await site.ask("DELETE", "/v1/calls/one", data=body))[0] == 400
    assert site.calls.done == before
    assert "one" in site.calls.live


async def test_a_body_that_says_nothing_is_none(site: Site) -> None:
    assert (await site.ask("POST", VERB, data=b"{}"))[0] == 204
    assert (await site.ask("POST", VERB, data=b" "))[0] == 204


@pytest.mark.parametrize(
    "wish",
    [
        {"legs": [{}], "correlation": {f"k{n}": "" for n in range(17)}},
        {"legs": [{}], "correlation": {"k" * 65: ""}},
        {"legs": [{"codec": "PCMU", "codecs": ["PCMA"]}]},
    ],
)
def test_nothing_of_a_call_that_is_asked_for_is_left_out_silently(wish: dict[str, Any]) -> None:
    with pytest.raises(PeerError):
        call_wish(json.dumps(wish).encode())
