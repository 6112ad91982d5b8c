"""What the UAS and the UAC share: transactions, dialogs, timers, and what is to be sent."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from bridge.sip import response
from bridge.sip.dialog import Dialog, Phase, is_address
from bridge.sip.events import Body, Ended, EndReason, Event, Flow, Outgoing
from bridge.sip.message import KNOWN_METHODS, Request
from bridge.sip.transaction import ClientTransaction, ServerTransaction, State

ServerKey = tuple[str, ...]
ClientKey = tuple[str, str]
Timed = ServerTransaction | ClientTransaction | Dialog
Address = tuple[str, int]
LocalFor = Callable[[str, str], Address | None]
"Our address on a transport (udp, tcp, tls), as a remote host sees it; None: we do not speak that there."


@dataclass(frozen=True, slots=True)
class Identity:
    """How we present ourselves."""

    user_agent: str = "callbridge"
    session_expires: int = 0
    "Seconds: the session timer we grant at most and ask for where a peer supports it (RFC 4028). 0: only what it asks."


class Observer(Protocol):
    """Who counts what passes; called once per message, never with anything a peer could invent at will but `method`."""

    def request(self, method: str) -> None: ...

    def response(self, method: str, status: int) -> None:
        """One of ours, repeats not counted."""

    def dropped(self, reason: str) -> None:
        """malformed, unknown_response or screened."""


class Uncounted:
    """The observer of an endpoint that has none."""

    def request(self, method: str) -> None: ...

    def response(self, method: str, status: int) -> None: ...

    def dropped(self, reason: str) -> None: ...


class Core:
    """The state that both sides of the endpoint work on. No decisions here but how to find and forget."""

    def __init__(self, identity: Identity, make_token: Callable[[], str], observer: Observer) -> None:
        self.identity = identity
        self.observer = observer
        self.make_token = make_token
        self.local_for: LocalFor = lambda transport, host: None
        self.outgoing: list[Outgoing] = []
        self.events: list[Event] = []
        self.servers: dict[ServerKey, ServerTransaction] = {}
        self.merged: dict[tuple[str, str, str], ServerKey] = {}
        "From tag, Call-ID and CSeq of running requests without To tag (RFC 3261 8.2.2.2)."
        self.clients: dict[ClientKey, ClientTransaction] = {}
        self.dialogs: dict[str, Dialog] = {}
        self.by_key: dict[tuple[str, str, str], Dialog] = {}
        self._heap: list[tuple[float, int, Timed]] = []
        self._n = 0
        self._forget: dict[int, Callable[[], None]] = {}

    # -- timers --------------------------------------------------------------------------------------------------

    def watch(self, timed: Timed) -> None:
        """(Re)arms a transaction's or dialog's timer: to be called after every change of it."""
        at = timed.deadline()
        if at is not None:
            self._n += 1
            heapq.heappush(self._heap, (at, self._n, timed))

    def deadline(self) -> float | None:
        """The earliest timer."""
        while self._heap and self._heap[0][2].deadline() != self._heap[0][0]:
            heapq.heappop(self._heap)  # moved or ended since
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> Timed | None:
        """The next one whose time has come."""
        at = self.deadline()
        return heapq.heappop(self._heap)[2] if at is not None and at <= now else None

    # -- sending -------------------------------------------------------------------------------------------------

    def send(self, data: bytes, flow: Flow, target: tuple[str, int] | None = None) -> None:
        self.outgoing.append(Outgoing(data, flow, target))

    def way(self, dialog: Dialog) -> tuple[Flow, Address | None]:
        """Where a request within the dialog goes, and where to connect if nothing is open: by the transport that the
        peer's Contact or Record-Route names (RFC 3261 12.2.1.1, 18.1.1), else the way the dialog came."""
        transport = dialog.next_transport()
        if transport == dialog.flow.transport:
            return dialog.next_hop(), dialog.next_address()
        address = dialog.next_address(transport)
        if address is None or dialog.is_astray:
            return self.way_back(dialog)
        host = address[0] if is_address(address[0]) else dialog.flow.remote[0]
        local = self.local_for(transport, host)
        if local is None:
            return self.way_back(dialog)
        # a name is resolved by who sends; an open connection with the same host serves too
        return Flow(transport, local, address if is_address(address[0]) else dialog.flow.remote), address

    def way_back(self, dialog: Dialog) -> tuple[Flow, Address | None]:
        """The way the dialog came, whatever its URIs say: the source of its last request, or its connection."""
        return dialog.flow, dialog.next_address() if dialog.flow.is_reliable else None

    def flush(self, transaction: ServerTransaction | ClientTransaction) -> None:
        """Sends what a transaction has put out and re-arms it; forgets it at its end."""
        for data in transaction.output:
            self.send(data, transaction.flow, transaction.target)
        transaction.output.clear()
        if transaction.state is State.TERMINATED:
            forget = self._forget.pop(id(transaction), None)
            if forget:
                forget()
        else:
            self.watch(transaction)

    def answer_statelessly(
        self,
        request: Request,
        flow: Flow,
        status: int,
        *,
        headers: list[tuple[str, str]] | None = None,
        reason: str = "",
    ) -> None:
        """One response and nothing kept (RFC 3261 8.2.7): refusals and OPTIONS. A lost one is cured by the repeat."""
        if request.method == "ACK":
            return
        self.observer.response(method_label(request), status)
        lines = [*(headers or []), ("Server", self.identity.user_agent)]
        data = response.build(
            request,
            status,
            vias=response.via_lines(request, flow),
            to_tag=response.stateless_tag(request),
            headers=lines,
            reason=reason,
        )
        self.send(data, response.response_flow(request, flow))

    def respond(
        self,
        dialog: Dialog,
        request: Request,
        transaction: ServerTransaction,
        status: int,
        now: float,
        *,
        headers: list[tuple[str, str]] | None = None,
        body: Body | None = None,
    ) -> bytes:
        """A response within a transaction and with the dialog's tag."""
        lines = [*(headers or []), ("Server", self.identity.user_agent)]
        data = response.build(
            request,
            status,
            vias=transaction.vias,
            to_tag=dialog.local_tag,
            headers=lines,
            body=body,
        )
        if transaction.respond(data, status, now):
            self.observer.response(method_label(request), status)
        self.flush(transaction)
        return data

    # -- finding and forgetting ----------------------------------------------------------------------------------

    def add_server(self, key: ServerKey, request: Request, flow: Flow) -> ServerTransaction:
        transaction = ServerTransaction(response.response_flow(request, flow), is_invite=request.method == "INVITE")
        transaction.vias = response.via_lines(request, flow)
        transaction.target = response.response_address(request, flow)
        self.servers[key] = transaction
        merged = merged_key(request)
        if not request.to.tag:
            self.merged[merged] = key

        def forget() -> None:
            self.servers.pop(key, None)
            if self.merged.get(merged) == key:
                del self.merged[merged]

        self._forget[id(transaction)] = forget
        return transaction

    def add_client(self, branch: str, method: str, transaction: ClientTransaction) -> None:
        key = (f"z9hG4bK{branch}", method)
        self.clients[key] = transaction

        def forget() -> None:
            self.clients.pop(key, None)

        self._forget[id(transaction)] = forget

    def add_dialog(self, dialog: Dialog) -> None:
        self.dialogs[dialog.id] = dialog
        if dialog.remote_tag:
            self.by_key[dialog.key] = dialog

    def find_dialog(self, request: Request) -> Dialog | None:
        """The dialog a request belongs to, seen from our side (12.2.2)."""
        return self.by_key.get((request.call_id, request.to.tag, request.from_.tag))

    def end(self, dialog: Dialog, reason: EndReason, now: float, *, is_told: bool = False) -> None:
        """The dialog is over: forgets it and, unless `is_told` already, says so."""
        if dialog.phase is Phase.ENDED:
            return
        for pending in (dialog.early, dialog.pending):
            if pending is not None:  # 15.1.2: what still waits is terminated
                self.respond(dialog, pending.request, pending.transaction, 487, now)
        dialog.early = dialog.pending = None
        dialog.move(Phase.ENDED)
        dialog.unacknowledged = dialog.refresh_at = dialog.expires_at = None
        dialog.unconfirmed = dialog.rings_until = None
        self.dialogs.pop(dialog.id, None)
        self.by_key.pop(dialog.key, None)
        if not is_told:
            self.events.append(Ended(dialog.id, reason))


def method_label(request: Request) -> str:
    """The method, or `other` for one that nobody knows."""
    return request.method if request.method in KNOWN_METHODS else "other"


def merged_key(request: Request) -> tuple[str, str, str]:
    """What makes two copies of one request, RFC 3261 8.2.2.2."""
    return request.from_.tag, request.call_id, request.headers.get("CSeq")


def server_key(request: Request, method: str = "") -> ServerKey:
    """How a request finds its transaction (17.2.3); `method` INVITE for an ACK or CANCEL."""
    via, method = request.via, method or request.method
    if via.branch.startswith("z9hG4bK") and len(via.branch) > len("z9hG4bK"):
        return via.branch, via.sent_by, method
    # RFC 2543 peers have no unique branch
    top = request.headers.get("Via")
    to_tag = request.to.tag if method != "INVITE" else ""
    return request.uri, to_tag, request.from_.tag, request.call_id, str(request.cseq), method, top
