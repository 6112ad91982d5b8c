"""Two endpoints on a clock that is a number: loss, repeats, races, glare."""

from __future__ import annotations

import pytest

from bridge.errors import InvalidState
from bridge.sip.endpoint import Refusal
from bridge.sip.events import (
    Accepted,
    Answered,
    Body,
    Confirmed,
    Ended,
    EndReason,
    Event,
    IncomingCall,
    Progress,
    Refused,
    Reoffer,
)
from tests.sip.network import SDP, Network

FROM = "sip:alice@192.0.2.1"
OFFER = Body(SDP)


def accepting(net: Network, body: Body | None = OFFER) -> None:
    def answer(event: Event) -> None:
        if isinstance(event, IncomingCall | Reoffer):
            net.right.accept(event.dialog, body, net.now)

    net.on_right = answer


def dial(net: Network, body: Body | None = OFFER) -> str:
    dialog = net.left.invite("sip:bob@192.0.2.2", net.flow, net.now, from_=FROM, body=body)
    net.settle()
    return dialog


def reasons(net: Network, side: str) -> list[EndReason]:
    return [event.reason for event in net.seen(side, Ended)]


def assert_nothing_left(net: Network) -> None:
    net.run_until(net.now + 200)
    for endpoint in (net.left, net.right):
        assert endpoint.n_dialogs == 0
        assert endpoint.n_transactions == 0
        assert endpoint.deadline() is None


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_call_is_answered_held_and_hung_up(transport: str) -> None:
    net = Network(transport=transport)
    accepting(net)
    dialog = dial(net)
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    net.left.hang_up(dialog, net.now)
    net.settle()
    assert [type(event) for event in net.events["right"]] == [
        IncomingCall, Accepted, Confirmed, Reoffer, Accepted, Confirmed, Ended,
    ]  # fmt: skip
    assert [type(event) for event in net.events["left"]] == [Answered, Answered, Ended]
    assert reasons(net, "right") == [EndReason.BYE]
    assert_nothing_left(net)


def test_the_called_side_hangs_up() -> None:
    net = Network()
    accepting(net)
    dial(net)
    net.right.hang_up(net.events["right"][0].dialog, net.now)
    net.settle()
    assert reasons(net, "left") == [EndReason.BYE]
    assert reasons(net, "right") == [EndReason.LOCAL]
    assert_nothing_left(net)


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_the_2xx_is_repeated_on_every_transport_until_the_ack_then_never_again(transport: str) -> None:
    net = Network(transport=transport)
    accepting(net)
    lost = iter([True, True])
    net.drop = lambda side, line: line.startswith("SIP/2.0 200") and next(lost, False)
    dial(net)
    net.run_until(110)
    times = net.lines("right", "SIP/2.0 200")
    assert times[:3] == [100.0, 100.5, 101.5]
    assert len(net.lines("left", "ACK")) == len(times) - 2
    assert len(net.seen("left", Answered)) == 1
    assert len(net.seen("right", Confirmed)) == 1


def test_without_an_ack_the_call_is_ended_by_bye_after_32_seconds() -> None:
    net = Network()
    accepting(net)
    net.drop = lambda side, line: line.startswith("ACK")
    dial(net)
    net.run_until(131.9)
    repeats = net.lines("right", "SIP/2.0 200")
    assert repeats == [100.0, 100.5, 101.5, 103.5, 107.5, 111.5, 115.5, 119.5, 123.5, 127.5, 131.5]
    assert reasons(net, "right") == []
    net.run_until(132.1)
    assert net.lines("right", "BYE") == [132.0]
    assert reasons(net, "right") == [EndReason.TIMEOUT]
    assert reasons(net, "left") == [EndReason.BYE]
    assert_nothing_left(net)


def test_an_invite_that_comes_again_after_the_answer_is_absorbed_not_refused() -> None:
    net = Network()
    accepting(net)
    net.drop = lambda side, line: line.startswith("ACK")
    dial(net)
    invite = next(data for _, side, data in net.wire if side == "left" and data.startswith(b"INVITE"))
    for _ in range(3):
        net.right.receive(invite, net.back, net.now)
        net.settle()
    assert len(net.seen("right", IncomingCall)) == 1
    assert {data.split(b"\r\n")[0] for _, side, data in net.wire if side == "right"} == {b"SIP/2.0 200 OK"}
    net.run_until(100.6)
    assert net.lines("right", "SIP/2.0 200") == [100.0, 100.5]


