"""Before the answer: provisional responses, PRACK (RFC 3262) and UPDATE in the early dialog (RFC 3311)."""

from __future__ import annotations

import pytest

from bridge.sip.events import Accepted, Body, Ended, EndReason, Event, Flow, IncomingCall, Reoffer, Rung
from bridge.sip.message import Response, parse
from tests.sip.network import SDP, Network

OFFER = SDP.decode()
ANSWER = Body(SDP)


class Peer:
    """Writes requests by hand, and reads what the endpoint puts out."""

    def __init__(self, *, status: int = 180, body: Body | None = None, ring: float = 0.0, extra: str = "") -> None:
        self.net = Network()
        self.net.on_right = self._answer
        self._ring = (status, body, ring)
        self.branch = "1"
        self.send("INVITE", 1, extra=f"Contact: <sip:a@192.0.2.1>\r\n{extra}", sdp=True, to="")

    def _answer(self, event: Event) -> None:
        right, now = self.net.right, self.net.now
        if isinstance(event, IncomingCall):
            status, body, ring = self._ring
            right.ring(event.dialog, status, now, until=now + ring, body=body)
        elif isinstance(event, Rung | Reoffer):
            right.accept(event.dialog, ANSWER, now)

    def send(self, method: str, cseq: int, *, extra: str = "", sdp: bool = False, to: str | None = None) -> None:
        to = f";tag={self.tag}" if to is None else to
        branch = self.branch if method in ("ACK", "CANCEL") else str(cseq)
        content = OFFER if sdp else ""
        kind = "Content-Type: application/sdp\r\n" * sdp
        text = (
            f"{method} sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{branch};rport\r\n"
            f"From: <sip:a@192.0.2.1>;tag=f\r\nTo: <sip:b@192.0.2.2>{to}\r\nCall-ID: c\r\nCSeq: {cseq} {method}\r\n"
            f"{extra}{kind}Content-Length: {len(content)}\r\n\r\n{content}"
        )
        self.net.right.receive(text.encode(), Flow("udp", ("192.0.2.2", 5060), ("192.0.2.1", 5060)), self.net.now)
        self.net.settle()

    def run(self, seconds: float) -> None:
        self.net.run_until(self.net.now + seconds)

    @property
    def responses(self) -> list[Response]:
        parsed = [parse(data) for _, side, data in self.net.wire if side == "right" and data.startswith(b"SIP/2.0")]
        return [message for message in parsed if isinstance(message, Response)]

    @property
    def told(self) -> list[tuple[int, str]]:
        return [(response.status, response.cseq_method) for response in self.responses]

    @property
    def tag(self) -> str:
        return next(response.to.tag for response in self.responses if response.status > 100)

    @property
    def rseq(self) -> str:
        return self.responses[0].headers.get("RSeq")

    def prack(self, cseq: int = 2, *, sdp: bool = False, rseq: str = "") -> None:
        self.send("PRACK", cseq, extra=f"RAck: {rseq or self.rseq} 1 INVITE\r\n", sdp=sdp)


RELIABLE = "Require: 100rel\r\n"


@pytest.mark.parametrize("extra", [RELIABLE, "Supported: timer, 100rel\r\n"])
def test_a_peer_with_100rel_gets_its_provisional_response_until_it_acknowledges(extra: str) -> None:
    peer = Peer(extra=extra)
    began = peer.net.now
    peer.run(4.0)
    assert peer.net.lines("right", "SIP/2.0 180") == [began + at for at in (0, 0.5, 1.5, 3.5)]
    assert 1 <= int(peer.rseq) < 2**31
    assert {response.headers.get("Require") for response in peer.responses} == {"100rel"}
    assert peer.responses[0].headers.get("Contact").startswith("<sip:callbridge@192.0.2.2")
    peer.prack()
    peer.run(1.0)
    assert peer.told[:6] == [(180, "INVITE")] * 4 + [(200, "PRACK"), (200, "INVITE")]


def test_a_peer_without_100rel_gets_it_once_and_the_answer_at_once() -> None:
    peer = Peer()
    assert peer.told == [(180, "INVITE"), (200, "INVITE")]
    assert [response.headers.get("RSeq") for response in peer.responses] == ["", ""]
    assert peer.responses[1].body == SDP


def test_it_rings_for_as_long_as_asked_and_the_answer_comes_then() -> None:
    peer = Peer(ring=3.0)
    began = peer.net.now
    peer.run(2.9)
    assert peer.told == [(180, "INVITE")]
    peer.run(0.2)
    assert peer.net.lines("right", "SIP/2.0 200")[0] == began + 3.0
    assert len(peer.net.seen("right", Accepted)) == 1


