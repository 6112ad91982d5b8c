"""RFC 4028 on a virtual clock: who refreshes, and what happens when nobody does."""

from __future__ import annotations

import pytest

from bridge.sip.events import Body, Ended, EndReason, Event, IncomingCall, Refused, Reoffer
from bridge.sip.message import parse
from tests.sip.network import SDP, Network


def called(*headers: tuple[str, str], session_expires: int = 0) -> Network:
    net = Network(session_expires=session_expires)
    net.on_right = lambda event: (
        net.right.accept(event.dialog, Body(SDP), net.now) if isinstance(event, IncomingCall | Reoffer) else None
    )
    net.left.invite("sip:b@192.0.2.2", net.flow, net.now, from_="sip:a@192.0.2.1", body=Body(SDP), headers=headers)
    net.settle()
    return net


def answer_of(net: Network) -> str:
    return next(
        data for _, side, data in net.wire if side == "right" and b"INVITE" in data and b" 200 " in data
    ).decode()


def test_an_interval_that_is_asked_for_is_granted_with_its_refresher() -> None:
    net = called(("Session-Expires", "600;refresher=uac"))
    assert "Session-Expires: 600;refresher=uac\r\n" in answer_of(net)
    assert "Require: timer\r\n" in answer_of(net)


def test_an_interval_is_lowered_to_ours_but_not_below_their_minimum() -> None:
    assert "Session-Expires: 300;" in answer_of(called(("Session-Expires", "3600"), session_expires=300))
    net = called(("Session-Expires", "3600"), ("Min-SE", "900"), session_expires=300)
    assert "Session-Expires: 900;" in answer_of(net)


@pytest.mark.parametrize("value", ["89", "1", "0;refresher=uas"])
def test_an_interval_below_90_seconds_is_422_with_our_minimum(value: str) -> None:
    net = called(("Session-Expires", value))
    assert [event.status for event in net.seen("left", Refused)] == [422]
    assert b"Min-SE: 90\r\n" in net.wire[1][2]


def test_as_refresher_we_send_update_at_half_the_interval_and_the_call_goes_on() -> None:
    net = called(("Session-Expires", "600;refresher=uas"))
    net.run_until(100 + 3000)
    assert net.lines("right", "UPDATE")[:3] == [400.0, 700.0, 1000.0]
    assert net.seen("right", Ended) == []


def test_as_caller_we_refresh_when_the_answer_says_so() -> None:
    net = called(("Session-Expires", "600;refresher=uac"))
    net.run_until(100 + 3000)
    assert net.lines("left", "UPDATE")[:2] == [400.0, 700.0]
    assert net.seen("left", Ended) == []
    assert net.seen("right", Ended) == []


def test_a_peer_that_does_not_refresh_is_hung_up_before_the_interval_ends() -> None:
    net = called(("Session-Expires", "600;refresher=uac"))
    net.drop = lambda side, line: side == "left"
    net.run_until(100 + 567)
    assert net.seen("right", Ended) == []
    net.run_until(100 + 569)
    assert net.lines("right", "BYE")[0] == 100 + 600 - 32
    net.run_until(800)
    assert [event.reason for event in net.seen("right", Ended)] == [EndReason.TIMEOUT]


def test_a_peer_that_vanished_is_found_by_our_own_refresh() -> None:
    net = called(session_expires=600)
    net.drop = lambda side, line: True
    net.run_until(100 + 300 + 32 + 33)
    assert [event.reason for event in net.seen("right", Ended)] == [EndReason.TIMEOUT]


def test_a_peer_that_forgot_the_call_ends_it_with_481() -> None:
    net = called(session_expires=600)
    for dialog in list(net.left._core.dialogs.values()):  # the peer's process was restarted
        net.left._core.by_key.clear()
        net.left._core.dialogs.pop(dialog.id)
        dialog.expires_at = dialog.refresh_at = None
    net.run_until(500)
    assert [event.reason for event in net.seen("right", Ended)] == [EndReason.GONE]