def test_100_is_sent_after_200_ms_without_an_answer_and_again_for_a_repeat() -> None:
    net = Network()
    net.drop = lambda side, line: side == "right"
    dial(net)
    assert net.lines("right", "SIP/2.0 100") == []
    net.run_until(100.6)
    assert net.lines("right", "SIP/2.0 100") == [100.2, 100.5]


def test_a_refusal_is_repeated_until_its_ack() -> None:
    net = Network()
    net.on_right = lambda event: (
        net.right.reject(event.dialog, 488, net.now) if isinstance(event, IncomingCall) else None
    )
    lost = iter([True, True])
    net.drop = lambda side, line: line.startswith("ACK") and next(lost, False)
    dial(net)
    net.run_until(110)
    assert net.lines("right", "SIP/2.0 488") == [100.0, 100.5, 101.5]
    (refused,) = net.seen("left", Refused)
    assert (refused.status, refused.is_initial) == (488, True)
    assert net.events["right"][-1].dialog  # no Ended for what was never accepted
    assert reasons(net, "right") == []
    assert_nothing_left(net)


def test_an_unanswered_invite_is_repeated_and_given_up_after_32_seconds() -> None:
    net = Network()
    net.drop = lambda side, line: True
    dial(net)
    net.run_until(140)
    assert net.lines("left", "INVITE") == [100.0, 100.5, 101.5, 103.5, 107.5, 115.5, 131.5]
    assert [event.status for event in net.seen("left", Refused)] == [408]
    assert net.left.n_dialogs == 0


def test_cancel_before_the_answer_ends_both_sides() -> None:
    net = Network()
    dialog = dial(net)
    net.left.hang_up(dialog, net.now)
    net.settle()
    assert net.lines("left", "CANCEL") == []  # not before a provisional response, RFC 3261 9.1
    net.run_until(101)
    assert net.lines("left", "CANCEL") == [100.2]
    assert reasons(net, "right") == [EndReason.CANCELLED]
    assert reasons(net, "left") == [EndReason.LOCAL]
    assert net.lines("right", "SIP/2.0 487") == [100.2]
    assert_nothing_left(net)


def test_an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() -> None:
    net = Network()
    dialog = dial(net)
    net.run_until(100.3)
    net.right.accept(net.events["right"][0].dialog, Body(SDP), net.now)
    net.left.hang_up(dialog, net.now)
    net.settle()
    assert net.lines("right", "SIP/2.0 487") == []
    assert net.lines("left", "BYE") == [net.now]
    assert reasons(net, "left") == [EndReason.LOCAL]
    assert reasons(net, "right") == [EndReason.BYE]
    assert_nothing_left(net)


def test_accepting_after_the_cancel_does_nothing() -> None:
    net = Network()
    dialog = dial(net)
    net.left.hang_up(dialog, net.now)
    net.run_until(101)
    net.right.accept(net.events["right"][0].dialog, Body(SDP), net.now)
    net.settle()
    assert net.lines("right", "SIP/2.0 200") == [100.2]  # to the CANCEL
    assert net.seen("right", Accepted) == []


def test_crossing_reinvites_are_both_refused_with_491() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    other = net.events["right"][0].dialog
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.right.reinvite(other, Body(SDP), net.now)
    net.settle()
    assert [event.status for event in net.seen("left", Refused)] == [491]
    assert [event.status for event in net.seen("right", Refused)] == [491]
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    assert len(net.seen("left", Answered)) == 2


def test_an_invite_while_the_first_waits_for_its_answer_is_500_with_retry_after() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    net.on_right = lambda event: None
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    second = net.wire[-1][2].replace(b"branch=z9hG4bK", b"branch=z9hG4bKx").replace(b"CSeq: 2 ", b"CSeq: 3 ")
    net.right.receive(second, net.back, net.now)
    (response,) = [message.data for message in net.right.take_outgoing()]
    assert response.startswith(b"SIP/2.0 500 ")
    assert b"Retry-After: 2" in response


