"""SIPp, a SIP stack by others, places the calls: signalling over loopback, against a Host that remembers."""

from __future__ import annotations

import asyncio

import pytest

from tests.ingress.sip_fakes import FakeHost, port_of, served
from tests.wire import sipp

pytestmark = pytest.mark.skipif(sipp.SIPP is None, reason="sipp is not installed")


async def settled(host: FakeHost, n: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(host.calls) < n or not all(call.reasons for call in host.calls):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("transport", ["u1", "t1"])
@pytest.mark.parametrize("scenario", ["basic", "hold", "update_hold", "offerless", "siprec"])
async def test_a_scenario_runs_to_its_end_and_leaves_nothing(scenario: str, transport: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, _):
        await sipp.run(scenario, port_of(ingress, "udp" if transport == "u1" else "tcp"), transport=transport)
        await settled(host)
        assert ingress.endpoint.n_dialogs == 0
    (call,) = host.calls
    assert call.reasons == ["hangup"]
    assert len(call.answers) == 1
    if scenario == "hold":
        assert call.legs[0].holds == [True, False, True, False]
    if scenario == "update_hold":
        assert call.legs[0].holds == [True, False]
    if scenario == "offerless":
        assert call.legs[0].media[0].remote == ("127.0.0.1", 6000)
    if scenario == "siprec":
        assert [(leg.role, leg.offer.participant) for leg in call.legs] == [
            ("caller", "sip:customer@example.com"),
            ("agent", "sip:agent@example.com"),
        ]
        assert [leg.holds for leg in call.legs] == [[True, False], [True, False]]


async def test_a_recording_client_that_sends_changes_only_is_asked_for_the_whole_once() -> None:
    host = FakeHost()
    async with served(host) as (ingress, _):
        await sipp.run("snapshot", port_of(ingress, "udp"))
        await settled(host)
        assert ingress.endpoint.n_dialogs == 0
    assert [leg.speakers for leg in host.calls[0].legs] == [
        [("caller", "sip:customer@example.com")],
        [("agent", "sip:agent@example.com")],
    ]


@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_a_peer_that_requires_100rel_is_answered_at_once(transport: str) -> None:
    # RFC 3262 section 3: only provisional responses are sent reliably, and we send none
    host = FakeHost()
    async with served(host) as (ingress, _):
        await sipp.run("prack", port_of(ingress, "udp" if transport == "u1" else "tcp"), transport=transport)
        await settled(host)
    assert [call.reasons for call in host.calls] == [["hangup"]]


@pytest.mark.parametrize("scenario", ["cancel", "resent"])
async def test_races_and_repeats_on_udp(scenario: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, _):
        await sipp.run(scenario, port_of(ingress, "udp"))
        await settled(host)
    assert [call.reasons for call in host.calls] == [["hangup"]]


async def test_the_answer_is_repeated_over_tcp_too_until_the_ack() -> None:
    # on UDP SIPp absorbs repeats itself and cannot tell of them
    host = FakeHost()
    async with served(host) as (ingress, _):
        await sipp.run("lost_ack", port_of(ingress, "tcp"), transport="t1")
        await settled(host)
    assert host.calls[0].reasons == ["hangup"]


@pytest.mark.parametrize("scenario", ["refused", "options"])
async def test_what_makes_no_call(scenario: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, _):
        await sipp.run(scenario, port_of(ingress, "udp"))
        assert ingress.endpoint.n_dialogs == 0
    assert host.calls == []


async def test_two_hundred_calls_at_a_hundred_a_second_leave_nothing() -> None:
    host = FakeHost()
    async with served(host, rate_per_source=1000.0) as (ingress, _):
        await sipp.run("basic", port_of(ingress, "udp"), calls=200, rate=100)
        await settled(host, 200)
        assert ingress.endpoint.n_dialogs == 0
    assert {tuple(call.reasons) for call in host.calls} == {("hangup",)}
