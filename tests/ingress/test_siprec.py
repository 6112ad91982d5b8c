"""Recording sessions: vendors' own offers, holds, transfers, streams that come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.errors import SdpError
from bridge.ingress.sip_call import SipCall
from bridge.sip import sdp as sdp_model
from bridge.sip.events import Answered, Body, Flow
from bridge.sip.message import Request, parse
from tests.ingress.sip_fakes import FakeCall, FakeHost, settings

OFFERS = Path(__file__).parents[3] / "shared/assets/siprec-offers"
FLOW = Flow("udp", ("192.0.2.9", 5060), ("192.0.2.8", 5060))
BOUNDARY = "unit-boundary"
SDP_TYPE = "application/sdp"
METADATA_TYPE = "application/rs-metadata+xml"


def request(
    body: bytes, *, method: str = "INVITE", content_type: str = "", cseq: int = 1, require: str = "siprec"
) -> Request:
    kind = content_type or f"multipart/mixed;boundary={BOUNDARY}"
    head = (
        f"{method} sip:srs@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK{cseq}\r\n"
        f"From: <sip:sbc@192.0.2.8>;tag=1\r\nTo: <sip:srs@192.0.2.9>\r\nCall-ID: c1\r\nCSeq: {cseq} {method}\r\n"
        f"Contact: <sip:sbc@192.0.2.8>\r\nX-Trunk: north\r\n{f'Require: {require}' if require else 'X-No: 1'}\r\n"
        f"{f'Content-Type: {kind}' if body else 'X-Nothing: 1'}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    message = parse(head.encode() + body)
    assert isinstance(message, Request)
    return message


def multipart(*parts: tuple[str, str]) -> bytes:
    text = "".join(f"--{BOUNDARY}\r\nContent-Type: {kind}\r\n\r\n{content}\r\n" for kind, content in parts)
    return f"{text}--{BOUNDARY}--\r\n".encode()


def offer(*streams: str, version: int = 1) -> str:
    lines = ["v=0", f"o=- 7 {version} IN IP4 192.0.2.8", "s=-", "c=IN IP4 192.0.2.8", "t=0 0", *streams]
    return "\r\n".join(lines) + "\r\n"


def stream(label: int, direction: str = "sendonly", port: int | None = None) -> str:
    number = 4000 + 2 * label if port is None else port
    return f"m=audio {number} RTP/AVP 0\r\na=label:{label}\r\na={direction}"


def metadata(
    *parties: tuple[str, list[str], list[str]], mode: str = "complete", labels: tuple[int, ...] = (1, 2)
) -> str:
    streams = "".join(f'<stream stream_id="s{n}" session_id="c"><label>{n}</label></stream>' for n in labels)
    people = "".join(
        f'<participant participant_id="{who}"><nameID aor="sip:{who}@x"/></participant>' for who, _, _ in parties
    )
    tied = "".join(
        f'<participantstreamassoc participant_id="{who}">'
        + "".join(f"<send>{s}</send>" for s in send)
        + "".join(f"<recv>{s}</recv>" for s in recv)
        + "</participantstreamassoc>"
        for who, send, recv in parties
    )
    return (
        f'<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>{mode}</datamode>'
        f'<session session_id="c"/>{tied}{people}{streams if mode == "complete" else ""}</recording>'
    )


BOTH = metadata(("ann", ["s1"], ["s2"]), ("bob", ["s2"], ["s1"]))


def opened(body: bytes, **sip: object) -> tuple[SipCall, FakeCall, sdp_model.Description]:
    host = FakeHost()
    call = SipCall("d1", request(body), FLOW, settings(**sip), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    answer = call.open(host, 0.0)  # type: ignore[arg-type]
    return call, host.calls[0], sdp_model.parse(answer.content)


def two_streams(**sip: object) -> tuple[SipCall, FakeCall, sdp_model.Description]:
    return opened(multipart((SDP_TYPE, offer(stream(1), stream(2))), (METADATA_TYPE, BOTH)), **sip)


Leg = tuple[str, str, bool]
VENDORS: dict[str, list[Leg]] = {
    "acme-siprec-offer": [("caller", "9000", False), ("agent", "1002", False)],
    "broadworks-offer": [("caller", "", False)],
    "broadworks-offer-2": [("caller", "sip:9878942259@212.188.68.145", False), ("agent", "sip:ASBCE@asbce.com", False)],
    "cisco-siprec-offer": [("caller", "sip:7301@35.162.237.204", False), ("agent", "7300", False)],
    "connectel-offer": [
        ("caller", "test_user;lang=en-US;id=22", False),
        ("agent", "sip:0760516936@sip-cust1.connectel.io", False),
    ],
    "connectel-offer2": [
        ("caller", "test_user;lang=en-US", False),
        ("agent", "sip:0760516936@sip-cust1.connectel.io", False),
    ],
    "connectel-offer3": [("caller", "test_user", False), ("agent", "sip:0760516936@sip-cust1.connectel.io", False)],
    "inactive-sdp-offer": [
        ("caller", "sip:0733165805@192.168.40.34", True),
        ("agent", "sip:+972546136443@192.168.10.140", True),
    ],
    "procomm-siprec-offer": [("caller", "016190200", False), ("agent", "Speechpath-Main-Line 016190619", False)],
    # the metadata ties the first stream to the second party
    "sonus-siprec-offer": [("caller", "2249888012@172.16.195.72", False), ("agent", "Extension 8500", False)],
}


@pytest.mark.skipif(not OFFERS.is_dir(), reason="the vendors' offers of drachtio are not at hand")
@pytest.mark.parametrize("name", sorted(VENDORS))
def test_a_vendors_offer_gives_the_right_legs(name: str) -> None:
    body = (OFFERS / f"{name}.txt").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    boundary = body.split(b"--", 1)[1].split(b"\r\n")[0].decode()
    message = request(body, content_type=f'multipart/mixed; boundary="{boundary}"', require="")
    host = FakeHost()
    call = SipCall("d1", message, FLOW, settings(), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    answer = sdp_model.parse(call.open(host, 0.0).content)  # type: ignore[arg-type]
    made = host.calls[0]
    assert made.offer.ingress == "siprec"
    assert [(leg.role, leg.offer.participant, leg.on_hold) for leg in made.legs] == VENDORS[name]
    assert [media.port for media in answer.media] == [20000 + 2 * n for n in range(len(made.legs))]
    assert {media.direction for media in answer.media} == {"inactive" if name.startswith("inactive") else "recvonly"}


@pytest.mark.skipif(not OFFERS.is_dir(), reason="the vendors' offers of drachtio are not at hand")
def test_every_offer_at_hand_is_in_the_table() -> None:
    assert {path.stem for path in OFFERS.glob("*.txt")} - {"LICENSE"} == set(VENDORS)


def test_labels_are_echoed_and_ids_go_into_the_correlation() -> None:
    _, made, answer = two_streams(correlation_headers=("X-Trunk",))
    assert [media.label for media in answer.media] == ["1", "2"]
    assert made.offer.correlation == {"sip_call_id": "c1", "siprec_session_id": "c", "x_trunk": "north"}
    assert made.offer.aors == ("sip:ann@x", "sip:bob@x")


def test_an_aor_pattern_of_the_configuration_gives_the_role() -> None:
    _, made, _ = two_streams(roles={"ann@*": "agent", "*": "caller"})
    assert [leg.role for leg in made.legs] == ["agent", "caller"]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (stream(1, "inactive"), "inactive"),
        (f"{stream(1)}\r\nc=IN IP4 0.0.0.0", "recvonly"),
        (stream(1, port=0), None),
    ],
)
def test_a_stream_that_rests_is_on_hold_and_the_other_is_not(held: str, expected: str | None) -> None:
    call, made, _ = two_streams()
    paused = request(multipart((SDP_TYPE, offer(held, stream(2), version=2))), cseq=2)
    answer = sdp_model.parse(call.reoffered(paused, 5.0).content)
    assert [leg.on_hold for leg in made.legs] == [True, False]
    assert answer.media[0].direction == expected or answer.media[0].port == 0
    call.reoffered(request(multipart((SDP_TYPE, offer(stream(1), stream(2), version=3))), cseq=3), 9.0)
    assert [leg.on_hold for leg in made.legs] == [False, False]


def test_sendonly_is_never_hold() -> None:
    call, made, _ = two_streams()
    call.reoffered(request(multipart((SDP_TYPE, offer(stream(1), stream(2), version=2))), cseq=2), 5.0)
    assert [leg.on_hold for leg in made.legs] == [False, False]


def test_a_party_without_send_and_recv_is_on_hold_one_without_recv_is_not() -> None:
    call, made, _ = two_streams()
    update = metadata(("ann", [], []), ("bob", ["s2"], []), mode="partial")
    assert call.reoffered(request(update.encode(), method="UPDATE", content_type=METADATA_TYPE, cseq=2), 5.0) is None
    assert [leg.on_hold for leg in made.legs] == [True, False]
    call.reoffered(request(BOTH.encode(), method="UPDATE", content_type="application/rs-metadata", cseq=3), 9.0)
    assert [leg.on_hold for leg in made.legs] == [False, False]


def test_a_transfer_changes_the_speaker_while_the_stream_goes_on() -> None:
    call, made, _ = two_streams()
    update = metadata(("carol", ["s2"], ["s1"]), mode="partial")
    call.reoffered(request(update.encode(), method="UPDATE", content_type=METADATA_TYPE, cseq=2), 5.0)
    assert made.legs[1].speakers == [("agent", "sip:carol@x")]
    assert made.legs[0].speakers == []
    assert made.legs[1].media == []


def test_a_stream_added_later_becomes_a_leg() -> None:
    call, made, _ = opened(multipart((SDP_TYPE, offer(stream(1))), (METADATA_TYPE, BOTH)))
    assert len(made.legs) == 1
    answer = call.reoffered(request(multipart((SDP_TYPE, offer(stream(1), stream(2), version=2))), cseq=2), 5.0)
    assert [leg.offer.participant for leg in made.legs] == ["sip:ann@x", "sip:bob@x"]
    assert [media.port for media in sdp_model.parse(answer.content).media] == [20000, 20002]


def test_metadata_before_sdp_and_without_a_closing_boundary_is_taken() -> None:
    body = multipart((METADATA_TYPE, BOTH), (SDP_TYPE, offer(stream(1), stream(2)))).removesuffix(
        f"--{BOUNDARY}--\r\n".encode()
    )
    _, made, _ = opened(body)
    assert [leg.offer.participant for leg in made.legs] == ["sip:ann@x", "sip:bob@x"]


def test_a_recording_session_without_sdp_gets_our_offer() -> None:
    call, made, description = opened(b"")
    assert call.is_offered_by_us
    assert description.media[0].direction == "recvonly"
    ack = request(offer(stream(1)).encode(), method="ACK", content_type=SDP_TYPE)
    assert call.answered_by_ack(ack, 1.0)
    assert made.legs[0].media[0].remote == ("192.0.2.8", 4002)


def test_fewer_mlines_than_before_are_refused_and_change_nothing() -> None:
    call, made, _ = two_streams()
    with pytest.raises(SdpError):
        call.reoffered(request(multipart((SDP_TYPE, offer(stream(1, "inactive"), version=2))), cseq=2), 5.0)
    assert [leg.holds for leg in made.legs] == [[], []]


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:src@192.0.2.8>;+sip.src",
        "<sip:src@192.0.2.8;+sip.src>",
        "<sip:src@192.0.2.8>;src",
        '"A, B" <sip:s@h>;expires=1;+SIP.SRC',
    ],
)
def test_each_mark_in_contact_makes_a_recording_session(contact: str) -> None:
    message = request(offer(stream(1)).encode(), content_type=SDP_TYPE, require="")
    raw = [(name, contact if name == "Contact" else value) for name, value in message.headers]
    marked = parse(
        b"INVITE sip:srs@192.0.2.9 SIP/2.0\r\n"
        + "".join(f"{name}: {value}\r\n" for name, value in raw).encode()
        + b"\r\n"
        + message.body
    )
    call = SipCall("d1", marked, FLOW, settings(), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    assert call.is_recording
    plain = SipCall("d2", message, FLOW, settings(), hang_up=lambda dialog: None)  # type: ignore[arg-type]
    assert not plain.is_recording


async def test_a_recording_client_over_udp_is_answered_as_a_recording_server() -> None:
    from tests.ingress.sip_fakes import port_of, served
    from tests.ingress.test_sip import client_now

    host = FakeHost()
    async with served(host) as (ingress, client):
        flow = await client.driver.connect("udp", "127.0.0.1", port_of(ingress, "udp"))
        body = Body(
            multipart((SDP_TYPE, offer(stream(1), stream(2))), (METADATA_TYPE, BOTH)),
            f"multipart/mixed;boundary={BOUNDARY}",
        )
        client.endpoint.invite(
            "sip:srs@127.0.0.1", flow, client_now(), from_="sip:sbc@127.0.0.1", body=body,
            headers=[("Require", "siprec")], contact_params=";+sip.src",
        )  # fmt: skip
        client.driver.pump()
        answered = await client.wait_for(Answered)
    assert answered.response.headers.get("Contact").endswith(";+sip.srs")
    assert [media.direction for media in sdp_model.parse(answered.response.body).media] == ["recvonly", "recvonly"]
    assert [leg.role for leg in host.calls[0].legs] == ["caller", "agent"]


def test_a_first_document_that_ties_nobody_or_an_empty_stream_does_not_silence_the_call() -> None:
    for first in (metadata(("dummy", [], []), labels=(1,)), metadata(("dummy", [""], []), labels=(1,))):
        call, made, _ = opened(multipart((SDP_TYPE, offer(stream(1))), (METADATA_TYPE, first)))
        assert [leg.on_hold for leg in made.legs] == [False]
        update = metadata(("ann", ["s1"], []), labels=(1,))
        call.reoffered(request(update.encode(), method="UPDATE", content_type="application/rs-metadata", cseq=2), 5.0)
        assert made.legs[0].speakers == [("caller", "sip:ann@x")]
        assert not made.legs[0].on_hold


def test_a_party_that_comes_back_after_a_complete_document_is_off_hold() -> None:
    call, made, _ = two_streams()
    for n, (send, recv) in enumerate([([], []), (["s1"], [])], 2):
        update = metadata(("ann", send, recv), ("bob", ["s2"], recv))
        call.reoffered(request(update.encode(), method="UPDATE", content_type=METADATA_TYPE, cseq=n), float(n))
    assert made.legs[0].holds == [True, False]
    assert made.legs[0].speakers == []


def test_a_party_that_leaves_is_forgotten_and_its_stream_has_no_other_speaker() -> None:
    call, made, _ = two_streams()
    gone = (
        '<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>partial</datamode>'
        '<participantsessionassoc participant_id="ann" session_id="c"><disassociate-time>t</disassociate-time>'
        "</participantsessionassoc></recording>"
    )
    call.reoffered(request(gone.encode(), method="UPDATE", content_type=METADATA_TYPE, cseq=2), 5.0)
    assert [leg.speakers for leg in made.legs] == [[], []]
    assert [leg.on_hold for leg in made.legs] == [False, False]


def test_changes_to_what_never_came_are_reason_to_ask_once_a_minute_until_the_whole_has_come() -> None:
    part = metadata(("ann", ["s1"], ["s2"]), mode="partial")
    call, _, _ = opened(multipart((SDP_TYPE, offer(stream(1))), (METADATA_TYPE, part)))
    assert call.wants_snapshot(1.0)
    assert not call.wants_snapshot(60.9)
    assert call.wants_snapshot(61.1)
    call.reoffered(request(multipart((METADATA_TYPE, BOTH)), method="UPDATE", cseq=2), 62.0)
    assert not call.wants_snapshot(500.0)


def test_a_client_that_said_all_and_a_plain_call_are_not_asked() -> None:
    call, _, _ = two_streams()
    assert not call.wants_snapshot(1.0)
    plain = request(offer(stream(1)).encode(), content_type=SDP_TYPE, require="")
    assert not SipCall("d", plain, FLOW, settings(), hang_up=lambda dialog: None).wants_snapshot(1.0)  # type: ignore[arg-type]


def test_streams_without_labels_are_those_of_the_document_in_its_order() -> None:
    bare = "\r\n".join(["m=audio 4002 RTP/AVP 0", "a=sendonly"])
    _, made, answer = opened(multipart((SDP_TYPE, offer(bare, bare)), (METADATA_TYPE, BOTH)))
    assert [leg.offer.participant for leg in made.legs] == ["sip:ann@x", "sip:bob@x"]
    assert [media.label for media in answer.media] == ["", ""]


def test_a_label_that_goes_on_on_another_m_line_is_the_same_leg() -> None:
    call, made, _ = two_streams()
    removed = offer(stream(1), stream(2, port=0), version=2)
    call.reoffered(request(removed.encode(), content_type=SDP_TYPE, cseq=2), 1.0)
    assert made.legs[1].on_hold
    again = offer(stream(1), stream(2, port=0), stream(2, port=5000), version=3)
    body = call.reoffered(request(again.encode(), content_type=SDP_TYPE, cseq=3), 2.0)
    assert len(made.legs) == 2
    assert not made.legs[1].on_hold
    assert made.legs[1].media[-1].remote == ("192.0.2.8", 5000)
    assert [media.port for media in sdp_model.parse(body.content).media] == [20000, 0, 20002]
    ours = call.reoffered(request(b"", cseq=4), 3.0)  # what was removed is not offered by us (RFC 7866 section 7.2)
    assert [media.port for media in sdp_model.parse(ours.content).media] == [20000, 0, 20002]


def test_another_label_in_a_slot_that_was_given_up_is_another_speaker() -> None:
    call, made, _ = two_streams()
    third = metadata(("ann", ["s1"], []), ("cid", ["s3"], []), labels=(1, 3))
    for version, second in ((2, stream(2, port=0)), (3, stream(3))):
        parts = [(SDP_TYPE, offer(stream(1), second, version=version)), (METADATA_TYPE, third)][: version - 1]
        call.reoffered(request(multipart(*parts), cseq=version), float(version))
    assert len(made.legs) == 2
    assert made.legs[1].speakers[-1][1] == "sip:cid@x"


def test_metadata_in_info_and_in_an_ack_is_taken() -> None:
    call, made, _ = two_streams()
    other = metadata(("ann", ["s1"], ["s2"]), ("cid", ["s2"], ["s1"]))
    call.informed(request(other.encode(), method="INFO", content_type=METADATA_TYPE, cseq=2), 1.0)
    assert made.legs[1].speakers == [("agent", "sip:cid@x")]
    call.reoffered(request(b"", cseq=3), 2.0)
    last = metadata(("ann", ["s1"], ["s2"]), ("dan", ["s2"], ["s1"]))
    body = multipart((SDP_TYPE, offer(stream(1), stream(2), version=2)), (METADATA_TYPE, last))
    assert call.answered_by_ack(request(body, method="ACK", cseq=3), 3.0)
    assert made.legs[1].speakers[-1] == ("agent", "sip:dan@x")