def test_a_refused_reinvite_leaves_the_call_as_it_was() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    net.on_right = lambda event: net.right.reject(event.dialog, 488, net.now) if isinstance(event, Reoffer) else None
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    assert [(event.status, event.is_initial) for event in net.seen("left", Refused)] == [(488, False)]
    net.left.hang_up(dialog, net.now)
    net.settle()
    assert reasons(net, "right") == [EndReason.BYE]


def test_hanging_up_before_the_ack_waits_for_it() -> None:
    net = Network()
    accepting(net)
    lost = iter([True])
    net.drop = lambda side, line: line.startswith("ACK") and next(lost, False)
    dial(net)
    net.right.hang_up(net.events["right"][0].dialog, net.now)
    net.settle()
    assert net.lines("right", "BYE") == []
    net.run_until(101)
    assert net.lines("right", "BYE") == [100.5]
    assert reasons(net, "left") == [EndReason.BYE]


def test_a_bye_that_nobody_answers_ends_the_dialog_after_32_seconds() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    net.drop = lambda side, line: True
    net.left.hang_up(dialog, net.now)
    net.run_until(131.9)
    assert reasons(net, "left") == []
    net.run_until(132.1)
    assert reasons(net, "left") == [EndReason.LOCAL]


def test_a_repeated_bye_gets_its_200_again() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    lost = iter([True])
    net.drop = lambda side, line: side == "right" and line.startswith("SIP/2.0 200") and next(lost, False)
    net.left.hang_up(dialog, net.now)
    net.run_until(101)
    assert net.lines("left", "BYE") == [100.0, 100.5]
    assert reasons(net, "left") == [EndReason.LOCAL]


def test_requests_for_a_dialog_that_nobody_has_are_481() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    net.left.hang_up(dialog, net.now)
    net.settle()
    bye = next(data for _, side, data in net.wire if data.startswith(b"BYE")).replace(b"z9hG4bK", b"z9hG4bKother")
    net.right.receive(bye, net.back, net.now)
    (response,) = net.right.take_outgoing()
    assert response.data.startswith(b"SIP/2.0 481 ")


def test_a_lower_cseq_is_500() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    old = next(data for _, _, data in net.wire if b"CSeq: 2 INVITE" in data)
    old = old.replace(b"CSeq: 2 INVITE", b"CSeq: 1 INVITE").replace(b"z9hG4bK", b"z9hG4bKold")
    net.right.receive(old, net.back, net.now)
    assert net.right.take_outgoing()[0].data.startswith(b"SIP/2.0 500 ")


def test_a_copy_of_a_running_invite_over_another_path_is_482() -> None:
    net = Network()
    dial(net)
    copy = net.wire[0][2].replace(b"z9hG4bK", b"z9hG4bKfork")
    net.right.receive(copy, net.back, net.now)
    assert net.right.take_outgoing()[0].data.startswith(b"SIP/2.0 482 ")
    assert len(net.seen("right", IncomingCall)) == 1


def test_a_screened_request_leaves_nothing_behind() -> None:
    net = Network(screen=lambda request, flow, now: Refusal(503, [("Retry-After", "5")]))
    dial(net)
    assert net.right.n_transactions == 0
    assert [event.status for event in net.seen("left", Refused)] == [503]
    assert b"Retry-After: 5" in net.wire[1][2]


def test_a_silent_screen_sends_nothing() -> None:
    net = Network(screen=lambda request, flow, now: Refusal(0))
    dial(net)
    assert [side for _, side, _ in net.wire] == ["left"]
    assert net.tally.drops == {"screened": 1}


def test_a_ringing_answer_reaches_the_caller_as_progress() -> None:
    net = Network()
    dialog = dial(net)
    invite = net.wire[0][2]
    headers = b"\r\n".join(
        line for line in invite.split(b"\r\n")[1:] if line.startswith((b"Via", b"From", b"To", b"Call", b"CSeq"))
    )
    net.left.receive(b"SIP/2.0 180 Ringing\r\n" + headers + b"\r\nContent-Length: 0\r\n\r\n", net.flow, net.now)
    net.settle()
    (progress,) = net.seen("left", Progress)
    assert progress.dialog == dialog
    assert progress.response.status == 180


