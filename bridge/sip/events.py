"""What the SIP endpoint tells its driver, and the nouns both use. A dialog is named by an opaque id of ours."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from bridge.sip.message import Request, Response


class Flow(NamedTuple):
    """Where a message came from and where answers go. For TCP and TLS the three together name one connection."""

    transport: str
    "udp, tcp or tls."
    local: tuple[str, int]
    "Our address as this peer sees it: goes into Via and Contact. Never 0.0.0.0."
    remote: tuple[str, int]

    @property
    def is_reliable(self) -> bool:
        return self.transport != "udp"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Bytes to be sent: one datagram, or one message on a connection."""

    data: bytes
    flow: Flow
    target: tuple[str, int] | None = None
    """On a connection: where to connect if it is gone; None: nowhere, the message is lost with it. On UDP: None, or a
    host name (port 0: not given) whose address is to be used in place of the flow's if it has one."""


@dataclass(frozen=True, slots=True)
class Body:
    """A message body and how it is labelled."""

    content: bytes
    content_type: str = "application/sdp"


class EndReason(StrEnum):
    """Why a dialog ended."""

    BYE = "bye"
    "The peer hung up."
    LOCAL = "local"
    "`hang_up` was called."
    CANCELLED = "cancelled"
    "The peer gave up before our answer."
    TIMEOUT = "timeout"
    "No ACK or PRACK, a BYE or refresh without reply, or an expired session timer."
    GONE = "gone"
    "The peer does not know the dialog any more (481): it was restarted, or its BYE was lost."
    FAILED = "failed"
    "The ACK brought no answer to our offer."


@dataclass(frozen=True, slots=True)
class IncomingCall:
    """A new INVITE outside any dialog. Answer with `accept` or `reject`; 100 goes out after 200 ms."""

    dialog: str
    request: Request
    flow: Flow


@dataclass(frozen=True, slots=True)
class Rung:
    """After `ring`: it has rung for as long as was asked, and the peer has acknowledged what it had to. Answer with
    `accept` or `reject`."""

    dialog: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The first 2xx to a received INVITE (or re-INVITE, UPDATE) leaves with the next `take_outgoing`."""

    dialog: str
    is_initial: bool


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The ACK to our 2xx. `request` carries the peer's answer where the offer was ours."""

    dialog: str
    request: Request


@dataclass(frozen=True, slots=True)
class Reoffer:
    """A re-INVITE or UPDATE within a dialog, with or without a body, or a PRACK with an offer. Answer with `accept` or
    `reject`: a rejected one leaves the session as it was."""

    dialog: str
    request: Request


@dataclass(frozen=True, slots=True)
class Information:
    """INFO within a dialog; already answered 200."""

    dialog: str
    request: Request


@dataclass(frozen=True, slots=True)
class Progress:
    """A provisional response (not 100) to an INVITE of ours."""

    dialog: str
    response: Response


@dataclass(frozen=True, slots=True)
class Answered:
    """A 2xx to an INVITE or UPDATE of ours; the ACK was sent already."""

    dialog: str
    response: Response
    is_initial: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """A final non-2xx to an INVITE or UPDATE of ours, 408 if nothing came. The dialog is over if `is_initial`, else it
    goes on unchanged."""

    dialog: str
    status: int
    reason: str
    is_initial: bool
    response: Response | None = None
    "None where nothing came."


@dataclass(frozen=True, slots=True)
class Ended:
    """The dialog is over; its id is not used again. Comes exactly once for every dialog that `Refused` did not end,
    and for every `IncomingCall` that was not rejected."""

    dialog: str
    reason: EndReason


Event = IncomingCall | Rung | Accepted | Confirmed | Reoffer | Information | Progress | Answered | Refused | Ended
