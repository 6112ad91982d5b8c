"""Real INVITE, ACK, re-INVITE and BYE over loopback UDP and TCP, against a Host that remembers."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from bridge.config import TrunkSettings
from bridge.errors import ConfigError
from bridge.ingress.sip import make_sip_ingress
from bridge.metrics import Metrics
from bridge.sip import sdp as sdp_model
from bridge.sip.auth import digest, digest_params
from bridge.sip.events import Body
from tests.ingress.sip_fakes import AUDIO, Answered, Client, Ended, FakeHost, Refused, port_of, sdp, served
from tests.ingress.sip_fakes import settings as make_settings
from tests.net.test_sip_transports import make_certificate


async def call(client: Client, ingress, transport: str = "udp", body: bytes | None = None, **kwargs) -> str:
    flow = await client.driver.connect(transport, "127.0.0.1", port_of(ingress, transport))
    content = Body(sdp(AUDIO)) if body is None else (Body(body) if body else None)
    dialog = client.endpoint.invite(
        "sip:queue@127.0.0.1",
        flow,
        client_now(),
        from_="sip:alice@example.com",
        body=content,
        **kwargs,
    )
    client.driver.pump()
    return dialog


def client_now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_plain_call_is_one_caller_leg_answered_and_ended(transport: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress, transport)
        answered = await client.wait_for(Answered)
        answer = sdp_model.parse(answered.response.body)
        assert answer.media[0].remote == ("127.0.0.1", 20000)
        assert [item.name for item in answer.media[0].audio_formats()] == ["PCMU", "PCMA", "TELEPHONE-EVENT"]
        assert answer.media[0].direction == "sendrecv"
        client.endpoint.hang_up(dialog, client_now())
        client.driver.pump()
        await client.wait_for(Ended)
    (made,) = host.calls
    assert made.offer.ingress == "sip"
    assert made.offer.from_ == "sip:alice@example.com"
    assert [leg.role for leg in made.legs] == ["caller"]
    assert made.legs[0].offer.media.telephone_events == {101: 8000}
    assert made.legs[0].offer.media.remote == ("127.0.0.1", 4000)
    assert len(made.answers) == 1
    assert made.reasons == ["hangup"]


async def reoffer(client: Client, dialog: str, body: bytes, n: int) -> bytes:
    client.endpoint.reinvite(dialog, Body(body), client_now())
    client.driver.pump()
    answered = await client.wait_for(Answered, Refused, n=n)
    assert isinstance(answered, Answered)
    return answered.response.body


@pytest.mark.parametrize("held", ["a=sendonly", "a=inactive", "a=recvonly", "c=IN IP4 0.0.0.0"])
async def test_every_hold_form_is_hold_until_resumed(held: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Answered)
        answer = await reoffer(client, dialog, sdp(f"{AUDIO}\r\n{held}", version=2), 2)
        leg = host.calls[0].legs[0]
        assert leg.on_hold
        expected = {"a=sendonly": "recvonly", "a=inactive": "inactive", "a=recvonly": "sendonly"}
        assert sdp_model.parse(answer).media[0].direction == expected.get(held, "sendrecv")
        await reoffer(client, dialog, sdp(AUDIO, version=3), 3)
        assert not leg.on_hold
    assert len(leg.media) == 2


async def test_hold_at_session_level_counts_too() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Answered)
        await reoffer(client, dialog, sdp(AUDIO, version=2, session=["a=inactive"]), 2)
        assert host.calls[0].legs[0].on_hold


async def test_a_refresh_with_the_same_version_changes_nothing() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        first = await client.wait_for(Answered)
        again = await reoffer(client, dialog, sdp(AUDIO), 2)
        assert again == first.response.body
        assert host.calls[0].legs[0].media == []


async def test_a_new_port_and_codec_reach_the_leg() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Answered)
        await reoffer(client, dialog, sdp("m=audio 5000 RTP/AVP 9 0", version=2), 2)
        (media,) = host.calls[0].legs[0].media
        assert media.remote == ("127.0.0.1", 5000)
        assert [item.codec.name for item in media.formats] == ["G722", "PCMU"]


async def test_an_offer_without_a_common_codec_is_refused_and_the_call_goes_on() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Answered)
        client.endpoint.reinvite(
            dialog, Body(sdp("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 X/8000", version=2)), client_now()
        )
        client.driver.pump()
        refused = await client.wait_for(Refused)
        assert (refused.status, refused.is_initial) == (488, False)
        assert host.calls[0].reasons == []
        assert host.calls[0].legs[0].media == []


@pytest.mark.parametrize(
    "stream",
    ["m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 X/8000", "m=video 4000 RTP/AVP 31", "m=audio 0 RTP/AVP 0", "m=audio x"],
)
async def test_what_cannot_be_answered_is_488(stream: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        await call(client, ingress, body=sdp(stream))
        refused = await client.wait_for(Refused)
        assert refused.status == 488
        assert refused.response.headers.get("Warning").startswith('399 callbridge "')
    assert host.calls == []


async def test_a_full_house_is_503_with_retry_after() -> None:
    host = FakeHost(room=0)
    async with served(host) as (ingress, client):
        await call(client, ingress)
        assert (await client.wait_for(Refused)).status == 503


async def test_other_mlines_are_rejected_in_place() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        offer = sdp("m=image 5000 udptl t38", AUDIO, "m=audio 4002 RTP/AVP 0", "m=video 4004/2 RTP/AVP 31")
        await call(client, ingress, body=offer)
        answered = await client.wait_for(Answered)
    media = sdp_model.parse(answered.response.body).media
    assert [(item.kind, item.port) for item in media] == [("image", 0), ("audio", 20000), ("audio", 0), ("video", 0)]


async def test_an_offerless_invite_gets_our_offer_and_learns_the_answer_from_the_ack() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        await call(client, ingress, body=b"")
        answered = await client.wait_for(Answered)
        offered = sdp_model.parse(answered.response.body)
        assert {"PCMU", "PCMA", "G722", "OPUS"} <= {item.name for item in offered.media[0].audio_formats()}
        # our own client has no answer to give: such a call is ended by the server, as RFC 3261 13.3.1.4 asks
        await client.wait_for(Ended)
        await client.until(lambda: bool(host.calls[0].reasons))
    assert host.calls[0].reasons == ["refused"]


async def test_the_service_hangs_up_with_a_bye() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        await call(client, ingress)
        await client.wait_for(Answered)
        await client.until(lambda: ingress.endpoint.n_transactions >= 0 and bool(host.calls[0].answers))
        host.calls[0].control.hang_up()
        assert (await client.wait_for(Ended)).reason == "bye"
        await ingress.close()
        assert ingress.endpoint.n_dialogs == 0


async def test_recvonly_is_answered_where_configured() -> None:
    host = FakeHost()
    host.trunk_settings = TrunkSettings(answer="recvonly")
    async with served(host) as (ingress, client):
        await call(client, ingress)
        answered = await client.wait_for(Answered)
    assert sdp_model.parse(answered.response.body).media[0].direction == "recvonly"


async def test_srtp_takes_the_supported_crypto_line_and_answers_its_tag_with_an_own_key() -> None:
    keys = [
        "a=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:" + "A" * 61,
        "a=crypto:3 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40,
    ]
    host = FakeHost()
    async with served(host) as (ingress, client):
        await call(client, ingress, body=sdp("\r\n".join(["m=audio 4000 RTP/SAVP 0", *keys])))
        answered = await client.wait_for(Answered)
    (line,) = sdp_model.parse(answered.response.body).media[0].crypto
    assert line.startswith("3 AES_CM_128_HMAC_SHA1_80 inline:")
    assert "A" * 40 not in line
    assert host.calls[0].legs[0].offer.media.srtp.key_and_salt == bytes(30)


async def test_a_second_source_above_its_rate_is_refused_while_calls_go_on() -> None:
    host = FakeHost()
    async with served(host, rate_per_source=2.0) as (ingress, client):
        dialogs = [await call(client, ingress) for _ in range(5)]
        await client.wait_for(Answered, Refused, n=5)
        refused = [event for event in client.events if isinstance(event, Refused)]
        assert [event.status for event in refused] == [503, 503, 503]
        await reoffer(client, dialogs[0], sdp(AUDIO, version=2), 6)


async def test_a_stranger_gets_no_answer_at_all() -> None:
    host = FakeHost()
    async with served(host, allow=("192.0.2.0/24",)) as (ingress, client):
        await call(client, ingress)
        await client.until(lambda: client.endpoint.deadline() is not None)
        assert client.events == []
    assert host.calls == []


async def test_every_address_that_cannot_be_bound_is_named() -> None:
    async with served(FakeHost()) as (ingress, _):
        taken = port_of(ingress, "tcp")
        listen = (f"tcp:127.0.0.1:{taken}", "udp:nowhere:5060", "sctp:127.0.0.1:1", "tls:127.0.0.1:0")
        with pytest.raises(ConfigError) as caught:
            await make_sip_ingress(make_settings(listen=listen), FakeHost()).open()
    assert len(caught.value.problems) == 4


async def test_with_users_a_call_needs_credentials_and_a_probe_does_not() -> None:
    host = FakeHost()
    async with served(host, users={"sbc": "s3cret"}) as (ingress, client):
        await call(client, ingress)
        refused = await client.wait_for(Refused)
        assert refused.status == 401
        params = digest_params(refused.response.headers.get("WWW-Authenticate"))
        uri = "sip:queue@127.0.0.1"
        answer = digest(
            "SHA-256", username="sbc", realm=params["realm"], password="s3cret", method="INVITE", uri=uri,
            nonce=params["nonce"], nc="00000001", cnonce="c", qop="auth",
        )  # fmt: skip
        line = (
            f'Digest username="sbc", realm="{params["realm"]}", nonce="{params["nonce"]}", uri="{uri}", qop=auth, '
            f'nc=00000001, cnonce="c", algorithm=SHA-256, response="{answer}"'
        )
        dialog = await call(client, ingress, headers=[("Authorization", line)])
        await client.wait_for(Answered)
        # within the call nothing is challenged any more
        client.endpoint.hang_up(dialog, client_now())
        client.driver.pump()
        await client.wait_for(Ended)
    assert len(host.calls) == 1


async def test_a_sips_call_over_tls_is_answered_with_a_sips_contact(tmp_path: Path) -> None:
    pem, key = make_certificate(tmp_path)
    trust = ssl.create_default_context(cafile=pem)
    trust.check_hostname = False
    host = FakeHost()
    async with served(host, listen=("tls:127.0.0.1:0",), certificate=pem, private_key=key) as (ingress, plain):
        client = Client(client_tls=trust)
        flow = await client.driver.connect("tls", "127.0.0.1", port_of(ingress, "tls"))
        dialog = client.endpoint.invite(
            "sips:queue@127.0.0.1", flow, client_now(), from_="sips:alice@example.com", body=Body(sdp(AUDIO))
        )
        client.driver.pump()
        answered = await client.wait_for(Answered)
        assert answered.response.headers.get("Contact").startswith("<sips:callbridge@127.0.0.1:")
        client.endpoint.hang_up(dialog, client_now())
        client.driver.pump()
        await client.wait_for(Ended)
        await client.driver.close()
        assert plain.events == []
    assert host.calls[0].reasons == ["hangup"]


async def test_require_100rel_is_met_by_answering_without_a_provisional_response() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        await call(client, ingress, headers=[("Require", "100rel")])
        await client.wait_for(Answered)
    assert [type(event) for event in client.events] == [Answered]


async def test_draining_refuses_new_calls_and_probes_while_running_calls_go_on() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        dialog = await call(client, ingress)
        await client.wait_for(Answered)
        host.is_accepting = False
        await call(client, ingress)
        assert (await client.wait_for(Refused)).response.headers.get("Retry-After") == "5"
        await reoffer(client, dialog, sdp(AUDIO, version=2), 3)
        client.endpoint.hang_up(dialog, client_now())
        client.driver.pump()
        await client.wait_for(Ended)


async def test_a_host_that_fails_costs_its_own_call_only() -> None:
    class BrokenHost(FakeHost):
        def open_call(self, offer, control, now):
            if offer.from_ == "sip:bad@example.com":
                raise ZeroDivisionError
            return super().open_call(offer, control, now)

    host = BrokenHost()
    async with served(host) as (ingress, client):
        flow = await client.driver.connect("udp", "127.0.0.1", port_of(ingress, "udp"))
        client.endpoint.invite(
            "sip:q@127.0.0.1", flow, client_now(), from_="sip:bad@example.com", body=Body(sdp(AUDIO))
        )
        client.driver.pump()
        assert (await client.wait_for(Refused)).status == 500
        await call(client, ingress)
        await client.wait_for(Answered)
        assert ingress.endpoint.n_dialogs == 1


async def test_the_two_invites_of_a_cisco_phone_are_one_call_that_lasts_as_long_as_one_of_them() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        flow = await client.driver.connect("udp", "127.0.0.1", port_of(ingress, "udp"))
        dialogs = []
        for end in ("x-nearend", "x-farend"):
            dialogs.append(
                client.endpoint.invite(
                    "sip:rec@127.0.0.1", flow, client_now(), from_=f"<sip:3001@192.0.2.1;{end};x-refci=2796>",
                    body=Body(sdp(AUDIO)),
                )
            )  # fmt: skip
            client.driver.pump()
        await client.wait_for(Answered, n=2)
        (made,) = host.calls
        assert [leg.role for leg in made.legs] == ["agent", "caller"]
        assert made.offer.correlation["cisco_refci"] == "2796"
        assert len(made.answers) == 1
        client.endpoint.hang_up(dialogs[0], client_now())
        client.driver.pump()
        await client.until(lambda: made.legs[0].is_over)
        assert made.reasons == []
        client.endpoint.hang_up(dialogs[1], client_now())
        client.driver.pump()
        await client.until(lambda: bool(made.reasons))
    assert made.reasons == ["hangup"]


async def test_the_service_hangs_up_both_dialogs_of_a_forked_call() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        flow = await client.driver.connect("udp", "127.0.0.1", port_of(ingress, "udp"))
        for end in ("x-nearend", "x-farend"):
            from_ = f"<sip:3001@192.0.2.1;{end};x-refci=2796>"
            client.endpoint.invite("sip:rec@127.0.0.1", flow, client_now(), from_=from_, body=Body(sdp(AUDIO)))
            client.driver.pump()
        await client.wait_for(Answered, n=2)
        await client.until(lambda: ingress.endpoint.n_dialogs == 2)
        await asyncio.sleep(0.02)  # the second ACK
        host.calls[0].control.hang_up()
        await client.wait_for(Ended, n=2)
        await client.until(lambda: ingress.endpoint.n_dialogs == 0)
        assert client.endpoint.n_dialogs == 0


async def test_requests_responses_and_strangers_are_counted() -> None:
    metrics = Metrics()
    host = FakeHost()
    async with served(host, metrics=metrics) as (ingress, client):
        await call(client, ingress)
        await client.wait_for(Answered)
        await client.until(lambda: metrics.sip_requests.value("ACK") == 1)
    assert metrics.sip_requests.value("INVITE") == 1
    assert metrics.sip_responses.value("INVITE", "200") == 1
    async with served(host, metrics=metrics, allow=()) as (ingress, client):
        await call(client, ingress)
        await client.until(lambda: metrics.sip_dropped.value("stranger") >= 1)


async def test_a_bug_in_one_message_or_timer_leaves_the_rest_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        await call(client, ingress, "tcp")
        await client.wait_for(Answered)

        def fail(*args: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr(ingress.endpoint, "receive", fail)
            patch.setattr(ingress.endpoint, "handle_timer", fail)
            client.endpoint.hang_up(client.events[0].dialog, client_now())
            client.driver.pump()
            ingress.driver._on_timer()
            await asyncio.sleep(0.02)
        again = await call(client, ingress, "tcp")
        await client.wait_for(Answered, n=2)
        assert again in {event.dialog for event in client.events}


def test_what_can_never_work_is_told_at_once_and_whole() -> None:
    wrong = make_settings(answer="sendonly", allow=("10.0.0.0/8", "nonsense", "1.2.3.4/99"), certificate="/nowhere.pem")
    with pytest.raises(ConfigError) as caught:
        make_sip_ingress(wrong, FakeHost())
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "sip.answer", "sip.allow", "sip.allow", "sip.certificate",
    ]  # fmt: skip


async def test_a_bye_finds_its_way_when_the_peer_has_closed_its_idle_connection() -> None:
    host = FakeHost()
    async with served(host) as (ingress, client):
        await client.driver.open(["tcp:127.0.0.1:0"])
        flow = await client.driver.connect("tcp", "127.0.0.1", port_of(ingress, "tcp"))
        # an SBC's Contact names the port it listens on, not the one it called from
        listening = flow._replace(local=("127.0.0.1", client.driver.bound[0].port))
        client.endpoint.invite("sip:q@127.0.0.1", listening, client_now(), from_="sip:a@b", body=Body(sdp(AUDIO)))
        client.driver.pump()
        await client.wait_for(Answered)
        await client.until(lambda: ingress.endpoint.deadline() is not None and len(ingress.driver._streams) == 1)
        await asyncio.sleep(0.02)  # its ACK
        for stream in list(client.driver._streams.values()):
            stream.close()
        await client.until(lambda: not ingress.driver._streams)
        host.calls[0].control.hang_up()
        assert (await client.wait_for(Ended)).reason == "bye"
        await client.until(lambda: ingress.endpoint.n_dialogs == 0)
