"""Before the answer: a provisional response, sent reliably where the peer can take it so (RFC 3262), and what the peer
may send meanwhile: PRACK, and UPDATE (RFC 3311)."""

from __future__ import annotations

import zlib

from bridge.sip.core import Core
from bridge.sip.dialog import ALLOW, Dialog, PendingRequest, Phase, Unconfirmed, contact_value
from bridge.sip.events import Body, EndReason, Reoffer, Rung
from bridge.sip.message import Request
from bridge.sip.syntax import scheme_of
from bridge.sip.transaction import GIVE_UP, Backoff, ServerTransaction

NOT_CONFIRMED = 504
"What an INVITE gets whose reliable provisional response was never acknowledged; RFC 3262 section 3 asks for a 5xx."
RSEQ_MOST = 2**31 - 1  # RFC 3262 section 3


def own_contact(dialog: Dialog, request: Request, params: str) -> str:
    """Our Contact for a dialog that `request` opens; the same in each of its responses."""
    if not dialog.contact:
        scheme = "sips" if scheme_of(request.uri) == "sips" else "sip"
        dialog.contact = contact_value(dialog.flow, params, scheme=scheme)
    return dialog.contact


def ring(
    core: Core, dialog: Dialog, status: int, now: float, *, until: float, body: Body | None, contact_params: str
) -> None:
    """See `Endpoint.ring`."""
    pending = dialog.pending
    if pending is None or dialog.phase is not Phase.INVITED or dialog.rings_until is not None:
        return
    request = pending.request
    headers = [("Contact", own_contact(dialog, request, contact_params)), ("Allow", ALLOW)]
    is_reliable = "100rel" in request.headers.tokens("Supported") | request.headers.tokens("Require")
    rseq = 1 + zlib.crc32(core.make_token().encode()) % RSEQ_MOST
    if is_reliable:
        headers += [("Require", "100rel"), ("RSeq", str(rseq))]
    data = core.respond(dialog, request, pending.transaction, status, now, headers=headers, body=body)
    if is_reliable:
        repeat = Backoff(now, limit=GIVE_UP)  # T1, doubled for each repeat
        way = pending.transaction.flow, pending.transaction.target
        dialog.unconfirmed = Unconfirmed(data, *way, rseq, request.cseq, repeat, now + GIVE_UP)
        dialog.is_answered_early = body is not None
        dialog.last_body = body
    dialog.rings_until = until
    _look(core, dialog, now)


def receive_prack(core: Core, dialog: Dialog, request: Request, transaction: ServerTransaction, now: float) -> None:
    """200 where it acknowledges what waits for it, else 481. An offer in it is answered in its 200 (section 5)."""
    waiting = dialog.unconfirmed
    said = request.headers.get("RAck").split()
    if waiting is None or said != [str(waiting.rseq), str(waiting.cseq), "INVITE"]:
        core.respond(dialog, request, transaction, 481, now)
        return
    dialog.unconfirmed = None
    if not request.body:
        core.respond(dialog, request, transaction, 200, now)
    elif not dialog.is_answered_early:
        core.respond(dialog, request, transaction, 488, now)  # a second offer before the answer to the first
    else:
        dialog.early = PendingRequest(request, transaction)
        core.events.append(Reoffer(dialog.id, request))
    _look(core, dialog, now)


def handle_timer(core: Core, dialog: Dialog, now: float) -> None:
    """Repeats what was not acknowledged, gives up after 64*T1, and says when it has rung."""
    waiting = dialog.unconfirmed
    if waiting is None:
        _look(core, dialog, now)
    elif now >= waiting.give_up_at:
        pending, dialog.pending = dialog.pending, None
        if pending is not None:
            core.respond(dialog, pending.request, pending.transaction, NOT_CONFIRMED, now)
        core.end(dialog, EndReason.TIMEOUT, now)
    elif now >= waiting.repeat.at:
        waiting.repeat.advance()
        core.send(waiting.data, waiting.flow, waiting.target)


def _look(core: Core, dialog: Dialog, now: float) -> None:
    if dialog.unconfirmed is None and dialog.rings_until is not None and now >= dialog.rings_until:
        dialog.rings_until = None
        core.events.append(Rung(dialog.id))
    core.watch(dialog)
