"""What a UAS owes to requests that are not calls, or not for it (RFC 3261 section 8.2, 9.2, 12.2)."""

from __future__ import annotations

import pytest

from bridge.sip.dialog import Phase
from bridge.sip.events import Answered, Body, Ended, EndReason, Event, IncomingCall, Information, Refused, Reoffer
from bridge.sip.message import Response, parse
from tests.sip.network import SDP, Network


def connected(**headers: str) -> tuple[Network, str]:
    net = Network()
    net.on_right = lambda event: (
        net.right.accept(event.dialog, Body(SDP), net.now) if isinstance(event, IncomingCall | Reoffer) else None
    )
    dialog = net.left.invite(
        "sip:b@192.0.2.2", net.flow, net.now, from_="sip:a@192.0.2.1", body=Body(SDP), headers=list(headers.items())
    )
    net.settle()
    return net, dialog


def within(net: Network, method: str, *, cseq: int = 5, extra: str = "", body: str = "") -> Response | None:
    """Sends a request of the caller's within the dialog, by hand."""
    ack = parse(next(data for _, side, data in net.wire if side == "left" and data.startswith(b"ACK")))
    text = (
        f"{method} sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{method}{cseq};rport\r\n"
        f"From: {ack.headers.get('From')}\r\nTo: {ack.headers.get('To')}\r\nCall-ID: {ack.call_id}\r\n"
        f"CSeq: {cseq} {method}\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}"
    )
    net.right.receive(text.encode(), net.back, net.now)
    for event in net.right.take_events():
        net.events["right"].append(event)
        net.on_right(event)
    sent = net.right.take_outgoing()
    response = parse(sent[0].data) if sent else None
    assert response is None or isinstance(response, Response)
    return response


@pytest.mark.parametrize(
    ("method", "extra", "status"),
    [
        ("OPTIONS", "", 200),
        ("INFO", "Content-Type: application/dtmf-relay\r\n", 200),
        ("PRACK", "RAck: 1 1 INVITE\r\n", 481),
        ("REFER", "Refer-To: <sip:c@d>\r\n", 603),
        ("SUBSCRIBE", "Event: x\r\n", 489),
        ("MESSAGE", "", 405),
        ("WHATEVER", "", 501),
        ("OPTIONS", "Require: nothing, siprec\r\n", 420),
        ("UPDATE", "Session-Expires: 20\r\n", 422),
    ],
)
def test_requests_within_a_call_are_answered_and_leave_it_alone(method: str, extra: str, status: int) -> None:
    net, _ = connected()
    response = within(net, method, extra=extra)
    assert response is not None
    assert response.status == status
    if status == 405:
        assert "INVITE" in response.headers.get("Allow")
    if status == 420:
        assert response.headers.get("Unsupported") == "nothing"
    assert bool(net.seen("right", Information)) == (method == "INFO")
    assert net.seen("right", Ended) == []
    assert net.right.n_dialogs == 1


def test_an_update_with_an_offer_is_answered_without_ack() -> None:
    net, _ = connected()
    response = within(net, "UPDATE", extra="Content-Type: application/sdp\r\n", body=SDP.decode())
    assert response is not None
    assert (response.status, response.body) == (200, SDP)
    net.run_until(140)
    assert net.seen("right", Ended) == []


def test_a_repeated_request_gets_its_own_answer_again() -> None:
    net, _ = connected()
    first, again = within(net, "INFO"), within(net, "INFO")
    assert first is not None
    assert again is not None
    assert first.headers.get("Via") == again.headers.get("Via")
    assert len(net.seen("right", Information)) == 1


def test_a_body_of_a_foreign_type_is_415_and_an_encoded_one_too() -> None:
    net, _ = connected()
    response = within(net, "INVITE", extra="Content-Type: text/plain\r\nContact: <sip:a@192.0.2.1>\r\n", body="x")
    assert response is not None
    assert response.status == 415
    assert "application/sdp" in response.headers.get("Accept")
    coded = "Content-Type: application/sdp\r\nContent-Encoding: gzip\r\n"
    response = within(net, "UPDATE", cseq=6, extra=coded, body="x")
    assert response is not None
    assert response.status == 415


