"""A dialog: its identity, route set, remote target and sequence numbers (RFC 3261 section 12), and where one INVITE
usage stands in it. Decides nothing about media."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import Enum, auto

from bridge.sip.events import Body, EndReason, Flow
from bridge.sip.message import Request, Response, serialise
from bridge.sip.syntax import host_port, parse_name_addr, scheme_of, split_outside
from bridge.sip.transaction import GIVE_UP, Backoff, ClientTransaction, ServerTransaction

ALLOW = "INVITE, ACK, BYE, CANCEL, OPTIONS, UPDATE, INFO, PRACK"


class Phase(Enum):
    """Where a call stands."""

    INVITED = auto()
    "Their INVITE waits for our answer."
    ANSWERED = auto()
    "Our 2xx waits for their ACK."
    CALLING = auto()
    "Our INVITE waits for their answer."
    CANCELLING = auto()
    "We gave our INVITE up and wait for its end."
    ESTABLISHED = auto()
    ENDING = auto()
    "Our BYE waits for its answer."
    ENDED = auto()


# What may follow what; anything else is a bug of ours and raises.
PHASES: dict[Phase, frozenset[Phase]] = {
    Phase.INVITED: frozenset({Phase.ANSWERED, Phase.ENDED}),
    Phase.ANSWERED: frozenset({Phase.ESTABLISHED, Phase.ENDING, Phase.ENDED}),
    Phase.CALLING: frozenset({Phase.CANCELLING, Phase.ESTABLISHED, Phase.ENDED}),
    Phase.CANCELLING: frozenset({Phase.ESTABLISHED, Phase.ENDED}),
    Phase.ESTABLISHED: frozenset({Phase.ENDING, Phase.ENDED}),
    Phase.ENDING: frozenset({Phase.ENDED}),
    Phase.ENDED: frozenset(),
}


@dataclass(slots=True)
class PendingRequest:
    """An INVITE, re-INVITE or UPDATE of theirs that waits for `accept` or `reject`."""

    request: Request
    transaction: ServerTransaction


@dataclass(slots=True)
class Unacknowledged:
    """A 2xx of ours on its way; the user agent repeats it on every transport (RFC 3261 13.3.1.4)."""

    data: bytes
    flow: Flow
    target: tuple[str, int] | None
    cseq: int
    repeat: Backoff
    give_up_at: float
    has_offer: bool = False
    "The 2xx carried our offer: the ACK must bring the answer, until then INVITEs are refused with 491 (14.2)."


@dataclass(slots=True)
class Unconfirmed:
    """A provisional response of ours that waits for its PRACK (RFC 3262 section 3)."""

    data: bytes
    flow: Flow
    target: tuple[str, int] | None
    rseq: int
    cseq: int
    repeat: Backoff
    give_up_at: float


@dataclass(slots=True)
class OwnInvite:
    """An INVITE of ours."""

    transaction: ClientTransaction
    cseq: int
    is_initial: bool
    branch: str
    is_refresh: bool = False
    "Only keeps the session alive: nobody is told of its answer."
    is_cancelled: bool = False


@dataclass(slots=True)
class Dialog:
    """One call's signalling."""

    id: str
    call_id: str
    local_tag: str
    local: str
    "From value of our requests without tag."
    remote: str
    "To value of our requests without tag."
    flow: Flow
    phase: Phase
    remote_tag: str = ""
    remote_target: str = ""
    route_set: list[str] = field(default_factory=list)
    local_cseq: int = 0
    remote_cseq: int = -1
    contact: str = ""
    "Our Contact value, the same for the dialog's whole life."
    pending: PendingRequest | None = None
    early: PendingRequest | None = None
    "An UPDATE or PRACK of theirs with an offer, while their INVITE still waits: to be answered first."
    unconfirmed: Unconfirmed | None = None
    rings_until: float | None = None
    "When `Rung` is due; not before the PRACK where one is awaited."
    is_answered_early: bool = False
    "A reliable provisional response has carried our answer: the 2xx has none (RFC 6337 section 3.1.1)."
    unacknowledged: Unacknowledged | None = None
    own_invite: OwnInvite | None = None
    wants_bye: bool = False
    "`hang_up` came before the ACK: RFC 3261 section 15 forbids BYE until then."
    end_reason: EndReason = EndReason.LOCAL
    refresh_at: float | None = None
    "When we refresh the session (RFC 4028); None: the peer does, or nobody."
    expires_at: float | None = None
    "When the session is over unless it was refreshed."
    longest_interval: int = 0
    "Seconds that we grant at most and ask for; 0: no timer of our own."
    interval: int = 0
    "Session interval in seconds; 0: no timer."
    is_refresher: bool = False
    is_timer_agreed: bool = False
    "The peer knows of the timer, and has its own."
    peer_allows_update: bool = False
    is_astray: bool = False
    "The transport that the next hop's URI names led nowhere: requests go the way the dialog came."
    last_body: Body | None = None
    "Our latest session description, repeated by a re-INVITE that only refreshes."

    @property
    def key(self) -> tuple[str, str, str]:
        return self.call_id, self.local_tag, self.remote_tag

    def move(self, phase: Phase) -> None:
        """To the next phase. Raises ValueError for a move that PHASES does not have."""
        if phase not in PHASES[self.phase]:
            raise ValueError(f"{self.phase.name} to {phase.name}")
        self.phase = phase

    def take_pending(self) -> PendingRequest | None:
        """What is to be answered now, no longer pending."""
        pending = self.early or self.pending
        if self.early is not None:
            self.early = None
        else:
            self.pending = None
        return pending

    def deadline(self) -> float | None:
        """When the dialog itself wants a timer."""
        times = [at for at in (self.refresh_at, self.expires_at) if at is not None]
        if self.unacknowledged is not None:
            times += [self.unacknowledged.repeat.at, self.unacknowledged.give_up_at]
        if self.unconfirmed is not None:
            times += [self.unconfirmed.repeat.at, self.unconfirmed.give_up_at]
        elif self.rings_until is not None:
            times.append(self.rings_until)
        return min(times, default=None)

    def await_ack(
        self, data: bytes, transaction: ServerTransaction, cseq: int, now: float, *, has_offer: bool
    ) -> None:  # fmt: skip
        """From now on the 2xx is repeated the transaction's way until the ACK comes or 64*T1 have passed."""
        way = transaction.flow, transaction.target
        self.unacknowledged = Unacknowledged(data, *way, cseq, Backoff(now), now + GIVE_UP, has_offer)

    def refresh_target(self, message: Request | Response) -> None:
        """Contact of an INVITE, UPDATE or their 2xx replaces the remote target (12.2); the route set never changes."""
        contacts = message.headers.values("Contact")
        if contacts and (uri := parse_name_addr(contacts[0]).uri):
            self.remote_target = uri

    def build(
        self,
        method: str,
        branch: str,
        *,
        cseq: int,
        flow: Flow | None = None,
        body: Body | None = None,
        extra: list[tuple[str, str]] | None = None,
    ) -> bytes:
        """A request within the dialog (12.2.1.1). `flow`: if it leaves another way than the dialog came."""
        uri, routes = self.remote_target, list(self.route_set)
        if routes and "lr" not in _uri_params(routes[0]):
            # a strict router (RFC 2543) takes the Request-URI and hands the target on as last route
            uri, routes = parse_name_addr(routes[0]).uri, [*routes[1:], f"<{self.remote_target}>"]
        to_tag = f";tag={self.remote_tag}" if self.remote_tag else ""
        headers = [
            ("Via", via_line(flow or self.flow, branch)),
            *(("Route", route) for route in routes),
            ("Max-Forwards", "70"),
            ("From", f"{self.local};tag={self.local_tag}"),
            ("To", f"{self.remote}{to_tag}"),
            ("Call-ID", self.call_id),
            ("CSeq", f"{cseq} {method}"),
        ]
        if method in ("INVITE", "UPDATE"):
            headers += [("Contact", self.contact), ("Allow", ALLOW)]
        return serialise(
            f"{method} {uri} SIP/2.0", [*headers, *(extra or []), *content(body)], body.content if body else b""
        )

    @property
    def next_uri(self) -> str:
        """Of who gets the dialog's requests: the first route, else the remote target (12.2.1.1)."""
        return parse_name_addr(self.route_set[0]).uri if self.route_set else self.remote_target

    def next_transport(self) -> str:
        """What the next hop's URI asks for: tls for sips, else its transport parameter; the dialog's own where it asks
        for nothing that we speak. A dialog that came over TLS never leaves it (26.2.2)."""
        own, uri = self.flow.transport, self.next_uri
        if own == "tls" or scheme_of(uri) == "sips":
            return "tls"
        try:
            asked = host_port(uri)[2]
        except ValueError:
            return own
        return asked if asked in ("udp", "tcp", "tls") else own

    def next_address(self, transport: str = "") -> tuple[str, int] | None:
        """The first route's or the remote target's address. A host name stays one, with port 0 where none is given: it
        is resolved by who sends. `transport`: if it is not the dialog's own."""
        try:
            host, port, _ = host_port(self.next_uri)
        except ValueError:
            return None
        if is_address(host):
            return host, port or (5061 if (transport or self.flow.transport) == "tls" else 5060)
        return (host, port or 0) if host else None

    def next_hop(self) -> Flow:
        """Where the dialog's requests go: the first route or the remote target where that is an address, else the way
        the last message came, which is also where they go when a host name has no address. An open connection is kept
        (RFC 5923's spirit: SBCs reuse it)."""
        address = None if self.flow.is_reliable else self.next_address()
        return self.flow._replace(remote=address) if address and is_address(address[0]) else self.flow


