"""The SIP endpoint, sans-IO: a UAS and a UAC in one. Told what arrived and what time it is, answers with messages to
send and events. RFC 3261 as fixed by RFC 6026; bridge.net.sip_transports.SipDriver is its only skin.

The rule of use: call one method, then drain both `take_outgoing` and `take_events`, then sleep until `deadline()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.errors import InvalidState
from bridge.sip import early
from bridge.sip.core import Core, Identity, LocalFor, Observer, Timed, Uncounted, method_label
from bridge.sip.dialog import Dialog, Phase
from bridge.sip.events import Body, EndReason, Event, Flow, Outgoing
from bridge.sip.message import BadMessage, Request, parse
from bridge.sip.transaction import ClientTransaction, State
from bridge.sip.uac import Uac
from bridge.sip.uas import Refusal, Screen, Uas

__all__ = ["Endpoint", "Identity", "Observer", "Refusal"]

HANG_UP_UNANSWERED = 480
"What an INVITE gets whose call we end before answering it."


def serve_all(request: Request, flow: Flow, now: float) -> Refusal | None:
    """The screen of an endpoint that has none."""
    return None


class Endpoint:
    """All dialogs and transactions of one process."""

    def __init__(
        self, identity: Identity, *, make_token: Callable[[], str], screen: Screen = serve_all,
        observer: Observer | None = None,
    ) -> None:  # fmt: skip
        """`make_token` gives a fresh random string of letters and digits, at least 64 bits strong, at each call: for
        tags, branches and Call-IDs (counters in tests). `screen` may refuse requests outside dialogs."""
        self._core = Core(identity, make_token, observer or Uncounted())
        self._uac = Uac(self._core)
        self._uas = Uas(self._core, screen, lambda dialog, now: self._uac.bye(dialog, dialog.end_reason, now))

    # -- the wire ------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one message as cut by `framing.StreamFramer`. Never raises: what cannot be answered is
        told to the observer and dropped."""
        try:
            message = parse(data, is_stream=flow.is_reliable)
        except BadMessage as bad:
            if bad.request is None:
                self._core.observer.dropped("malformed")
            else:
                self._core.observer.request(method_label(bad.request))
                self._core.answer_statelessly(bad.request, flow, bad.status, reason=_phrase(bad.reason))
            return
        if isinstance(message, Request):
            self._core.observer.request(method_label(message))
            self._uas.receive(message, flow, now)
        else:
            self._uac.receive(message, flow, now)

    def speak_from(self, local_for: LocalFor) -> None:
        """On which transports, and from where, requests may leave that did not come that way: what the peers' Contacts
        name. Without, every request leaves the way its dialog came."""
        self._core.local_for = local_for

    def lost(self, data: bytes, now: float) -> None:
        """A message of `take_outgoing` could not be sent. A request goes another way if there is one."""
        if not data.startswith(b"SIP/2.0"):
            self._uac.lost(data, now)

    def take_outgoing(self) -> list[Outgoing]:
        """Messages to send now, in order."""
        taken, self._core.outgoing = self._core.outgoing, []
        return taken

    def take_events(self) -> list[Event]:
        """What happened, in order."""
        taken, self._core.events = self._core.events, []
        return taken

    @property
    def n_dialogs(self) -> int:
        """Dialogs that are not over."""
        return len(self._core.dialogs)

    @property
    def n_transactions(self) -> int:
        """Transactions still kept, lingering ones too."""
        return len(self._core.servers) + len(self._core.clients)

    # -- time ----------------------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called, monotonic seconds."""
        return self._core.deadline()

    def handle_timer(self, now: float) -> None:
        """Re-sends and gives up what is due."""
        while (timed := self._core.pop_due(now)) is not None:
            if isinstance(timed, Dialog):
                self._dialog_timer(timed, now)
            else:
                self._transaction_timer(timed, now)

    def _transaction_timer(self, timed: Timed, now: float) -> None:
        assert not isinstance(timed, Dialog)
        timed.handle_timer(now)
        if isinstance(timed, ClientTransaction) and timed.has_timed_out:
            self._uac.timed_out(timed, now)
        if isinstance(timed, ClientTransaction) and timed.state is State.TERMINATED:
            self._uac.forget(timed)
        self._core.flush(timed)

    def _dialog_timer(self, dialog: Dialog, now: float) -> None:
        waiting = dialog.unacknowledged
        if dialog.phase is Phase.INVITED:
            early.handle_timer(self._core, dialog, now)
        elif waiting is not None and now >= waiting.give_up_at:
            # no ACK for 64*T1: the session is ended with a BYE (RFC 3261 13.3.1.4)
            self._uac.bye(dialog, EndReason.TIMEOUT, now)
        elif waiting is not None and now >= waiting.repeat.at:
            waiting.repeat.advance()
            self._core.send(waiting.data, waiting.flow, waiting.target)
        elif dialog.expires_at is not None and now >= dialog.expires_at:
            self._uac.bye(dialog, EndReason.TIMEOUT, now)
        elif dialog.refresh_at is not None and now >= dialog.refresh_at:
            self._uac.refresh(dialog, now)
        self._core.watch(dialog)

    # -- calls that come in (after IncomingCall), and offers within a call (after Reoffer) -----------------------

    def ring(
        self, dialog: str, status: int, now: float, *, until: float, body: Body | None = None, contact_params: str = ""
    ) -> None:  # fmt: skip
        """180 or 183 to the pending INVITE before its answer; reliably, and repeated until the PRACK, where the peer
        supports that (RFC 3262). `body`: the answer to its offer, the same that `accept` gets; not for an INVITE
        without an offer. `Rung` follows at `until` and not before the PRACK, and is to be answered; without a PRACK for
        64*T1 comes `Ended`. At most once for a call."""
        found = self._core.dialogs.get(dialog)
        if found is not None:
            early.ring(self._core, found, status, now, until=until, body=body, contact_params=contact_params)

    def accept(
        self, dialog: str, body: Body | None, now: float, *, contact_params: str = "",
        session_expires: int | None = None,
    ) -> None:  # fmt: skip
        """200 to the pending INVITE, re-INVITE or UPDATE; that to an INVITE is re-sent until the ACK. `Accepted`
        follows at once. `contact_params` such as `;+sip.srs`; `session_expires` is that of `Identity` for this
        dialog. Ignored when the request was cancelled meanwhile (`Ended` tells)."""
        found = self._core.dialogs.get(dialog)
        if found is not None:
            self._uas.accept(found, body, now, contact_params=contact_params, session_expires=session_expires)

    def reject(self, dialog: str, status: int, now: float, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        """A final non-2xx to the pending request, with further headers such as ("Retry-After", "5"). A rejected
        initial INVITE ends the dialog without `Ended`."""
        found = self._core.dialogs.get(dialog)
        pending = found.take_pending() if found is not None else None
        if found is None or pending is None:
            return
        self._core.respond(found, pending.request, pending.transaction, status, now, headers=list(headers))
        if found.phase is Phase.INVITED and pending.request.method == "INVITE":
            self._core.end(found, EndReason.LOCAL, now, is_told=True)

    # -- calls that we place -------------------------------------------------------------------------------------

    def invite(
        self, target: str, flow: Flow, now: float, *, from_: str, to: str = "", body: Body | None = None,
        headers: Sequence[tuple[str, str]] = (), contact_params: str = "",
    ) -> str:  # fmt: skip
        """Sends an INVITE to `target` (a SIP URI) over `flow` and returns the dialog's id. `from_` and `to` are SIP
        URIs or name-addrs without tag; `to` defaults to the target; `contact_params` such as `;+sip.src`. The offer
        is in the INVITE: `body` is sent as it is. Then come Progress, Answered or Refused, Ended."""
        made = self._uac.invite(
            target, flow, now, from_=from_, to=to, body=body, headers=headers, contact_params=contact_params
        )
        return made.id

    def reinvite(self, dialog: str, body: Body | None, now: float) -> None:
        """A new offer within an established dialog. Answered or Refused (491: the peer offered at the same time) with
        `is_initial` False. Raises InvalidState while an INVITE of ours is pending or the dialog is not established."""
        found = self._core.dialogs.get(dialog)
        if found is None:
            raise InvalidState("re-INVITE without a dialog")
        self._uac.reinvite(found, body, now)

    def update(self, dialog: str, body: Body, now: float, *, headers: Sequence[tuple[str, str]] = ()) -> bool:
        """An UPDATE whose body is no offer, such as a request for metadata; nothing is told of its answer. False: the
        dialog is not established, or the peer did not list UPDATE in Allow."""
        found = self._core.dialogs.get(dialog)
        return found is not None and self._uac.update(found, body, now, headers)

    def hang_up(self, dialog: str, now: float, *, reason: EndReason = EndReason.LOCAL) -> None:
        """BYE; before the answer CANCEL, or 480 to their INVITE; `Ended(reason)` follows when the peer has confirmed or
        32 s have passed. Idempotent; unknown ids are ignored."""
        found = self._core.dialogs.get(dialog)
        if found is None:
            return
        if found.phase is Phase.INVITED:
            while (pending := found.take_pending()) is not None:
                self._core.respond(found, pending.request, pending.transaction, HANG_UP_UNANSWERED, now)
            self._core.end(found, reason, now)
        elif found.phase in (Phase.CALLING, Phase.CANCELLING):
            self._uac.cancel(found, now)
        elif found.phase is Phase.ESTABLISHED or (found.phase is Phase.ANSWERED and found.unacknowledged is None):
            self._uac.bye(found, reason, now)
        elif found.phase is Phase.ANSWERED:
            # RFC 3261 section 15: no BYE before the ACK; Uas sends it then, the 64*T1 timer otherwise
            found.wants_bye, found.end_reason = True, reason


def _phrase(reason: str) -> str:
    """A reason phrase that fits a status line."""
    return "".join(char for char in reason if char.isprintable())[:80]
