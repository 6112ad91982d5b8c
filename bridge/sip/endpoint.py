"""The SIP endpoint, sans-IO: a UAS and a UAC in one. Told what arrived and what time it is, answers with messages to
send and events. RFC 3261 as fixed by RFC 6026; bridge.net.sip_transports.SipDriver is its only skin.

The rule of use: call one method, then drain both `take_outgoing` and `take_events`, then sleep until `deadline()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.sip.events import Body, Event, Flow, Outgoing


@dataclass(frozen=True, slots=True)
class Identity:
    """How we present ourselves."""

    user_agent: str = "callbridge"
    contact_host: str = ""
    "Address in Contact and Via; empty: the flow's local address."
    contact_params: str = ""
    "Added to every Contact as it is: `;+sip.src` for a recording client; the recording server's is added per answer."
    session_expires: int = 1800
    "Seconds; the session timer we ask for and the highest we take. 0: none."


class Endpoint:
    """All dialogs and transactions of one process."""

    def __init__(self, identity: Identity, *, make_token: Callable[[], str]) -> None:
        """`make_token` gives a fresh random string of letters and digits, at least 64 bits strong, at each call: for
        tags, branches and Call-IDs (numbers in tests)."""
        raise NotImplementedError

    # -- the wire ----------------------------------------------------------------------------------------------

    def receive(self, data: bytes, flow: Flow, now: float) -> None:
        """One datagram, or one message as cut by `framing.StreamFramer`. Never raises: what cannot be answered is
        counted in `counters` and dropped."""
        raise NotImplementedError

    def connection_lost(self, flow: Flow, now: float) -> None:
        """A TCP or TLS connection is gone. Dialogs live on; they speak over whatever connection comes next."""
        raise NotImplementedError

    def take_outgoing(self) -> list[Outgoing]:
        """Messages to send now, in order."""
        raise NotImplementedError

    def take_events(self) -> list[Event]:
        """What happened, in order."""
        raise NotImplementedError

    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called, monotonic seconds."""
        raise NotImplementedError

    def handle_timer(self, now: float) -> None:
        """Re-sends and gives up what is due."""
        raise NotImplementedError

    # -- calls that come in (after IncomingCall), and offers within a call (after Reoffer) ---------------------

    def accept(self, dialog: str, body: Body | None, now: float, *, contact_params: str = "") -> None:
        """200 to the pending INVITE, re-INVITE or UPDATE; re-sent until the ACK. `contact_params` such as
        `;+sip.srs`. Ignored when the request was cancelled meanwhile (`Ended` tells)."""
        raise NotImplementedError

    def reject(self, dialog: str, status: int, now: float, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        """A final non-2xx to the pending request, with further headers such as ("Retry-After", "5")."""
        raise NotImplementedError

    # -- calls that we place -----------------------------------------------------------------------------------

    def invite(
        self,
        target: str,
        flow: Flow,
        now: float,
        *,
        from_: str,
        to: str = "",
        body: Body | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> str:
        """Sends an INVITE to `target` (a SIP URI) over `flow` and returns the dialog's id. `from_` and `to` are SIP
        URIs or name-addrs without tag; `to` defaults to the target. Then come Progress, Answered or Refused, Ended."""
        raise NotImplementedError

    def reinvite(self, dialog: str, body: Body | None, now: float) -> None:
        """A new offer within an established dialog. Answered or Refused (491: the peer offered at the same time) with
        `is_initial` False. Raises InvalidState while an INVITE of ours is pending or the dialog is not established."""
        raise NotImplementedError

    def hang_up(self, dialog: str, now: float) -> None:
        """BYE, or CANCEL before the answer; `Ended(LOCAL)` follows when the peer has confirmed or 32 s have passed.
        Idempotent; unknown ids are ignored."""
        raise NotImplementedError

    def set_accepting(self, is_accepting: bool) -> None:
        """False: new calls and OPTIONS outside dialogs get 503 with Retry-After; running dialogs go on."""
        raise NotImplementedError