def test_an_answer_told_reliably_is_not_told_again_and_one_told_unreliably_is() -> None:
    # RFC 6337 section 3.1.1
    peer = Peer(status=183, body=ANSWER, extra=RELIABLE)
    assert peer.responses[0].body == SDP
    assert peer.told == [(183, "INVITE")]
    peer.prack()
    assert [(r.status, r.cseq_method, r.body) for r in peer.responses[1:]] == [
        (200, "PRACK", b""),
        (200, "INVITE", b""),
    ]
    assert [response.body for response in Peer(status=183, body=ANSWER).responses] == [SDP, SDP]


def test_a_prack_for_something_else_is_not_taken() -> None:
    peer = Peer(extra=RELIABLE)
    peer.prack(2, rseq=str(int(peer.rseq) - 1))
    peer.send("PRACK", 3)
    peer.send("PRACK", 4, extra=f"RAck: {peer.rseq} 7 INVITE\r\n")
    assert peer.told[1:] == [(481, "PRACK")] * 3
    peer.prack(5)
    peer.prack(6)
    assert peer.told[4:] == [(200, "PRACK"), (200, "INVITE"), (481, "PRACK")]


def test_without_a_prack_the_invite_is_refused_after_64_t1_and_the_call_is_over() -> None:
    peer = Peer(extra=RELIABLE)
    began = peer.net.now
    peer.run(40)
    assert peer.net.lines("right", "SIP/2.0 504")[0] == began + 32.0
    ended = peer.net.seen("right", Ended)
    assert [event.reason for event in ended if isinstance(event, Ended)] == [EndReason.TIMEOUT]
    assert peer.net.seen("right", Accepted) == []
    assert peer.net.right.n_dialogs == 0


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_cancel_while_it_rings_ends_it(acknowledged: bool) -> None:
    peer = Peer(ring=10.0, extra=RELIABLE)
    if acknowledged:
        peer.prack()
    peer.send("CANCEL", 1, to="")
    assert peer.told[-2:] == [(200, "CANCEL"), (487, "INVITE")]
    peer.send("ACK", 1)
    peer.run(60)
    assert [event.reason for event in peer.net.seen("right", Ended) if isinstance(event, Ended)] == [
        EndReason.CANCELLED
    ]
    assert peer.net.seen("right", Rung) == []
    assert (peer.net.right.n_dialogs, peer.net.right.n_transactions) == (0, 0)
    assert peer.net.right.deadline() is None


def test_a_bye_in_the_early_dialog_ends_it() -> None:
    peer = Peer(ring=10.0)
    peer.send("BYE", 2)
    assert peer.told[1:] == [(200, "BYE"), (487, "INVITE")]
    assert peer.net.right.n_dialogs == 0


def test_an_offer_in_a_prack_is_answered_in_its_200() -> None:
    peer = Peer(status=183, body=ANSWER, extra=RELIABLE)
    peer.prack(sdp=True)
    assert [(r.status, r.cseq_method, r.body) for r in peer.responses[1:]] == [
        (200, "PRACK", SDP),
        (200, "INVITE", b""),
    ]
    assert [event.is_initial for event in peer.net.seen("right", Accepted) if isinstance(event, Accepted)] == [
        False,
        True,
    ]


def test_an_offer_in_a_prack_before_the_first_was_answered_is_refused() -> None:
    peer = Peer(extra=RELIABLE)
    peer.prack(sdp=True)
    assert peer.told[1:] == [(488, "PRACK"), (200, "INVITE")]


def test_an_update_in_the_early_dialog_is_served_once_the_first_offer_is_answered() -> None:
    peer = Peer(status=183, body=ANSWER, extra=RELIABLE, ring=5.0)
    peer.prack()
    peer.send("UPDATE", 3, extra="Contact: <sip:a@192.0.2.1>\r\n", sdp=True)
    assert (peer.told[-1], peer.responses[-1].body) == ((200, "UPDATE"), SDP)
    assert peer.responses[-1].headers.get("Session-Expires") == ""
    peer.run(6)
    assert (200, "INVITE") in peer.told
    unanswered = Peer(ring=5.0)
    unanswered.send("UPDATE", 2, sdp=True)
    assert unanswered.told[-1] == (500, "UPDATE")
    assert unanswered.responses[-1].headers.get("Retry-After")
    unanswered.send("UPDATE", 3)
    assert unanswered.told[-1] == (200, "UPDATE")


def test_a_repeated_invite_gets_the_provisional_response_again() -> None:
    peer = Peer(ring=5.0, extra=RELIABLE)
    peer.send("INVITE", 1, extra=f"Contact: <sip:a@192.0.2.1>\r\n{RELIABLE}", sdp=True, to="")
    assert peer.told == [(180, "INVITE")] * 2
    assert len({response.headers.get("RSeq") for response in peer.responses}) == 1


def test_hanging_up_while_it_rings_refuses_the_invite() -> None:
    peer = Peer(ring=5.0, extra=RELIABLE)
    (incoming,) = peer.net.seen("right", IncomingCall)
    peer.net.right.hang_up(incoming.dialog, peer.net.now)
    peer.net.settle()
    assert peer.told[-1] == (480, "INVITE")
    assert peer.net.right.n_dialogs == 0