def _uri_params(route: str) -> frozenset[str]:
    uri = parse_name_addr(route).uri
    return frozenset(part.partition("=")[0].lower() for part in split_outside(uri, ";")[1:])


def without_tag(value: str) -> str:
    """A From or To value with its tag parameter cut out, otherwise verbatim."""
    head, *params = split_outside(value, ";")
    kept = [param for param in params if param.partition("=")[0].strip().lower() != "tag"]
    return ";".join([head, *kept])


def name_addr(value: str) -> str:
    """`value` in angle brackets unless it has them."""
    return value if "<" in value else f"<{value}>"


def is_address(host: str) -> bool:
    """An IP address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def bracketed(host: str) -> str:
    """A host as URIs and Via want it."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def via_line(flow: Flow, branch: str) -> str:
    """Our Via, with rport (RFC 3581)."""
    host, port = flow.local
    return f"SIP/2.0/{flow.transport.upper()} {bracketed(host)}:{port};branch=z9hG4bK{branch};rport"


def content(body: Body | None) -> list[tuple[str, str]]:
    """Content-Type of a body, where there is one."""
    return [("Content-Type", body.content_type)] if body else []


def contact_value(flow: Flow, params: str = "", *, scheme: str = "sip") -> str:
    """Our Contact on a flow, with header parameters as they are. `scheme` sips where the request was (RFC 3261
    12.1.1)."""
    transport = "" if flow.transport == "udp" else f";transport={flow.transport}"
    return f"<{scheme}:callbridge@{bracketed(flow.local[0])}:{flow.local[1]}{transport}>{params}"