def test_options_outside_a_dialog_says_what_we_can_do() -> None:
    net = Network()
    options = (
        b"OPTIONS sip:192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP sbc.example.com:5070;branch=z9hG4bK1;rport\r\n"
        b"From: <sip:sbc@example.com>;tag=1\r\nTo: <sip:192.0.2.2>\r\nCall-ID: 1\r\nCSeq: 7 OPTIONS\r\n\r\n"
    )
    net.right.receive(options, net.back, net.now)
    (sent,) = net.right.take_outgoing()
    assert sent.data.startswith(b"SIP/2.0 200 OK\r\n")
    for header in (b"Allow: INVITE", b"Accept: application/sdp", b"Supported:", b"rport=5060;received=192.0.2.1"):
        assert header in sent.data
    assert sent.flow == net.back


def test_without_rport_the_response_goes_to_the_source_address_and_the_stated_port() -> None:
    net = Network()
    net.right.receive(
        b"OPTIONS sip:192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP sbc.example.com:5070;branch=z9hG4bK1\r\n"
        b"f: <sip:sbc@example.com>;tag=1\r\nt: <sip:192.0.2.2>\r\ni: 1\r\nCSeq: 7 OPTIONS\r\n\r\n",
        net.back,
        net.now,
    )
    (sent,) = net.right.take_outgoing()
    assert sent.flow.remote == ("192.0.2.1", 5070)
    assert b";received=192.0.2.1\r\n" in sent.data


def test_record_routes_are_copied_and_become_the_route_of_our_bye() -> None:
    net = Network()
    accepting(net)
    net.left.invite(
        "sip:bob@192.0.2.2", net.flow, net.now, from_=FROM, body=Body(SDP),
        headers=[("Record-Route", "<sip:198.51.100.1;lr>, <sip:198.51.100.2:5080;lr>")],
    )  # fmt: skip
    net.settle()
    assert b"Record-Route: <sip:198.51.100.1;lr>, <sip:198.51.100.2:5080;lr>\r\n" in net.wire[1][2]
    net.right.hang_up(net.events["right"][0].dialog, net.now)
    (sent,) = net.right.take_outgoing()
    assert sent.flow.remote == ("198.51.100.1", 5060)
    assert b"Route: <sip:198.51.100.1;lr>\r\nRoute: <sip:198.51.100.2:5080;lr>\r\n" in sent.data


def test_reinviting_twice_at_once_is_our_own_bug() -> None:
    net = Network()
    dialog = dial(net)
    with pytest.raises(InvalidState):
        net.left.reinvite(dialog, Body(SDP), net.now)


def test_a_thousand_refused_or_cancelled_calls_leave_nothing() -> None:
    net = Network()
    for n in range(1000):
        dialog = dial(net)
        call = net.events["right"][-1].dialog
        if n % 2:
            net.right.reject(call, 486, net.now)
        else:
            net.right.accept(call, Body(SDP), net.now)
            net.settle()
            net.left.hang_up(dialog, net.now)
        net.settle()
        net.now += 0.1
    assert_nothing_left(net)


def test_an_offer_that_is_never_answered_is_terminated_with_the_call() -> None:
    net = Network()
    accepting(net)
    dialog = dial(net)
    net.on_right = lambda event: None
    net.left.reinvite(dialog, Body(SDP), net.now)
    net.settle()
    net.right.hang_up(net.events["right"][0].dialog, net.now)
    net.settle()
    assert net.lines("right", "SIP/2.0 487") == [net.now]
    assert_nothing_left(net)


def test_each_message_is_counted_once_however_often_it_is_repeated() -> None:
    net = Network()
    accepting(net)
    lost = iter([True, True])
    net.drop = lambda side, line: line.startswith("SIP/2.0 200") and next(lost, False)
    dialog = dial(net)
    net.run_until(110)
    net.left.hang_up(dialog, net.now)
    net.right.receive(b"rubbish", net.back, net.now)
    net.right.receive(net.wire[0][2].replace(b"INVITE", b"NOBODYKNOWS"), net.back, net.now)
    net.settle()
    assert net.tally.responses == {("INVITE", 200): 1, ("BYE", 200): 1, ("other", 501): 1}
    assert net.tally.requests["INVITE"] >= 1
    assert net.tally.requests["other"] == 1
    assert net.tally.drops == {"malformed": 1}
