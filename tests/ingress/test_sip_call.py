"""One plain call's media through its offers, without a socket."""

from __future__ import annotations

import pytest

from bridge.config import TrunkSettings
from bridge.errors import CapacityError, SdpError
from bridge.ingress.contract import LegOffer
from bridge.ingress.sip_call import SipCall
from bridge.sip import sdp as sdp_model
from bridge.sip.events import Body
from bridge.sip.message import Request
from tests.ingress.sip_fakes import AUDIO, FakeCall, FakeHost, FakeLeg, sdp, settings
from tests.ingress.test_siprec import BOTH, FLOW, METADATA_TYPE, SDP_TYPE, multipart, offer, stream
from tests.ingress.test_siprec import request as any_request


def request(body: bytes, **kwargs: object) -> Request:
    return any_request(body, content_type=SDP_TYPE, require="", **kwargs)  # type: ignore[arg-type]


def opened(body: bytes) -> tuple[SipCall, FakeCall, Body]:
    host = FakeHost()
    call = SipCall("dialog1", request(body), FLOW, settings(), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    answer = call.open(host, 0.0)  # type: ignore[arg-type]
    return call, host.calls[0], answer


def media_of(body: Body | None) -> sdp_model.Media:
    assert body is not None
    return sdp_model.parse(body.content).media[0]


def test_an_offerless_reinvite_gets_our_wish_even_during_hold_and_the_ack_decides() -> None:
    call, made, _ = opened(sdp(AUDIO))
    leg = made.legs[0]
    call.reoffered(request(sdp(f"{AUDIO}\r\na=inactive", version=2), cseq=2), 1.0)
    assert leg.on_hold
    ours = media_of(call.reoffered(request(b"", cseq=3), 2.0))
    assert ours.direction == "sendrecv"
    assert ours.port == 20000
    assert call.is_offered_by_us
    # music on hold comes from another server: CUCM's way to hold and resume
    ack = request(sdp("m=audio 7000 RTP/AVP 0", version=3, address="192.0.2.77"), method="ACK", cseq=3)
    assert call.answered_by_ack(ack, 3.0)
    assert not leg.on_hold
    assert leg.media[-1].remote == ("192.0.2.77", 7000)


def test_a_leg_knows_whether_the_peer_was_told_that_we_send() -> None:
    call, made, answer = opened(sdp(AUDIO))
    leg = made.legs[0]
    assert (media_of(answer).direction, leg.sent[-1]) == ("sendrecv", True)
    for n, (direction, answered, sends) in enumerate(
        [("sendonly", "recvonly", False), ("sendrecv", "sendrecv", True), ("inactive", "inactive", False)], 2
    ):
        body = call.reoffered(request(sdp(f"{AUDIO}\r\na={direction}", version=n), cseq=n), float(n))
        assert (media_of(body).direction, leg.sent[-1]) == (answered, sends)


def test_nothing_is_sent_to_the_null_address_whatever_the_direction_says() -> None:
    """RFC 3264 section 8.4, and the answer's direction follows the a= line all the same (RFC 6337 section 5.4)."""
    call, made, _ = opened(sdp(AUDIO))
    leg = made.legs[0]
    held = call.reoffered(request(sdp(AUDIO, version=2, address="0.0.0.0"), cseq=2), 1.0)
    assert (media_of(held).direction, leg.sent[-1], leg.on_hold) == ("sendrecv", False, True)
    call.reoffered(request(b"", cseq=3), 2.0)
    ack = request(sdp(AUDIO, version=3, address="0.0.0.0"), method="ACK", cseq=3)
    assert call.answered_by_ack(ack, 3.0)
    assert not leg.sent[-1]
    call.reoffered(request(sdp(AUDIO, version=4), cseq=4), 4.0)
    assert (leg.sent[-1], leg.on_hold) == (True, False)


def test_where_we_offered_the_ack_decides_whether_we_send() -> None:
    call, made, _ = opened(b"")
    assert made.legs[0].sent[-1]
    assert call.answered_by_ack(request(sdp(f"{AUDIO}\r\na=sendonly"), method="ACK"), 1.0)
    assert not made.legs[0].sent[-1]


@pytest.mark.parametrize("body", [b"", b"rubbish", sdp(), sdp("m=audio 7000 RTP/AVP 96")])
def test_an_ack_without_a_usable_answer_is_told(body: bytes) -> None:
    call, _, _ = opened(b"")
    assert not call.answered_by_ack(request(body, method="ACK"), 1.0)


def test_an_update_without_a_body_changes_nothing() -> None:
    call, made, _ = opened(sdp(AUDIO))
    assert call.reoffered(request(b"", method="UPDATE", cseq=2), 1.0) is None
    assert made.legs[0].holds == []


def test_a_second_audio_stream_of_a_plain_call_stays_rejected() -> None:
    call, made, _ = opened(sdp(AUDIO))
    body = call.reoffered(request(sdp(AUDIO, "m=audio 4002 RTP/AVP 0", version=2), cseq=2), 1.0)
    assert body is not None
    assert [media.port for media in sdp_model.parse(body.content).media] == [20000, 0]
    assert len(made.legs) == 1


def test_a_plain_call_that_is_fed_sendonly_from_the_start_is_not_on_hold() -> None:
    call, made, answer = opened(sdp(f"{AUDIO}\r\na=sendonly"))
    assert media_of(answer).direction == "recvonly"
    assert not made.legs[0].on_hold
    call.reoffered(request(sdp(f"{AUDIO}\r\na=sendonly", version=2), cseq=2), 1.0)
    assert not made.legs[0].on_hold


def test_a_call_may_begin_on_hold() -> None:
    _, made, _ = opened(sdp(f"{AUDIO}\r\na=inactive"))
    assert made.legs[0].on_hold


@pytest.mark.parametrize(("ptime", "answered"), [("20", 20), ("60", 60), ("200", None), ("x", None)])
def test_the_packet_time_is_answered_where_it_is_one_we_would_use(ptime: str, answered: int | None) -> None:
    _, _, answer = opened(sdp(f"{AUDIO}\r\na=ptime:{ptime}"))
    assert media_of(answer).ptime_ms == answered


def test_a_key_of_ours_is_kept_through_offers_of_the_same_suite_and_never_the_peers() -> None:
    def secure(suite: str, key: str, version: int) -> bytes:
        return sdp(f"m=audio 4000 RTP/SAVP 0\r\na=crypto:7 {suite} inline:{key}", version=version)

    call, made, first = opened(secure("AES_CM_128_HMAC_SHA1_80", "A" * 40, 1))
    again = call.reoffered(request(secure("AES_CM_128_HMAC_SHA1_80", "B" * 40, 2), cseq=2), 1.0)
    other = call.reoffered(request(secure("AES_CM_128_HMAC_SHA1_32", "C" * 40, 3), cseq=3), 2.0)
    lines = [media_of(body).crypto[0] for body in (first, again, other)]
    assert lines[0] == lines[1]
    assert lines[2].startswith("7 AES_CM_128_HMAC_SHA1_32 inline:")
    assert lines[2] != lines[1]
    assert [media.srtp.key_and_salt[:1] for media in made.legs[0].media] == [b"\x04", b"\x08"]


def test_srtp_without_a_suite_of_ours_is_refused() -> None:
    with pytest.raises(SdpError):
        opened(sdp("m=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:" + "A" * 61))


def test_a_stream_that_finds_no_room_is_rejected_and_the_call_goes_on() -> None:
    class FullCall(FakeCall):
        def add_leg(self, offer: LegOffer, now: float) -> FakeLeg:
            raise CapacityError("full")

    class FullHost(FakeHost):
        def open_call(self, offer, control, now):
            made = super().open_call(offer, control, now)
            self.calls[-1] = FullCall(made.id, made.offer, made.control, made.legs)
            return self.calls[-1]

    host = FullHost()
    first = any_request(multipart((SDP_TYPE, offer(stream(1))), (METADATA_TYPE, BOTH)))
    call = SipCall("d1", first, FLOW, settings(), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    call.open(host, 0.0)
    body = call.reoffered(any_request(multipart((SDP_TYPE, offer(stream(1), stream(2), version=2))), cseq=2), 1.0)
    assert [media.port for media in sdp_model.parse(body.content).media] == [20000, 0]
    assert len(host.calls[0].legs) == 1


def test_an_offerless_call_answered_sendonly_from_the_start_is_fed_to_us_and_not_held() -> None:
    # Cisco's built-in bridge: both INVITEs without SDP, and the phone's answer in the ACK only sends
    call, made, _ = opened(b"")
    assert call.answered_by_ack(request(sdp(f"{AUDIO}\r\na=sendonly"), method="ACK"), 1.0)
    assert not made.legs[0].on_hold
    call.reoffered(request(sdp(f"{AUDIO}\r\na=inactive", version=2), cseq=2), 2.0)
    assert made.legs[0].on_hold
    call.reoffered(request(sdp(f"{AUDIO}\r\na=sendonly", version=3), cseq=3), 3.0)
    assert not made.legs[0].on_hold


def test_an_offerless_reinvite_answered_sendonly_in_a_call_that_was_not_is_hold() -> None:
    call, made, _ = opened(b"")
    assert call.answered_by_ack(request(sdp(AUDIO), method="ACK"), 1.0)
    call.reoffered(request(b"", cseq=2), 2.0)
    assert call.answered_by_ack(request(sdp(f"{AUDIO}\r\na=sendonly", version=2), method="ACK", cseq=2), 3.0)
    assert made.legs[0].on_hold


def test_a_plain_call_that_goes_on_to_another_m_line_keeps_its_leg() -> None:
    """RFC 3264 section 8.2: the first is not used any more, one was added in the same offer."""
    call, made, _ = opened(sdp(AUDIO))
    moved = sdp("m=audio 0 RTP/AVP 0", "m=audio 7002 RTP/AVP 8", version=2, address="192.0.2.5")
    body = call.reoffered(request(moved, cseq=2), 1.0)
    assert body is not None
    assert [media.port for media in sdp_model.parse(body.content).media] == [0, 20000]
    (leg,) = made.legs
    assert not leg.on_hold
    assert (leg.media[-1].remote, leg.media[-1].formats[0].codec.name) == (("192.0.2.5", 7002), "PCMA")
    back = sdp(AUDIO, "m=audio 0 RTP/AVP 8", version=3)
    body = call.reoffered(request(back, cseq=3), 2.0)
    assert body is not None
    assert [media.port for media in sdp_model.parse(body.content).media] == [20000, 0]
    assert leg.media[-1].remote == ("127.0.0.1", 4000)


def test_our_offer_within_a_call_has_every_codec_again_and_rejected_lines_of_their_kind() -> None:
    """CUCM asks for one when it connects music on hold, which may have another codec (RFC 6337 section 5.2.5)."""
    call, made, _ = opened(sdp("m=image 4002 udptl t38", "m=audio 4000 RTP/AVP 18"))
    body = call.reoffered(request(b"", cseq=2), 1.0)
    assert body is not None
    image, audio = sdp_model.parse(body.content).media
    assert (image.kind, image.port, image.proto, image.formats) == ("image", 0, "udptl", ["t38"])
    names = [item.name for item in audio.audio_formats()]
    assert names[0] == "G729"
    assert {"PCMU", "PCMA", "G722", "TELEPHONE-EVENT"} < set(names)
    assert len({item.payload_type for item in audio.audio_formats()}) == len(names)
    ack = sdp("m=image 0 udptl t38", "m=audio 7000 RTP/AVP 0", version=2)
    assert call.answered_by_ack(request(ack, method="ACK", cseq=2), 2.0)
    assert made.legs[0].media[-1].formats[0].codec.name == "PCMU"


def test_keys_under_a_plain_profile_are_taken_only_where_plain_rtp_would_be_refused() -> None:
    """RFC 8643: an offer of both."""
    both = sdp("m=audio 4000 RTP/AVP 0\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40)
    _, made, answer = opened(both)
    assert (media_of(answer).crypto, made.legs[0].offer.media.srtp) == ([], None)
    host = FakeHost()
    host.trunk_settings = TrunkSettings(srtp="required")
    call = SipCall("d1", request(both), FLOW, settings(), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    answered = media_of(call.open(host, 0.0))  # type: ignore[arg-type]
    assert answered.proto == "RTP/AVP"
    assert answered.crypto[0].startswith("2 AES_CM_128_HMAC_SHA1_80 inline:")
    assert host.calls[0].legs[0].offer.media.srtp.key_and_salt == bytes(30)


def test_a_crypto_line_with_what_we_do_not_serve_is_passed_over_for_the_next() -> None:
    key = "AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40
    lines = [f"a=crypto:1 {key} KDR=4", f"a=crypto:2 {key} UNENCRYPTED_SRTP", f"a=crypto:3 {key}|2^20|1:4"]
    _, made, answer = opened(sdp("\r\n".join(["m=audio 4000 RTP/SAVP 0", *lines])))
    assert media_of(answer).crypto[0].startswith("3 AES_CM_128_HMAC_SHA1_80 inline:")
    assert made.legs[0].offer.media.srtp.mki == b"\0\0\0\1"


def test_g722_that_states_another_clock_is_answered_as_it_was_offered() -> None:
    _, made, answer = opened(sdp("m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 G722/16000"))
    (item,) = media_of(answer).audio_formats()
    assert (item.payload_type, item.name, item.clock_hz) == (96, "G722", 16000)
    assert made.legs[0].offer.media.formats[0].codec.sample_rate_hz == 16000


def test_a_key_that_is_told_by_info_is_the_first_legs() -> None:
    call, made, _ = opened(sdp(AUDIO))
    for kind, body in (("application/dtmf-relay", b"Signal=#\r\nDuration=120"), ("text/plain", b"5")):
        call.informed(any_request(body, method="INFO", content_type=kind, require=""), 1.0)
    assert made.legs[0].keys == [("#", 120)]
