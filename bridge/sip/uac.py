"""The client side: our INVITE, ACK, CANCEL, re-INVITE, UPDATE, BYE and OPTIONS, and the responses to them (RFC 3261
sections 9.1, 13.2, 14.1 and 15.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.errors import InvalidState
from bridge.sip import timers
from bridge.sip.ack import ack_of_failure, dict_lines
from bridge.sip.core import Core
from bridge.sip.dialog import Dialog, OwnInvite, Phase, contact_value, name_addr
from bridge.sip.events import Answered, Body, EndReason, Flow, Progress, Refused
from bridge.sip.message import Response
from bridge.sip.syntax import parse_name_addr, parse_via
from bridge.sip.transaction import GIVE_UP, ClientTransaction, State

GONE = (408, 481)
NOBODY = "Nobody Answered"  # the reason of a 408 of our own: no peer said it
"""What ends a dialog when a request within it gets it (RFC 3261 12.2.1.2, RFC 4028 section 10). By RFC 5057 404, 480
and more would end it too; SBCs answer an OPTIONS within a call with those while the call goes on."""
REFRESH_AGAIN = 10.0  # s; after a refresh that was refused, 491 or 500 mostly (RFC 3261 14.1 has 2 to 4 s for glare)
OnFinal = Callable[[int, Response | None, float], None]


class Uac:
    """Sends requests and takes their responses."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._finals: dict[int, OnFinal] = {}
        "What to do with the final response of a non-INVITE transaction, by id; called with 408 when nobody answers."
        self._invites: dict[int, Dialog] = {}

    # -- requests ------------------------------------------------------------------------------------------------

    def invite(
        self, target: str, flow: Flow, now: float, *, from_: str, to: str, body: Body | None,
        headers: Sequence[tuple[str, str]], contact_params: str,
    ) -> Dialog:  # fmt: skip
        """A new dialog with its INVITE on the way."""
        core = self._core
        dialog = Dialog(
            id=core.make_token(),
            call_id=core.make_token(),
            local_tag=core.make_token(),
            local=name_addr(from_),
            remote=name_addr(to or target),
            flow=flow,
            phase=Phase.CALLING,
            remote_target=target,
            contact=contact_value(flow, contact_params),
            last_body=body,
        )
        core.add_dialog(dialog)
        self._send_invite(dialog, body, now, is_initial=True, extra=headers)
        return dialog

    def reinvite(self, dialog: Dialog, body: Body | None, now: float) -> None:
        """A further offer. Raises InvalidState in a wrong phase or while an INVITE of ours is pending."""
        if dialog.phase is not Phase.ESTABLISHED or dialog.own_invite is not None:
            raise InvalidState(f"re-INVITE while {dialog.phase.name.lower()}")
        self._send_invite(dialog, body, now, is_initial=False)

    def _send_invite(
        self, dialog: Dialog, body: Body | None, now: float, *, is_initial: bool, extra: Sequence[tuple[str, str]] = ()
    ) -> None:
        dialog.local_cseq += 1
        branch = self._core.make_token()
        lines = [("Supported", "timer"), *extra, ("User-Agent", self._core.identity.user_agent)]

        def build(flow: Flow) -> bytes:
            return dialog.build("INVITE", branch, cseq=dialog.local_cseq, flow=flow, body=body, extra=lines)

        if is_initial:
            transaction = ClientTransaction(build(dialog.flow), dialog.flow, now, is_invite=True)
        else:
            transaction = self._within(dialog, build, now, is_invite=True)
        dialog.own_invite = OwnInvite(transaction, dialog.local_cseq, is_initial, branch)
        dialog.last_body = body or dialog.last_body
        self._invites[id(transaction)] = dialog
        self._core.add_client(branch, "INVITE", transaction)
        self._core.flush(transaction)

    def bye(self, dialog: Dialog, reason: EndReason, now: float) -> None:
        """BYE; the dialog ends when it is answered or given up."""
        dialog.move(Phase.ENDING)
        dialog.end_reason, dialog.unacknowledged = reason, None
        timers.start(dialog, 0, is_refresher=False, now=now)
        self.request(dialog, "BYE", now, on_final=lambda *seen: self._core.end(dialog, dialog.end_reason, seen[2]))

    def cancel(self, dialog: Dialog, now: float) -> None:
        """Gives our INVITE up. CANCEL waits for a first provisional response (9.1)."""
        own = dialog.own_invite
        if own is None:
            return
        if dialog.phase is Phase.CALLING:
            dialog.move(Phase.CANCELLING)
        if own.transaction.state is not State.PROCEEDING or own.is_cancelled:
            return
        own.is_cancelled = True
        # CANCEL copies the INVITE's branch, Request-URI and CSeq number
        data = dialog.build("CANCEL", own.branch, cseq=own.cseq)
        transaction = ClientTransaction(data, own.transaction.flow, now, is_invite=False)
        self._core.add_client(own.branch, "CANCEL", transaction)
        self._core.flush(transaction)
        own.transaction.give_up_at(now + GIVE_UP)
        self._core.watch(own.transaction)

    def request(
        self, dialog: Dialog, method: str, now: float, *, on_final: OnFinal, body: Body | None = None,
        extra: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        """A non-INVITE request within the dialog; `on_final` is called once."""
        dialog.local_cseq += 1
        branch = self._core.make_token()
        lines = [*extra, ("User-Agent", self._core.identity.user_agent)]
        cseq = dialog.local_cseq

        def build(flow: Flow) -> bytes:
            return dialog.build(method, branch, cseq=cseq, flow=flow, body=body, extra=lines)

        transaction = self._within(dialog, build, now, is_invite=False)
        self._finals[id(transaction)] = on_final
        self._core.add_client(branch, method, transaction)
        self._core.flush(transaction)

    def _within(
        self, dialog: Dialog, build: Callable[[Flow], bytes], now: float, *, is_invite: bool
    ) -> ClientTransaction:
        """A transaction by the way that the remote target asks for; if that is not the dialog's, with that behind."""
        flow, target = self._core.way(dialog)
        transaction = ClientTransaction(build(flow), flow, now, is_invite=is_invite)
        transaction.target = target
        if flow.transport != dialog.flow.transport:

            def told() -> None:
                dialog.is_astray = True

            back, address = self._core.way_back(dialog)
            transaction.else_by(build(back), back, address, now, told=told)
        return transaction

    def lost(self, request: bytes, now: float) -> None:
        """A request of ours could not be sent: it goes the way the dialog came, if it was not that. An ACK goes there
        when the 2xx comes again."""
        lines = dict_lines(request)
        method = lines["cseq"].rpartition(" ")[2]
        branch = parse_via(lines["via"]).branch
        transaction = self._core.clients.get((branch, method))
        if transaction is not None and transaction.detour(now):
            self._core.flush(transaction)
        elif method == "ACK":
            key = lines["call-id"], parse_name_addr(lines["from"]).tag, parse_name_addr(lines["to"]).tag
            if (dialog := self._core.by_key.get(key)) is not None:
                dialog.is_astray = True

    def update(self, dialog: Dialog, body: Body, now: float, extra: Sequence[tuple[str, str]]) -> bool:
        """UPDATE with a body that is no offer. False: not now, or not with this peer."""
        if not dialog.peer_allows_update or dialog.phase is not Phase.ESTABLISHED:
            return False

        def on_final(status: int, response: Response | None, at: float) -> None:
            if status in GONE and dialog.phase is Phase.ESTABLISHED:
                self.bye(dialog, EndReason.TIMEOUT if status == 408 else EndReason.GONE, at)

        self.request(dialog, "UPDATE", now, body=body, extra=extra, on_final=on_final)
        return True

    # -- responses -----------------------------------------------------------------------------------------------

    def receive(self, response: Response, flow: Flow, now: float) -> None:
        """A response that passed the parse; one that belongs to nothing of ours is dropped (18.1.2)."""
        transaction = self._core.clients.get((response.via.branch, response.cseq_method))
        if transaction is None:
            self._core.observer.dropped("unknown_response")
            return
        dialog = self._invites.get(id(transaction))
        if dialog is not None and response.status >= 300 and not transaction.ack:
            transaction.ack = ack_of_failure(transaction.request, response)
            transaction.output.append(transaction.ack)
        if transaction.receive(response.status, now):
            if dialog is not None:
                self._invite_answered(dialog, transaction, response, now)
            elif response.status >= 200:
                self._finish(transaction, response.status, response, now)
        self._core.flush(transaction)

    def _finish(self, transaction: ClientTransaction, status: int, response: Response | None, now: float) -> None:
        on_final = self._finals.pop(id(transaction), None)
        if on_final is not None:
            on_final(status, response, now)

    def timed_out(self, transaction: ClientTransaction, now: float) -> None:
        """Nobody answered: as a 408 (8.1.3.1)."""
        dialog = self._invites.get(id(transaction))
        if dialog is None:
            self._finish(transaction, 408, None, now)
        elif dialog.own_invite is not None and dialog.own_invite.transaction is transaction:
            self._invite_failed(dialog, 408, NOBODY, None, now)

    def forget(self, transaction: ClientTransaction) -> None:
        """The transaction is over."""
        self._invites.pop(id(transaction), None)
        self._finals.pop(id(transaction), None)

    def _invite_answered(self, dialog: Dialog, transaction: ClientTransaction, response: Response, now: float) -> None:
        own = dialog.own_invite
        if response.status < 200:
            if own is not None and dialog.phase is Phase.CANCELLING:
                self.cancel(dialog, now)
            elif response.status > 100 and own is not None and own.is_initial:
                self._core.events.append(Progress(dialog.id, response))
        elif response.status < 300:
            self._invite_succeeded(dialog, transaction, response, now)
        elif own is not None:
            self._invite_failed(dialog, response.status, response.reason, response, now)

    def _invite_succeeded(self, dialog: Dialog, transaction: ClientTransaction, response: Response, now: float) -> None:
        core, own, tag = self._core, dialog.own_invite, response.to.tag
        if own is None or own.transaction is not transaction:
            self._repeat_ack(dialog, transaction, response, now)
            return
        dialog.own_invite = None
        dialog.refresh_target(response)
        if own.is_initial:
            dialog.remote_tag = tag
            dialog.route_set = list(reversed(response.headers.values("Record-Route")))
            core.by_key[dialog.key] = dialog
        dialog.peer_allows_update = "update" in response.headers.tokens("Allow")
        self._ack(dialog, transaction, own.cseq)
        if dialog.phase is Phase.ENDING or dialog.phase is Phase.ENDED:
            return
        was_given_up = dialog.phase is Phase.CANCELLING
        if own.is_initial:
            dialog.move(Phase.ESTABLISHED)
        timers.take_grant(dialog, response, now)
        core.watch(dialog)
        if was_given_up:
            self.bye(dialog, EndReason.LOCAL, now)
        elif not own.is_refresh:
            core.events.append(Answered(dialog.id, response, own.is_initial))

    def _ack(self, dialog: Dialog, transaction: ClientTransaction, cseq: int) -> None:
        """ACK to a 2xx: a request of its own, with its own branch, re-sent for each repeat of the 2xx (13.2.2.4)."""
        flow, target = self._core.way(dialog)
        transaction.ack = dialog.build("ACK", self._core.make_token(), cseq=cseq, flow=flow)
        self._core.send(transaction.ack, flow, target)

    def _repeat_ack(self, dialog: Dialog, transaction: ClientTransaction, response: Response, now: float) -> None:
        if response.to.tag == dialog.remote_tag:
            self._core.send(transaction.ack, *self._core.way(dialog))
            return
        # a forked INVITE was answered twice (13.2.2.4): the second dialog is acknowledged and ended at once
        other = Dialog(
            id=self._core.make_token(),
            call_id=dialog.call_id,
            local_tag=dialog.local_tag,
            local=dialog.local,
            remote=dialog.remote,
            flow=dialog.flow,
            phase=Phase.ESTABLISHED,
            remote_tag=response.to.tag,
            remote_target=dialog.remote_target,
            route_set=list(reversed(response.headers.values("Record-Route"))),
            local_cseq=response.cseq,
        )
        if other.key in self._core.by_key:
            return
        other.refresh_target(response)
        self._core.by_key[other.key] = other
        flow, target = self._core.way(other)
        self._core.send(other.build("ACK", self._core.make_token(), cseq=response.cseq, flow=flow), flow, target)
        other.move(Phase.ENDING)
        self.request(
            other, "BYE", now, on_final=lambda *seen: self._core.end(other, EndReason.LOCAL, seen[2], is_told=True)
        )

    def _invite_failed(self, dialog: Dialog, status: int, reason: str, response: Response | None, now: float) -> None:
        own, dialog.own_invite = dialog.own_invite, None
        if own is None or dialog.phase in (Phase.ENDING, Phase.ENDED):
            return
        if own.is_initial:
            was_given_up = dialog.phase is Phase.CANCELLING
            self._core.end(dialog, EndReason.LOCAL, now, is_told=not was_given_up)
            if not was_given_up:
                self._core.events.append(Refused(dialog.id, status, reason, True, response))
            return
        if not own.is_refresh:
            self._core.events.append(Refused(dialog.id, status, reason, False, response))
        if status in GONE:
            self.bye(dialog, EndReason.TIMEOUT if status == 408 else EndReason.GONE, now)
        elif own.is_refresh:
            is_longer = status == 422 and response is not None and timers.take_minimum(dialog, response)
            dialog.refresh_at = now if is_longer else now + REFRESH_AGAIN
            self._core.watch(dialog)

    # -- keeping a session alive ---------------------------------------------------------------------------------

    def refresh(self, dialog: Dialog, now: float) -> None:
        """Keeps the session alive: UPDATE without a body where the peer has UPDATE, else a re-INVITE that changes
        nothing (RFC 4028 section 7.4). A peer that knows of no timer gets an OPTIONS within the dialog, whose answer
        shows that it still has it."""
        dialog.refresh_at = None
        headers = [("Session-Expires", f"{dialog.interval};refresher=uac"), ("Supported", "timer")]

        def on_final(status: int, response: Response | None, at: float) -> None:
            self._refreshed(dialog, status, response, at)

        if dialog.peer_allows_update:
            self.request(dialog, "UPDATE", now, extra=headers, on_final=on_final)
        elif not dialog.is_timer_agreed or dialog.last_body is None:
            self.request(dialog, "OPTIONS", now, on_final=on_final)
        elif dialog.own_invite is not None or dialog.pending is not None or dialog.phase is not Phase.ESTABLISHED:
            dialog.refresh_at = now + REFRESH_AGAIN
        else:
            self._send_invite(dialog, dialog.last_body, now, is_initial=False, extra=headers[:1])
            assert dialog.own_invite is not None
            dialog.own_invite.is_refresh = True

    def _refreshed(self, dialog: Dialog, status: int, response: Response | None, now: float) -> None:
        if dialog.phase is not Phase.ESTABLISHED:
            return
        if status in GONE:
            self.bye(dialog, EndReason.TIMEOUT if status == 408 else EndReason.GONE, now)
        elif response is not None:
            # any other answer, a 491 or 500 too, comes from a peer that still has the dialog
            timers.take_grant(dialog, response, now)
            if status == 422 and timers.take_minimum(dialog, response):
                self.refresh(dialog, now)
                return
            if status >= 300 and response.cseq_method == "UPDATE":
                dialog.refresh_at = now + REFRESH_AGAIN  # its own timer still runs
                dialog.peer_allows_update = status not in (405, 501)
            self._core.watch(dialog)
