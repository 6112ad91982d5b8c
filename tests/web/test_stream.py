from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from bridge.publish.events import CALL_ENDED, TRANSCRIPT_FINAL, TRANSCRIPT_INTERIM, Event
from bridge.web import stream
from bridge.web.feed import QueueFeed
from bridge.web.stream import as_sse
from tests.web.conftest import Site, published


def event(seq: int, *, call: str = "one", kind: str = TRANSCRIPT_FINAL, text: str = "hello") -> Any:
    return published(Event(kind, call, 1_000_000 + seq, leg="a", role="caller", text=text, start=1.0, end=1.5), seq)


async def messages(response: aiohttp.ClientResponse, n: int) -> list[tuple[str, str, dict[str, Any]]]:
    """The next `n` messages: id, type, data."""
    found: list[tuple[str, str, dict[str, Any]]] = []
    fields: dict[str, str] = {}
    async with asyncio.timeout(5):
        while len(found) < n:
            line = (await response.content.readline()).decode().rstrip("\n")
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
            elif "data" in fields:
                found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
                fields = {}
            elif response.content.at_eof():
                return found
    return found


async def until_subscribed(site: Site, n: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(site.calls.feeds) < n:  # noqa: ASYNC110 - nothing tells when the server got to it
            await asyncio.sleep(0.005)


async def test_a_listener_gets_what_is_stored_and_then_what_happens_with_seq_as_id(site: Site) -> None:
    site.calls.stored = [event(1), event(2)]
    async with site.client.get(site.url + "/v1/calls/one/events") as response:
        assert response.content_type == "text/event-stream"
        assert [seq for seq, _, _ in await messages(response, 2)] == ["1", "2"]
        site.calls.happen(event(3, text="ö\n<b>"))
        ((seq, kind, body),) = await messages(response, 1)
    assert (seq, kind, body["text"], body["start"]) == ("3", TRANSCRIPT_FINAL, "ö\n<b>", 1.0)


async def test_a_listener_that_comes_back_gets_each_missed_event_once(site: Site) -> None:
    site.calls.stored = [event(n) for n in (1, 2, 3, 4)]
    headers = {"Last-Event-ID": "2"}
    async with site.client.get(site.url + "/v1/calls/one/events", headers=headers) as response:
        await until_subscribed(site)
        site.calls.happen(event(4), is_stored=False)
        site.calls.happen(event(5))
        assert [seq for seq, _, _ in await messages(response, 3)] == ["3", "4", "5"]


async def test_events_that_the_store_did_not_hold_yet_are_fetched_before_the_live_one(site: Site) -> None:
    site.calls.stored = [event(1)]
    async with site.client.get(site.url + "/v1/calls/one/events") as response:
        await messages(response, 1)
        site.calls.happen(event(4), is_stored=False)
        site.calls.stored += [event(2), event(3), event(4)]
        assert [seq for seq, _, _ in await messages(response, 3)] == ["2", "3", "4"]


async def test_a_finished_call_is_told_from_the_store_and_the_stream_ends(site: Site) -> None:
    site.calls.stored = [event(1, call="old"), event(2, call="old", kind=CALL_ENDED)]
    async with site.client.get(site.url + "/v1/calls/old/events") as response, asyncio.timeout(5):
        body = (await response.read()).decode()
    assert body.count("data: ") == 2


async def test_the_stream_of_a_live_call_ends_with_the_call(site: Site) -> None:
    async with site.client.get(site.url + "/v1/calls/one/events") as response:
        await until_subscribed(site)
        site.calls.happen(event(1, kind=CALL_ENDED))
        assert [kind for _, kind, _ in await messages(response, 2)] == [CALL_ENDED]
    assert len(site.calls.feeds) == 0


async def test_without_its_store_a_live_call_is_still_followed_and_a_finished_one_is_a_503(site: Site) -> None:
    site.calls.is_store_away = True
    assert (await site.ask("GET", "/v1/calls/old/events"))[0] == 503
    async with site.client.get(site.url + "/v1/calls/one/events?from=now") as response:
        await until_subscribed(site)
        site.calls.happen(event(7), is_stored=False)
        assert [seq for seq, _, _ in await messages(response, 1)] == ["7"]


async def test_interims_can_be_left_out(site: Site) -> None:
    async with site.client.get(site.url + "/v1/calls/one/events?interim=0") as response:
        await until_subscribed(site)
        site.calls.happen(event(1, kind=TRANSCRIPT_INTERIM))
        site.calls.happen(event(2))
        assert [seq for seq, _, _ in await messages(response, 1)] == ["2"]


@pytest.mark.parametrize(
    "asked", ["/v1/events?interim=false", "/v1/calls/one/events?interim=no", "/v1/calls/one/events?follow="]
)
async def test_a_switch_that_is_neither_on_nor_off_is_a_400_and_not_taken_for_on(site: Site, asked: str) -> None:
    assert (await site.ask("GET", asked))[0] == 400


def test_times_have_three_decimals_live_as_in_the_store() -> None:
    made = Event(
        TRANSCRIPT_FINAL, "one", 0, leg="a", role="caller", text="hi", start=0.4533260613448802, end=2.13132606
    )
    told = json.loads(as_sse(published(made, 1), "1").decode().partition("data: ")[2])
    assert (told["start"], told["end"]) == (0.453, 2.131)


async def test_all_calls_stream_live_and_resume_by_time(site: Site) -> None:
    site.calls.stored = [event(1), event(1, call="two"), event(2)]
    async with site.client.get(site.url + "/v1/events", headers={"Last-Event-ID": "1000002"}) as response:
        assert [body["seq"] for _, _, body in await messages(response, 1)] == [2]
        site.calls.happen(event(2, call="two"))
        ((event_id, _, body),) = await messages(response, 1)
        assert (event_id, body["call"]) == ("1000002", "two")


@pytest.mark.parametrize("path", ["/v1/events", "/v1/calls/one/events"])
async def test_a_last_event_id_that_is_none_of_ours_is_a_400(site: Site, path: str) -> None:
    assert (await site.ask("GET", path, headers={"Last-Event-ID": "12-x"}))[0] == 400


async def test_an_idle_stream_is_kept_alive_by_comments(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT", 0.01)
    async with site.client.get(site.url + "/v1/events") as response, asyncio.timeout(5):
        lines = [await response.content.readline() for _ in range(6)]
    assert sum(line.startswith(b":") for line in lines) >= 2


async def test_open_streams_are_counted_and_a_leaving_listener_is_forgotten(site: Site) -> None:
    response = await site.client.get(site.url + "/v1/events")
    await until_subscribed(site)
    assert "callbridge_sse_subscribers 1.0" in (await site.ask("GET", "/metrics"))[1]
    response.close()
    async with asyncio.timeout(5):
        while len(site.calls.feeds):
            site.calls.happen(event(1))
            await asyncio.sleep(0.01)


def test_a_slow_listener_loses_interims_first_then_the_oldest_and_knows_how_many() -> None:
    feed = QueueFeed("", lambda _: None, limit=3)
    for seq, kind in enumerate((TRANSCRIPT_FINAL, TRANSCRIPT_INTERIM, TRANSCRIPT_FINAL, TRANSCRIPT_FINAL), 1):
        feed.offer(event(seq, kind=kind))
    assert [queued.seq for queued in feed._queue] == [1, 3, 4]
    feed.offer(event(5))
    assert [queued.seq for queued in feed._queue] == [3, 4, 5]
    assert feed.dropped == 2


def test_a_message_is_one_block_whatever_the_text_holds() -> None:
    block = as_sse(event(1, text="a\r\n\r\nid: 9\u2028\ud800"), "1").decode()
    assert block.count("\n\n") == 1
    assert "\r" not in block