def test_a_peer_without_timer_and_update_is_watched_by_options_within_the_dialog() -> None:
    net = Network(session_expires=600)
    net.on_right = lambda event: (
        net.right.accept(event.dialog, Body(SDP), net.now) if isinstance(event, IncomingCall) else None
    )
    net.left.invite("sip:b@192.0.2.2", net.flow, net.now, from_="sip:a@192.0.2.1", body=Body(SDP))
    (sent,) = net.left.take_outgoing()
    old = sent.data.replace(b"Supported: timer\r\n", b"").replace(b" UPDATE,", b"")
    net.right.receive(old, net.back, net.now)
    net.run_until(100 + 1000)
    assert "Session-Expires" not in answer_of(net)
    assert net.lines("right", "OPTIONS")[:2] == [400.0, 700.0]
    assert net.seen("right", Ended) == []


def test_without_any_timer_a_silent_call_lives_for_ever() -> None:
    net = called()
    net.run_until(100_000)
    assert net.right.deadline() is None
    assert net.right.n_dialogs == 1


@pytest.mark.parametrize("status", [b"404 Not Found", b"480 Away", b"491 Pending", b"500 No"])
def test_any_other_refusal_of_a_refresh_comes_from_a_peer_that_still_has_the_call(status: bytes) -> None:
    net = called(session_expires=600)
    net.run_until(399)
    net.drop = lambda side, line: side == "right"
    net.run_until(400.1)
    refresh = parse(net.wire[-1][2])
    names = ("Via", "From", "To", "Call-ID", "CSeq")
    head = "".join(f"{name}: {refresh.headers.get(name)}\r\n" for name in names).encode()
    net.right.receive(b"SIP/2.0 " + status + b"\r\n" + head + b"Content-Length: 0\r\n\r\n", net.back, net.now)
    net.drop = lambda side, line: False
    net.run_until(2000)
    assert net.seen("right", Ended) == []
    assert len(net.lines("right", "UPDATE")) >= 4


def test_without_update_the_refresh_is_a_reinvite_that_changes_nothing() -> None:
    net = called(("Session-Expires", "600;refresher=uas"))
    dialog = next(iter(net.right._core.dialogs.values()))
    dialog.peer_allows_update = False
    answer = net.events["right"]
    net.run_until(399)
    seen = len(answer)
    net.drop = lambda side, line: False
    original = net.left.take_events

    def answering() -> list[Event]:
        events = original()
        for event in events:
            if isinstance(event, Reoffer):
                assert event.request.body == SDP
                net.left.accept(event.dialog, Body(SDP), net.now)
        return events

    net.left.take_events = answering
    net.run_until(2000)
    assert net.lines("right", "INVITE") == [400.0]
    assert net.lines("right", "UPDATE")[:2] == [700.0, 1000.0]  # the answer's Allow had it after all
    assert net.lines("right", "OPTIONS") == []
    assert len(answer) == seen  # nobody above is bothered
    assert net.seen("left", Ended) == []


@pytest.mark.parametrize("has_update", [True, False])
def test_a_refresh_that_is_too_short_for_somebody_on_the_way_comes_again_with_their_minimum(has_update: bool) -> None:
    """RFC 4028 section 7.4: 422 with Min-SE."""
    net = called(session_expires=600)
    next(iter(net.right._core.dialogs.values())).peer_allows_update = has_update
    method = "UPDATE" if has_update else "INVITE"
    net.run_until(399)
    net.drop = lambda side, line: side == "right"
    net.run_until(400.1)
    refresh = parse(net.wire[-1][2])
    head = "".join(f"{name}: {refresh.headers.get(name)}\r\n" for name in ("Via", "From", "To", "Call-ID", "CSeq"))
    too_small = f"SIP/2.0 422 Session Interval Too Small\r\n{head}Min-SE: 1800\r\nContent-Length: 0\r\n\r\n"
    net.right.receive(too_small.encode(), net.back, net.now)
    net.right.receive(too_small.encode(), net.back, net.now)
    net.run_until(400.2)
    again = [parse(data) for at, _, data in net.wire if at > 400 and data.startswith(method.encode())]
    assert [message.headers.get("Session-Expires") for message in again] == ["1800;refresher=uac"]
