"""The server side: requests that come in (RFC 3261 sections 8.2, 9.2, 11, 12.2.2, 13.3, 14.2, 15.1.2; RFC 3311)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.sip import early, response, timers
from bridge.sip.core import Core, merged_key, server_key
from bridge.sip.dialog import ALLOW, Dialog, PendingRequest, Phase, contact_value, without_tag
from bridge.sip.events import Accepted, Body, Confirmed, EndReason, Flow, IncomingCall, Information, Reoffer
from bridge.sip.message import Request
from bridge.sip.multipart import is_multipart
from bridge.sip.syntax import parse_name_addr, scheme_of
from bridge.sip.transaction import TRYING_AFTER, ServerTransaction

METHODS = frozenset({"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "UPDATE", "INFO", "PRACK"})
FOREIGN = {"REGISTER": 405, "MESSAGE": 405, "PUBLISH": 405, "SUBSCRIBE": 489, "NOTIFY": 489, "REFER": 603}
"Methods we know and do not serve."
SUPPORTED = frozenset({"siprec", "timer", "100rel"})
"""Option tags that a peer may require. 100rel: without a provisional response there is nothing to acknowledge (RFC 3262
section 3 asks for reliability of those only); one that is sent is sent reliably."""
BODIES = ("application/sdp", "multipart/mixed", "application/rs-metadata", "application/rs-metadata+xml")
"Accepted types of an INVITE's or UPDATE's body."
CAPABILITIES = [
    ("Allow", ALLOW),
    ("Accept", ", ".join(BODIES)),
    ("Accept-Encoding", "identity"),
    ("Accept-Language", "en"),
    ("Supported", "timer, siprec"),
]
RETRY_SOON = ("Retry-After", "2")
"Seconds; 0 to 10 by RFC 3261 14.2."


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request outside dialogs is not served. Status 0: dropped without a word."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)


Screen = Callable[[Request, Flow, float], Refusal | None]
"Judges a request outside dialogs, before anything is kept for it. Never asked about dialogs, ACK or CANCEL."


class Uas:
    """Takes requests. Everything outside dialogs that is refused is refused statelessly."""

    def __init__(self, core: Core, screen: Screen, hang_up: Callable[[Dialog, float], None]) -> None:
        self._core = core
        self._screen = screen
        self._hang_up = hang_up

    def receive(self, request: Request, flow: Flow, now: float) -> None:
        """One request that passed the parse."""
        if request.method == "ACK":
            self._receive_ack(request, now)
            return
        transaction = self._core.servers.get(server_key(request))
        if transaction is not None:
            transaction.receive_again()
            self._core.flush(transaction)
        elif request.method == "CANCEL":
            self._receive_cancel(request, flow, now)
        elif request.to.tag:
            self._receive_within(request, flow, now)
        else:
            self._receive_outside(request, flow, now)

    # -- outside dialogs -----------------------------------------------------------------------------------------

    def _receive_outside(self, request: Request, flow: Flow, now: float) -> None:
        refusal = self._inspect(request) or self._screen(request, flow, now)
        if refusal is not None:
            if refusal.status:
                self._core.answer_statelessly(request, flow, refusal.status, headers=refusal.headers)
            else:
                self._core.observer.dropped("screened")
        elif request.method == "OPTIONS":
            self._core.answer_statelessly(request, flow, 200, headers=[("Contact", contact_value(flow)), *CAPABILITIES])
        else:
            self._start_call(request, flow, now)

    def _inspect(self, request: Request) -> Refusal | None:
        """RFC 3261 8.2.1 to 8.2.3, in that order."""
        if refusal := foreign_method(request) or unserved_content(request):
            return refusal
        if scheme_of(request.uri) not in ("sip", "sips", "tel"):
            return Refusal(416)
        if request.method not in ("INVITE", "OPTIONS"):
            return Refusal(481)
        if merged_key(request) in self._core.merged:
            return Refusal(482)
        interval = timers.too_small(request)
        return Refusal(*interval) if interval else None

    def _start_call(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        # RFC 2543 peers may leave Contact out: then From is all we know (RFC 4475 3.4.1)
        contacts = request.headers.values("Contact") or [request.headers.get("From")]
        dialog = Dialog(
            id=core.make_token(),
            call_id=request.call_id,
            local_tag=core.make_token(),
            local=without_tag(request.headers.get("To")),
            remote=without_tag(request.headers.get("From")),
            flow=flow,
            phase=Phase.INVITED,
            remote_tag=request.from_.tag,
            remote_target=parse_name_addr(contacts[0]).uri,
            route_set=request.headers.values("Record-Route"),
            remote_cseq=request.cseq,
            peer_allows_update="update" in request.headers.tokens("Allow"),
            longest_interval=core.identity.session_expires,
        )
        transaction = core.add_server(server_key(request), request, flow)
        dialog.pending = PendingRequest(request, transaction)
        core.add_dialog(dialog)
        core.by_key[dialog.key] = dialog  # also of an RFC 2543 peer, whose From has no tag (RFC 3261 12.1.1)
        self._try_later(dialog, request, transaction, now)
        core.events.append(IncomingCall(dialog.id, request, flow))

    def _try_later(self, dialog: Dialog, request: Request, transaction: ServerTransaction, now: float) -> None:
        transaction.dialog, transaction.to_tag = dialog.id, dialog.local_tag
        if request.method == "INVITE":
            transaction.try_at(now + TRYING_AFTER, response.build(request, 100, vias=transaction.vias))
        self._core.flush(transaction)

    # -- ACK and CANCEL ------------------------------------------------------------------------------------------

    def _receive_ack(self, request: Request, now: float) -> None:
        transaction = self._core.servers.get(server_key(request, "INVITE"))
        if transaction is not None and transaction.receive_ack(now):
            self._core.flush(transaction)
            return
        dialog = self._core.find_dialog(request)
        if dialog is None or dialog.unacknowledged is None or dialog.unacknowledged.cseq != request.cseq:
            return  # a repeat, or a stray one: ACK is never answered
        dialog.unacknowledged = None
        if dialog.phase is Phase.ANSWERED:
            dialog.move(Phase.ESTABLISHED)
        self._core.events.append(Confirmed(dialog.id, request))
        self._core.watch(dialog)
        if dialog.wants_bye and dialog.phase is Phase.ESTABLISHED:
            self._hang_up(dialog, now)

    def _receive_cancel(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        invite = core.servers.get(server_key(request, "INVITE"))
        if invite is None:
            core.answer_statelessly(request, flow, 481)
            return
        dialog = core.dialogs.get(invite.dialog)
        transaction = core.add_server(server_key(request), request, flow)
        if dialog is None or dialog.pending is None or dialog.pending.transaction is not invite:
            # answered already: CANCEL has no effect on that (9.2)
            headers = [("Server", core.identity.user_agent)]
            data = response.build(request, 200, vias=transaction.vias, to_tag=invite.to_tag, headers=headers)
            transaction.respond(data, 200, now)
            core.flush(transaction)
            return
        core.respond(dialog, request, transaction, 200, now)
        if dialog.phase is Phase.INVITED:
            core.end(dialog, EndReason.CANCELLED, now)
        else:
            self._terminate_pending(dialog, now)

    def _terminate_pending(self, dialog: Dialog, now: float) -> None:
        pending, dialog.pending = dialog.pending, None
        if pending is not None:
            self._core.respond(dialog, pending.request, pending.transaction, 487, now)

    # -- within dialogs ------------------------------------------------------------------------------------------

    def _receive_within(self, request: Request, flow: Flow, now: float) -> None:
        core = self._core
        dialog = core.find_dialog(request)
        if dialog is None:
            status = 501 if request.method not in METHODS and request.method not in FOREIGN else 481
            core.answer_statelessly(request, flow, status)
            return
        if dialog.flow.transport == "tls" and flow.transport != "tls":
            core.answer_statelessly(request, flow, 403)  # who began over TLS is not moved to the clear by anybody
            return
        transaction = core.add_server(server_key(request), request, flow)
        if request.cseq <= dialog.remote_cseq:
            core.respond(dialog, request, transaction, 500, now)  # out of order, 12.2.2
            return
        dialog.remote_cseq, dialog.flow = request.cseq, flow
        if refusal := foreign_method(request) or unserved_content(request):
            core.respond(dialog, request, transaction, refusal.status, now, headers=refusal.headers)
        elif request.method == "BYE":
            core.respond(dialog, request, transaction, 200, now)
            core.end(dialog, EndReason.BYE if dialog.phase is not Phase.ENDING else dialog.end_reason, now)
        elif request.method in ("INVITE", "UPDATE"):
            self._receive_offer(dialog, request, transaction, now)
        elif request.method == "PRACK":
            early.receive_prack(core, dialog, request, transaction, now)
        else:
            core.respond(
                dialog, request, transaction, 200, now, headers=CAPABILITIES if request.method == "OPTIONS" else []
            )
            if request.method == "INFO":
                core.events.append(Information(dialog.id, request))

    def _receive_offer(self, dialog: Dialog, request: Request, transaction: ServerTransaction, now: float) -> None:
        if refusal := glare(dialog, request) or timers.too_small(request):
            status, headers = refusal
            self._core.respond(dialog, request, transaction, status, now, headers=headers)
            return
        if dialog.phase is Phase.INVITED:
            dialog.early = PendingRequest(request, transaction)
        else:
            dialog.pending = PendingRequest(request, transaction)
        if request.method == "UPDATE" and not request.body:
            self.accept(dialog, None, now, is_told=True)  # refreshes target and timer, nothing to decide (RFC 4028 7.4)
            return
        self._try_later(dialog, request, transaction, now)
        self._core.events.append(Reoffer(dialog.id, request))

    # -- answers -------------------------------------------------------------------------------------------------

    def accept(
        self, dialog: Dialog, body: Body | None, now: float, *, contact_params: str = "",
        session_expires: int | None = None, is_told: bool = False,
    ) -> None:  # fmt: skip
        """200 to what is pending, if anything still is. `is_told`: without `Accepted`."""
        dialog.longest_interval = dialog.longest_interval if session_expires is None else session_expires
        pending = dialog.take_pending()
        if pending is None:
            return
        core, request, transaction = self._core, pending.request, pending.transaction
        is_initial = dialog.phase is Phase.INVITED and request.method == "INVITE"
        if is_initial:
            early.own_contact(dialog, request, contact_params)
            dialog.move(Phase.ANSWERED)
            dialog.unconfirmed = dialog.rings_until = None
            body = None if dialog.is_answered_early else body
        else:
            dialog.refresh_target(request)
        dialog.last_body = body or dialog.last_body
        headers = [("Contact", dialog.contact), ("Allow", ALLOW), ("Supported", "timer, siprec")]
        if dialog.phase is not Phase.INVITED:  # the INVITE's 2xx says what the timer is
            headers += timers.grant(dialog, request, now)
        data = core.respond(dialog, request, transaction, 200, now, headers=headers, body=body)
        if request.method == "INVITE":
            has_offer = body is not None and not request.body
            dialog.await_ack(data, transaction, request.cseq, now, has_offer=has_offer)
        core.watch(dialog)
        if not is_told:
            core.events.append(Accepted(dialog.id, is_initial))


def glare(dialog: Dialog, request: Request) -> tuple[int, list[tuple[str, str]]] | None:
    """Offers that cross (RFC 3261 14.2, RFC 3311 5.2)."""
    if dialog.phase in (Phase.ENDING, Phase.ENDED):
        return 481, []
    if dialog.phase is Phase.INVITED and request.method == "UPDATE" and dialog.early is None:
        return None if dialog.is_answered_early or not request.body else (500, [RETRY_SOON])
    if dialog.pending is not None:
        return 500, [RETRY_SOON]
    if dialog.own_invite is not None or (dialog.unacknowledged is not None and dialog.unacknowledged.has_offer):
        return 491, []
    return None


def foreign_method(request: Request) -> Refusal | None:
    """405 with Allow, 489, 603 for what we know, 501 for what nobody knows (8.2.1)."""
    if request.method in METHODS:
        return None
    status = FOREIGN.get(request.method, 501)
    return Refusal(status, [("Allow", ALLOW)] if status in (405, 501) else [("Allow-Events", "")] * (status == 489))


def unserved_content(request: Request) -> Refusal | None:
    """420 for extensions, 415 for a body, 406 for what they would accept (8.2.2.3, 8.2.3)."""
    if request.method in ("CANCEL", "ACK"):
        return None
    required = request.headers.values("Require")
    unknown = [tag for tag in required if tag.lower() not in SUPPORTED]
    if unknown:
        return Refusal(420, [("Unsupported", ", ".join(unknown))])
    if request.method not in ("INVITE", "UPDATE"):
        return None
    coding = request.headers.get("Content-Encoding", "identity").lower()
    is_read = request.content_type in BODIES or is_multipart(request.content_type)
    is_optional = "handling=optional" in request.headers.get("Content-Disposition").lower().replace(" ", "")
    if request.body and (not is_read or coding != "identity") and not is_optional:  # RFC 3261 20.11
        return Refusal(415, [("Accept", ", ".join(BODIES)), ("Accept-Encoding", "identity")])
    accepted = [value.partition(";")[0].strip().lower() for value in request.headers.values("Accept")]
    if accepted and not any(value in ("application/sdp", "application/*", "*/*") for value in accepted):
        return Refusal(406)
    return None