@pytest.mark.parametrize(("method", "status"), [("CANCEL", 481), ("BYE", 481), ("UPDATE", 481), ("REGISTER", 405)])
def test_requests_for_nothing_are_refused_and_leave_nothing(method: str, status: int) -> None:
    net = Network()
    text = (
        f"{method} sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        f"To: <sip:b@192.0.2.2>\r\nCall-ID: 1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    net.right.receive(text.encode(), net.back, net.now)
    assert net.right.take_outgoing()[0].data.startswith(f"SIP/2.0 {status} ".encode())
    assert net.right.n_transactions == 0


def test_an_ack_for_nothing_is_never_answered() -> None:
    net = Network()
    text = (
        b"ACK sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\n"
        b"To: <sip:b@192.0.2.2>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
    )
    net.right.receive(text, net.back, net.now)
    net.right.receive(text.replace(b"CSeq: 1 ACK", b"CSeq: x"), net.back, net.now)
    assert net.right.take_outgoing() == []


def test_the_contact_of_a_reinvite_is_where_our_bye_goes() -> None:
    net, _ = connected()
    moved = "Contact: <sip:a@198.51.100.7:5088>\r\nContent-Type: application/sdp\r\n"
    assert within(net, "INVITE", extra=moved, body=SDP.decode())
    within(net, "ACK", cseq=5)
    net.right.hang_up(net.events["right"][0].dialog, net.now)
    (sent,) = net.right.take_outgoing()
    assert sent.data.startswith(b"BYE sip:a@198.51.100.7:5088 SIP/2.0\r\n")
    assert sent.flow.remote == ("198.51.100.7", 5088)


def test_a_strict_router_gets_the_request_uri_it_wants() -> None:
    net, _ = connected(**{"Record-Route": "<sip:198.51.100.1>"})
    net.right.hang_up(net.events["right"][0].dialog, net.now)
    (sent,) = net.right.take_outgoing()
    assert sent.data.startswith(b"BYE sip:198.51.100.1 SIP/2.0\r\n")
    assert b"Route: <sip:callbridge@192.0.2.1:5060>\r\n" in sent.data


def answer_with_tag(net: Network, tag: str) -> bytes:
    answer = next(data for _, side, data in net.wire if side == "right" and data.startswith(b"SIP/2.0 200"))
    response = parse(answer)
    return answer.replace(f"tag={response.to.tag}".encode(), f"tag={tag}".encode())


def test_a_fork_that_answers_too_is_acknowledged_and_hung_up_at_once() -> None:
    net, dialog = connected()
    net.left.receive(answer_with_tag(net, "other"), net.flow, net.now)
    lines = [message.data for message in net.left.take_outgoing()]
    assert [line.split(b" ")[0] for line in lines] == [b"ACK", b"BYE"]
    assert all(b";tag=other\r\n" in line for line in lines)
    net.left.receive(answer_with_tag(net, "other"), net.flow, net.now)
    assert net.left.take_outgoing() == []
    assert [type(event) for event in net.events["left"]] == [Answered]
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    assert len(net.seen("left", Answered)) == 2


def test_a_reinvite_that_the_peer_knows_nothing_of_ends_the_call() -> None:
    net, dialog = connected()
    net.left.reinvite(dialog, Body(SDP), net.now)
    (sent,) = net.left.take_outgoing()
    invite = parse(sent.data)
    head = "".join(f"{name}: {invite.headers.get(name)}\r\n" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
    net.left.receive(f"SIP/2.0 481 Gone\r\n{head}Content-Length: 0\r\n\r\n".encode(), net.flow, net.now)
    net.settle()
    assert [(event.status, event.is_initial) for event in net.seen("left", Refused)] == [(481, False)]
    assert [event.reason for event in net.seen("left", Ended)] == [EndReason.GONE]


def test_a_peer_may_hang_up_while_its_own_offer_is_still_open() -> None:
    net, dialog = connected()
    net.on_right = lambda event: None
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    net.left.hang_up(dialog, net.now)
    net.settle()
    assert len(net.lines("right", "SIP/2.0 487")) == 1
    assert [event.reason for event in net.seen("right", Ended)] == [EndReason.BYE]
    net.run_until(400)
    assert net.left.n_transactions == net.right.n_transactions == 0


def test_a_flood_of_invites_keeps_nothing_and_harms_no_running_call() -> None:
    from bridge.sip.endpoint import Refusal

    seen: list[Event] = []
    net = Network(screen=lambda request, flow, now: Refusal(503) if "flood" in request.call_id else None)
    net.on_right = lambda event: (
        net.right.accept(event.dialog, Body(SDP), net.now)
        if isinstance(event, IncomingCall | Reoffer)
        else seen.append(event)
    )
    dialog = net.left.invite("sip:b@192.0.2.2", net.flow, net.now, from_="sip:a@192.0.2.1", body=Body(SDP))
    net.settle()
    before = net.right.n_transactions
    invite = net.wire[0][2]
    for n in range(2000):
        forged = invite.replace(b"Call-ID: ", b"Call-ID: flood%d" % n).replace(
            b"branch=z9hG4bK", b"branch=z9hG4bK%d" % n
        )
        net.right.receive(forged, net.back, net.now)
    assert len(net.right.take_outgoing()) == 2000
    assert net.right.n_transactions == before
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    assert len(net.seen("left", Answered)) == 2


def test_an_impossible_phase_change_is_our_own_bug() -> None:
    net, _ = connected()
    dialog = next(iter(net.right._core.dialogs.values()))
    with pytest.raises(ValueError, match="ESTABLISHED to CALLING"):
        dialog.move(Phase.CALLING)


def test_a_foreign_body_that_may_be_left_is_left() -> None:
    """RFC 3261 section 20.11: an SBC's ISUP or location beside what we know."""
    net, _ = connected()
    extra = "Content-Type: application/isup\r\nContent-Disposition: signal; handling=%s\r\n"
    for n, (handling, status) in enumerate((("required", 415), ("optional", 200)), start=5):
        response = within(net, "UPDATE", cseq=n, extra=extra % handling, body="x")
        assert response is not None
        assert response.status == status


def test_a_caller_of_rfc_2543_whose_from_has_no_tag_is_served_to_the_end() -> None:
    net = Network()
    net.on_right = lambda event: (
        net.right.accept(event.dialog, Body(SDP), net.now) if isinstance(event, IncomingCall) else None
    )

    def say(method: str, cseq: int, to: str) -> list[bytes]:
        head = (
            f"{method} sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060\r\nFrom: <sip:a@192.0.2.1>\r\n"
            f"To: {to}\r\nCall-ID: old\r\nCSeq: {cseq} {method}\r\n"
        )
        body = f"Content-Type: application/sdp\r\n\r\n{SDP.decode()}" if method == "INVITE" else "\r\n"
        net.right.receive((head + body).encode(), net.back, net.now)
        for event in net.right.take_events():
            net.events["right"].append(event)
            net.on_right(event)
        return [sent.data for sent in net.right.take_outgoing()]

    answer = parse(say("INVITE", 1, "<sip:b@192.0.2.2>")[-1])
    to = answer.headers.get("To")
    say("ACK", 1, to)
    net.right.handle_timer(net.now + 1.0)
    assert net.right.take_outgoing() == []  # the 200 is not repeated
    (bye,) = say("BYE", 2, to)
    assert bye.startswith(b"SIP/2.0 200")
    assert net.right.n_dialogs == 0
    assert not net.right._core.by_key


def test_a_contact_of_everything_is_no_contact() -> None:
    net, _ = connected()
    response = within(net, "UPDATE", extra="Contact: *\r\n")
    assert response is not None
    assert response.status == 400
