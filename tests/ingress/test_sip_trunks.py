"""How a trunk is answered: what `[sip]` and a route say of codecs, SRTP, timers and what comes before the answer; and
that a reload is in force for the next call."""

from __future__ import annotations

import asyncio

import pytest

from bridge.config import TrunkSettings
from bridge.ingress.sip_call import SipCall
from bridge.rtp.sdes import format_crypto
from bridge.rtp.srtp import SUITES
from bridge.sip import sdp as sdp_model
from bridge.sip.events import Progress
from tests.ingress.sip_fakes import Answered, Ended, FakeHost, Refused, port_of, sdp, served, settings
from tests.ingress.test_sip import call, client_now
from tests.ingress.test_sip_call import request
from tests.ingress.test_siprec import FLOW
from tests.wire import sipp

KEY = "inline:" + "A" * 40


def host_with(**trunk: object) -> FakeHost:
    host = FakeHost()
    host.trunk_settings = TrunkSettings(**trunk)  # type: ignore[arg-type]
    return host


async def test_a_trunk_that_wants_to_hear_it_ring_is_answered_after_that() -> None:
    host = host_with(progress="180", ring_ms=150)
    async with served(host) as (ingress, client):
        began = client_now()
        await call(client, ingress)
        progress = await client.wait_for(Progress)
        assert (progress.response.status, progress.response.body) == (180, b"")
        assert host.calls[0].answers == []
        await client.wait_for(Answered)
        assert 0.15 <= host.calls[0].answers[0] - began < 2.0


async def test_a_call_that_we_end_while_it_rings_is_refused_and_forgotten() -> None:
    host = host_with(progress="180", ring_ms=60_000)
    async with served(host) as (ingress, client):
        await call(client, ingress)
        await client.wait_for(Progress)
        (ringing,) = ingress._calls.values()
        ringing.hang_up()
        assert (await client.wait_for(Refused)).status == 480
        assert ingress._calls == {}
        assert host.calls[0].answers == []


async def test_early_media_has_the_answer_that_the_200_has() -> None:
    host = host_with(progress="183")
    async with served(host) as (ingress, client):
        await call(client, ingress)
        progress, answered = await client.wait_for(Progress), await client.wait_for(Answered)
        assert progress.response.status == 183
        assert progress.response.body == answered.response.body != b""


async def test_an_offerless_invite_is_answered_without_ringing() -> None:
    host = host_with(progress="183", ring_ms=60_000)
    async with served(host) as (ingress, client):
        await call(client, ingress, body=b"")
        await client.wait_for(Answered)
        assert not any(isinstance(event, Progress) for event in client.events)


async def test_a_call_that_is_cancelled_while_it_rings_is_cancelled_and_never_answered() -> None:
    host = host_with(progress="180", ring_ms=60_000)
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Progress)
        client.endpoint.hang_up(dialog, client_now())
        client.driver.pump()
        await client.wait_for(Ended)
        await client.until(lambda: bool(host.calls[0].reasons))
        assert (host.calls[0].reasons, host.calls[0].answers) == (["cancelled"], [])
        assert ingress.endpoint.n_dialogs == 0


@pytest.mark.skipif(sipp.SIPP is None, reason="sipp is not installed")
@pytest.mark.parametrize("transport", ["u1", "t1"])
async def test_sipp_acknowledges_early_media_and_changes_it_before_the_answer(transport: str) -> None:
    host = host_with(progress="183", ring_ms=300)
    async with served(host) as (ingress, client):
        await sipp.run("early", port_of(ingress, "udp" if transport == "u1" else "tcp"), transport=transport)
        await client.until(lambda: bool(host.calls[0].reasons))
    assert host.calls[0].reasons == ["hangup"]
    assert host.calls[0].legs[0].media[-1].remote == ("127.0.0.1", 6002)


async def test_codecs_are_taken_in_the_trunks_order_and_no_others() -> None:
    host = host_with(codecs=("pcma", "G722"))
    async with served(host) as (ingress, client):
        await call(client, ingress, body=sdp("m=audio 4000 RTP/AVP 0 9 8 101\r\na=rtpmap:101 telephone-event/8000"))
        answered = await client.wait_for(Answered)
        names = [item.name for item in sdp_model.parse(answered.response.body).media[0].audio_formats()]
        assert names == ["PCMA", "G722", "TELEPHONE-EVENT"]
        await call(client, ingress, body=sdp("m=audio 4000 RTP/AVP 0"))
        assert (await client.wait_for(Refused)).status == 488
        await call(client, ingress, body=b"")
        offered = await client.wait_for(Answered, n=2)
        names = [item.name for item in sdp_model.parse(offered.response.body).media[0].audio_formats()]
        assert names[:2] == ["PCMA", "G722"]
        assert "PCMU" not in names


async def test_where_srtp_is_required_plain_rtp_is_refused_and_our_own_offer_is_secure() -> None:
    host = host_with(srtp="required")
    async with served(host) as (ingress, client):
        await call(client, ingress)
        assert (await client.wait_for(Refused)).status == 488
        await call(client, ingress, body=b"")
        answered = await client.wait_for(Answered)
        (media,) = sdp_model.parse(answered.response.body).media
        assert media.proto == "RTP/SAVP"
        assert media.crypto[0].split()[1] in SUITES


def test_the_answer_to_our_secure_offer_brings_their_key_and_leaves_ours() -> None:
    host = host_with(srtp="required")
    made = SipCall("dialog1", request(b""), FLOW, settings(), hang_up=lambda dialog: None)
    ours = sdp_model.parse(made.open(host, 0.0).content).media[0].crypto[0]  # type: ignore[arg-type]
    theirs = sdp(f"m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 {KEY}")
    assert made.answered_by_ack(request(theirs, method="ACK"), 0.0)
    media = host.calls[0].legs[0].media[-1]
    assert media.srtp is not None
    assert media.srtp_own is not None
    assert format_crypto(1, media.srtp).endswith(KEY)
    assert format_crypto(1, media.srtp_own) == ours


async def test_a_trunk_has_its_own_session_timer() -> None:
    host = host_with(session_expires_s=300)
    async with served(host) as (ingress, client):
        await call(client, ingress)
        answered = await client.wait_for(Answered)
        assert answered.response.headers.get("Session-Expires") == "300;refresher=uas"


async def test_after_a_reload_who_is_off_the_list_gets_no_answer_but_its_running_calls_do() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Answered)
        ingress.reload(settings(allow=("192.0.2.0/24",)))
        await call(client, ingress)
        await asyncio.sleep(0.2)
        assert len(host.calls) == 1
        client.endpoint.hang_up(dialog, client_now())
        client.driver.pump()
        await client.wait_for(Ended)
        assert host.calls[0].reasons == ["hangup"]
        ingress.reload(settings(allow=("127.0.0.1",)))
        await call(client, ingress)
        await client.wait_for(Answered, n=3)  # the one that was not answered is repeated, and answered now


async def test_after_a_reload_users_are_asked_for() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        ingress.reload(settings(users={"sbc": "secret"}))
        await call(client, ingress)
        assert (await client.wait_for(Refused)).status == 401
        ingress.reload(settings())
        await call(client, ingress)
        await client.wait_for(Answered)
