"""Requests within a dialog go by the transport that the peer's Contact or Record-Route names (RFC 3261 12.2.1.1)."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Body, Ended, Event, Flow, IncomingCall, Outgoing
from bridge.sip.transaction import DETOUR_AFTER, GIVE_UP
from tests.sip.network import SDP, request, tag_of, tokens

LOCAL = {"udp": ("192.0.2.2", 5060), "tcp": ("192.0.2.2", 5070), "tls": ("192.0.2.2", 5061)}


@dataclass
class Call:
    """A call that an SBC made to us, answered and acknowledged."""

    came_by: str
    contact: str
    speaks: tuple[str, ...] = ("udp", "tcp", "tls")
    routes: str = ""
    now: float = 10.0
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.endpoint = Endpoint(Identity(), make_token=tokens("t"))
        self.endpoint.speak_from(lambda transport, host: LOCAL[transport] if transport in self.speaks else None)
        self.flow = Flow(self.came_by, LOCAL[self.came_by], ("192.0.2.1", 40_000))
        self.say("INVITE", 1, "")
        (incoming,) = [event for event in self.take() if isinstance(event, IncomingCall)]
        self.dialog = incoming.dialog
        self.endpoint.accept(self.dialog, Body(SDP), self.now)
        self.tag = tag_of(self.endpoint.take_outgoing()[-1].data)
        self.say("ACK", 1, self.tag)
        self.take()

    def say(self, method: str, cseq: int, tag: str, *, flow: Flow | None = None) -> None:
        headers = ["Allow: INVITE, ACK, BYE, UPDATE", *([f"Record-Route: {self.routes}"] if self.routes else [])]
        data = request(
            method, via=f"{self.came_by.upper()} 192.0.2.1:5060", peer="sip:sbc@192.0.2.1", uri="sip:x@192.0.2.2",
            contact=self.contact, call_id="c", tag=tag, cseq=cseq, headers=headers,
            body=SDP if method == "INVITE" else b"",
        )  # fmt: skip
        self.endpoint.receive(data, flow or self.flow, self.now)

    def take(self) -> list[Event]:
        taken = self.endpoint.take_events()
        self.events += taken
        return taken

    def hang_up(self) -> Outgoing:
        """What leaves then."""
        self.endpoint.take_outgoing()
        self.endpoint.hang_up(self.dialog, self.now)
        (sent,) = self.endpoint.take_outgoing()
        assert sent.data.startswith(b"BYE ")
        return sent

    def run(self, seconds: float) -> list[Outgoing]:
        sent, end = [], self.now + seconds
        while (at := self.endpoint.deadline()) is not None and at <= end:
            self.now = at
            self.endpoint.handle_timer(at)
            sent += self.endpoint.take_outgoing()
        self.now = end
        return sent

    def answer(self, request: Outgoing, status: int = 200) -> None:
        lines = request.data.decode().split("\r\n")
        kept = [line for line in lines if line.startswith(("Via", "From", "To", "Call-ID", "CSeq"))]
        data = "\r\n".join([f"SIP/2.0 {status} X", *kept, "Content-Length: 0", "", ""])
        self.endpoint.receive(data.encode(), request.flow, self.now)
        self.take()

    @property
    def endings(self) -> int:
        return sum(isinstance(event, Ended) for event in self.events)


def via(sent: Outgoing) -> str:
    return sent.data.decode().partition("Via: ")[2].partition("\r\n")[0]


@pytest.mark.parametrize(
    ("came_by", "contact", "goes_by", "remote"),
    [
        ("udp", "sip:s@192.0.2.9:5080;transport=tcp", "tcp", ("192.0.2.9", 5080)),
        ("udp", "sip:s@192.0.2.9;transport=TCP", "tcp", ("192.0.2.9", 5060)),
        ("udp", "sip:s@192.0.2.9;transport=tls", "tls", ("192.0.2.9", 5061)),
        ("udp", "sips:s@192.0.2.9", "tls", ("192.0.2.9", 5061)),
        ("udp", "sip:s@192.0.2.9:5080;transport=udp", "udp", ("192.0.2.9", 5080)),
        ("udp", "sip:s@192.0.2.9:5080;transport=sctp", "udp", ("192.0.2.9", 5080)),
        ("udp", "sip:s@192.0.2.9:5080", "udp", ("192.0.2.9", 5080)),
        ("tcp", "sip:s@192.0.2.9:5080;transport=udp", "udp", ("192.0.2.9", 5080)),
        ("tcp", "sip:s@192.0.2.9:5080;transport=tls", "tls", ("192.0.2.9", 5080)),
        ("tcp", "sip:s@192.0.2.9:5080", "tcp", ("192.0.2.1", 40_000)),
        ("udp", "sip:s@sbc.example;transport=tcp", "tcp", ("192.0.2.1", 40_000)),
    ],
)
def test_a_request_goes_by_the_transport_that_contact_names(
    came_by: str, contact: str, goes_by: str, remote: tuple[str, int]
) -> None:
    call = Call(came_by, contact)
    sent = call.hang_up()
    assert (sent.flow.transport, sent.flow.remote) == (goes_by, remote)
    assert via(sent).startswith(f"SIP/2.0/{goes_by.upper()} 192.0.2.2:{LOCAL[goes_by][1]};")
    call.answer(sent)
    assert call.endings == 1
    assert not [again for again in call.run(2 * GIVE_UP) if again.data.startswith(b"BYE")]


def test_a_record_route_outranks_the_contact() -> None:
    call = Call("udp", "sip:s@192.0.2.9;transport=udp", routes="<sip:192.0.2.7:5090;transport=tcp;lr>")
    sent = call.hang_up()
    assert (sent.flow.transport, sent.target) == ("tcp", ("192.0.2.7", 5090))


@pytest.mark.parametrize(
    "contact",
    ["sip:s@192.0.2.9;transport=udp", "sip:s@192.0.2.9;transport=tcp", "sip:s@192.0.2.9", "sips:s@192.0.2.9"],
)
def test_a_dialog_over_tls_never_leaves_it(contact: str) -> None:
    call = Call("tls", contact)
    sent = call.hang_up()
    assert sent.flow == call.flow
    call.endpoint.lost(sent.data, call.now)
    assert all(later.flow.transport == "tls" for later in call.run(2 * GIVE_UP))
    call.take()
    assert call.endings == 1


def test_nobody_moves_a_dialog_over_tls_to_the_clear() -> None:
    call = Call("tls", "sip:s@192.0.2.9;transport=tls")
    clear = Flow("udp", LOCAL["udp"], ("192.0.2.1", 5060))
    for n, method in enumerate(("INVITE", "UPDATE", "BYE"), start=2):
        call.say(method, n, call.tag, flow=clear)
        (refused,) = call.endpoint.take_outgoing()
        assert refused.data.startswith(b"SIP/2.0 403")
    assert call.take() == []
    assert call.hang_up().flow == call.flow


@pytest.mark.parametrize(("came_by", "asked"), [("udp", "tcp"), ("udp", "tls"), ("tcp", "tls")])
def test_what_cannot_be_sent_so_goes_the_way_the_dialog_came(came_by: str, asked: str) -> None:
    call = Call(came_by, f"sip:s@192.0.2.9:5080;transport={asked}")
    first = call.hang_up()
    call.endpoint.lost(first.data, call.now)
    (second,) = call.endpoint.take_outgoing()
    assert second.flow == call.flow
    assert via(second).partition("branch=")[2] == via(first).partition("branch=")[2]
    assert via(second).startswith(f"SIP/2.0/{came_by.upper()} ")
    call.endpoint.lost(first.data, call.now)  # told twice
    assert call.endpoint.take_outgoing() == []
    call.answer(second)
    assert call.endings == 1


def test_who_does_not_answer_there_is_asked_the_way_the_dialog_came() -> None:
    call = Call("tcp", "sip:s@192.0.2.9:5080;transport=udp")
    call.hang_up()
    sent = call.run(DETOUR_AFTER + 0.1)
    assert [one.flow.transport for one in sent] == ["udp", "udp", "udp", "tcp"]
    call.answer(sent[-1])
    assert call.endings == 1


def test_one_that_answers_late_is_not_asked_another_way() -> None:
    call = Call("tcp", "sip:s@192.0.2.9:5080;transport=udp")
    call.answer(call.hang_up(), 100)
    assert {one.flow.transport for one in call.run(DETOUR_AFTER + 3.0)} == {"udp"}


def test_after_a_detour_the_dialog_keeps_to_the_way_it_came() -> None:
    """A refresh must not wait for a dead port each time."""
    call = Call("tcp", "sip:s@192.0.2.9:5080;transport=tls")
    assert call.endpoint.update(call.dialog, Body(b"x", "application/rs-metadata"), call.now)
    (update,) = call.endpoint.take_outgoing()
    assert update.flow.transport == "tls"
    call.endpoint.lost(update.data, call.now)
    (again,) = call.endpoint.take_outgoing()
    call.answer(again)
    assert call.hang_up().flow == call.flow


def test_what_we_do_not_speak_is_not_tried() -> None:
    for speaks in ((), ("udp",)):
        call = Call("udp", "sip:s@192.0.2.9:5080;transport=tcp", speaks=speaks)
        assert call.hang_up().flow == call.flow


def test_an_offer_by_another_way_has_its_ack_there_too() -> None:
    call = Call("udp", "sip:s@192.0.2.9:5080;transport=tcp")
    call.endpoint.reinvite(call.dialog, Body(SDP), call.now)
    (invite,) = call.endpoint.take_outgoing()
    assert invite.flow.transport == "tcp"
    call.answer(invite)
    (ack,) = call.endpoint.take_outgoing()
    assert ack.data.startswith(b"ACK ")
    assert (ack.flow.transport, ack.target) == ("tcp", ("192.0.2.9", 5080))
    call.endpoint.lost(ack.data, call.now)
    call.answer(invite)  # the 2xx again: its ACK was lost
    (ack,) = call.endpoint.take_outgoing()
    assert ack.flow.transport == "udp"


def test_what_was_lost_and_is_over_is_let_go() -> None:
    call = Call("udp", "sip:s@192.0.2.9;transport=tcp")
    bye = call.hang_up()
    call.answer(bye)
    for data in (bye.data, b"SIP/2.0 200 OK\r\n\r\n"):
        call.endpoint.lost(data, call.now)
        assert call.endpoint.take_outgoing() == []
