"""The four transactions of RFC 3261 section 17, as RFC 6026 fixes them: one table each, and the timers.

A transaction is told what came or what to answer and leaves the bytes to send in `output`. Legal moves are the tables;
what is not in a table is absorbed, because the network repeats and reorders.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import ClassVar

from bridge.sip.events import Flow

T1 = 0.5  # s; RTT estimate, RFC 3261 17.1.1.1
T2 = 4.0  # s; longest interval between repeats, 17.1.2.1
T4 = 5.0  # s; how long a message may linger in the network, 17.1.2.2
GIVE_UP = 64 * T1  # s; timers B, F, H, J, L, M
TIMER_D = 32.0  # s; at least 32 on UDP, 17.1.1.2
DETOUR_AFTER = 4.0  # s without any answer; three repeats on UDP
TRYING_AFTER = 0.2  # s; without an answer until then 100 is sent, 17.2.1


class State(Enum):
    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    ACCEPTED = auto()
    TERMINATED = auto()


class Input(Enum):
    REQUEST = auto()
    "The same request again."
    ACK = auto()
    PROVISIONAL = auto()
    SUCCESS = auto()
    FAILURE = auto()
    GIVE_UP = auto()
    "Timers B, F, H: nobody answers."
    LINGERED = auto()
    "Timers D, I, J, K, L, M: no repeats are to be expected any more."


Table = dict[State, dict[Input, State]]

INVITE_SERVER: Table = {  # RFC 6026 figure 7-3
    State.PROCEEDING: {
        Input.REQUEST: State.PROCEEDING,
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.ACCEPTED,
        Input.FAILURE: State.COMPLETED,
    },
    State.COMPLETED: {Input.REQUEST: State.COMPLETED, Input.ACK: State.CONFIRMED, Input.GIVE_UP: State.TERMINATED},
    State.CONFIRMED: {Input.LINGERED: State.TERMINATED},
    State.ACCEPTED: {Input.LINGERED: State.TERMINATED},
    State.TERMINATED: {},
}

NON_INVITE_SERVER: Table = {  # RFC 3261 figure 8
    State.TRYING: {
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.COMPLETED,
        Input.FAILURE: State.COMPLETED,
    },
    State.PROCEEDING: {
        Input.REQUEST: State.PROCEEDING,
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.COMPLETED,
        Input.FAILURE: State.COMPLETED,
    },
    State.COMPLETED: {Input.REQUEST: State.COMPLETED, Input.LINGERED: State.TERMINATED},
    State.TERMINATED: {},
}

INVITE_CLIENT: Table = {  # RFC 6026 figure 8-1
    State.CALLING: {
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.ACCEPTED,
        Input.FAILURE: State.COMPLETED,
        Input.GIVE_UP: State.TERMINATED,
    },
    State.PROCEEDING: {
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.ACCEPTED,
        Input.FAILURE: State.COMPLETED,
        Input.GIVE_UP: State.TERMINATED,
    },
    State.COMPLETED: {Input.FAILURE: State.COMPLETED, Input.LINGERED: State.TERMINATED},
    State.ACCEPTED: {Input.SUCCESS: State.ACCEPTED, Input.LINGERED: State.TERMINATED},
    State.TERMINATED: {},
}

NON_INVITE_CLIENT: Table = {  # RFC 3261 figure 6
    State.TRYING: {
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.COMPLETED,
        Input.FAILURE: State.COMPLETED,
        Input.GIVE_UP: State.TERMINATED,
    },
    State.PROCEEDING: {
        Input.PROVISIONAL: State.PROCEEDING,
        Input.SUCCESS: State.COMPLETED,
        Input.FAILURE: State.COMPLETED,
        Input.GIVE_UP: State.TERMINATED,
    },
    State.COMPLETED: {Input.LINGERED: State.TERMINATED},
    State.TERMINATED: {},
}


def kind_of(status: int) -> Input:
    """A status code as an input."""
    if status < 200:
        return Input.PROVISIONAL
    return Input.SUCCESS if status < 300 else Input.FAILURE


class Backoff:
    """A repeat that doubles its interval from T1, up to `limit`."""

    def __init__(self, now: float, *, limit: float = T2) -> None:
        self._interval = T1
        self._limit = limit
        self.at = now + T1

    def advance(self) -> None:
        """To the next repeat, counted from the last one's due time: a late tick does not stretch the schedule."""
        self._interval = min(2 * self._interval, self._limit)
        self.at += self._interval


class Transaction:
    """What the four have in common."""

    TABLE: ClassVar[Table]

    def __init__(self, state: State, flow: Flow) -> None:
        self.state = state
        self.flow = flow
        self.target: tuple[str, int] | None = None
        "See `Outgoing`."
        self.output: list[bytes] = []
        "Bytes to send over `flow`; whoever calls takes them."
        self.has_timed_out = False
        self._repeat: Backoff | None = None
        self._give_up_at: float | None = None
        self._linger_until: float | None = None

    def deadline(self) -> float | None:
        """When `handle_timer` is due."""
        repeat_at = self._repeat.at if self._repeat else None
        return min((at for at in (repeat_at, self._give_up_at, self._linger_until) if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Repeats, gives up or ends what is due."""
        if self._linger_until is not None and now >= self._linger_until:
            self._move(Input.LINGERED)
        elif self._give_up_at is not None and now >= self._give_up_at:
            self.has_timed_out = self._move(Input.GIVE_UP)
        elif self._repeat is not None and now >= self._repeat.at:
            self._repeat.advance()
            self._send_again()

    def _move(self, what: Input) -> bool:
        next_state = self.TABLE[self.state].get(what)
        if next_state is None:
            return False
        self.state = next_state
        if next_state is State.TERMINATED:
            self._repeat = self._give_up_at = self._linger_until = None
        return True

    def _linger(self, now: float, seconds: float) -> None:
        """No more repeats of ours; the state is kept for `seconds` (0 on reliable transports) to absorb theirs."""
        self._repeat = self._give_up_at = None
        self._linger_until = now + (0.0 if self.flow.is_reliable else seconds)

    def _send_again(self) -> None:
        raise NotImplementedError


class ServerTransaction(Transaction):
    """INVITE (17.2.1) or non-INVITE (17.2.2) by its table."""

    def __init__(self, flow: Flow, *, is_invite: bool) -> None:
        super().__init__(State.PROCEEDING if is_invite else State.TRYING, flow)
        self.is_invite = is_invite
        self.last: bytes = b""
        "The latest response, replayed when the request comes again."
        self.vias: list[str] = []
        "The Via lines of every response, with `received` filled in."
        self.dialog = ""
        "Id of the dialog that is to answer."
        self.to_tag = ""
        "Of its responses; that of the 200 to a CANCEL must be the same (RFC 3261 9.2)."
        self._trying: bytes = b""
        self._trying_at: float | None = None

    @property
    def TABLE(self) -> Table:  # type: ignore[override]  # noqa: N802 - the class constant, by kind
        return INVITE_SERVER if self.is_invite else NON_INVITE_SERVER

    def try_at(self, at: float, trying: bytes) -> None:
        """Sends `trying` (a 100) at that time unless something was answered before."""
        self._trying, self._trying_at = trying, at

    def deadline(self) -> float | None:
        """When `handle_timer` is due."""
        own = super().deadline()
        return own if self._trying_at is None else min(self._trying_at, own if own is not None else self._trying_at)

    def handle_timer(self, now: float) -> None:
        """Repeats, gives up or ends what is due."""
        if self._trying_at is not None and now >= self._trying_at:
            self.respond(self._trying, 100, now)
        else:
            super().handle_timer(now)

    def receive_again(self) -> None:
        """The same request came again: replay, unless the 2xx is the user agent's to repeat."""
        if self._move(Input.REQUEST):
            self._send_again()

    def receive_ack(self, now: float) -> bool:
        """An ACK to a non-2xx; False if none was awaited."""
        if not self._move(Input.ACK):
            return False
        self._linger(now, T4)
        return True

    def respond(self, data: bytes, status: int, now: float) -> bool:
        """Sends a response; False when a final one was sent before."""
        kind = kind_of(status)
        self._trying_at = None
        if not self._move(kind):
            return False
        self.last = data
        self.output.append(data)
        if kind is Input.PROVISIONAL:
            return True
        if not self.is_invite:
            self._linger(now, GIVE_UP)  # timer J
        elif kind is Input.SUCCESS:
            # Timer L: also on reliable transports, RFC 6026 7.1
            self._linger_until = now + GIVE_UP
        else:
            self._give_up_at = now + GIVE_UP  # timer H
            self._repeat = None if self.flow.is_reliable else Backoff(now)  # timer G
        return True

    @property
    def is_final(self) -> bool:
        return self.state not in (State.TRYING, State.PROCEEDING)

    def _send_again(self) -> None:
        if self.last:
            self.output.append(self.last)


class ClientTransaction(Transaction):
    """INVITE (17.1.1) or non-INVITE (17.1.2) by its table. The request is in `output` from the start."""

    def __init__(self, request: bytes, flow: Flow, now: float, *, is_invite: bool) -> None:
        super().__init__(State.CALLING if is_invite else State.TRYING, flow)
        self.is_invite = is_invite
        self.request = request
        self.output.append(request)
        self._detour: tuple[bytes, Flow, tuple[str, int] | None, Callable[[], None]] | None = None
        self._detour_at = 0.0
        self.ack: bytes = b""
        "What answers a non-2xx; set by the caller when the first one came, then repeated here."
        self._start(now)

    def _start(self, now: float) -> None:
        self._give_up_at = now + GIVE_UP  # timers B and F
        is_repeated = not self.flow.is_reliable
        self._repeat = Backoff(now, limit=GIVE_UP if self.is_invite else T2) if is_repeated else None  # timers A and E

    def else_by(
        self, request: bytes, flow: Flow, target: tuple[str, int] | None, now: float, *, told: Callable[[], None]
    ) -> None:
        """Another way for the same request (with the Via of that way, of the same branch), which is taken, and `told`
        called, when `detour` is or nobody has answered within DETOUR_AFTER (RFC 3263 section 4.3)."""
        self._detour, self._detour_at = (request, flow, target, told), now + DETOUR_AFTER

    def detour(self, now: float) -> bool:
        """The request could not be sent: takes the other way. False: there is none, or it was answered."""
        if self._detour is None or self.state not in (State.CALLING, State.TRYING):
            return False
        self.request, self.flow, self.target, told = self._detour
        self._detour = None
        self._start(now)
        self.output.append(self.request)
        told()
        return True

    def deadline(self) -> float | None:
        """When `handle_timer` is due."""
        own = super().deadline()
        return own if self._detour is None or own is None else min(own, self._detour_at)

    def handle_timer(self, now: float) -> None:
        """Repeats, gives up or ends what is due."""
        if self._detour is None or now < self._detour_at or not self.detour(now):
            super().handle_timer(now)

    @property
    def TABLE(self) -> Table:  # type: ignore[override]  # noqa: N802 - the class constant, by kind
        return INVITE_CLIENT if self.is_invite else NON_INVITE_CLIENT

    def receive(self, status: int, now: float) -> bool:
        """A response came. True: it is new, or a 2xx to INVITE (again), for the user agent. False: absorbed."""
        kind, before = kind_of(status), self.state
        self._detour = None
        if not self._move(kind):
            return False
        if kind is Input.PROVISIONAL:
            if self.is_invite:
                self._repeat = self._give_up_at = None  # a phone may ring for long
            return True
        if not self.is_invite:
            self._linger(now, T4)  # timer K
            return True
        if kind is Input.SUCCESS:
            self._repeat = self._give_up_at = None
            if before is not State.ACCEPTED:
                self._linger_until = now + GIVE_UP  # timer M
            return True
        if before is State.COMPLETED:
            if self.ack:
                self.output.append(self.ack)
            return False
        self._linger(now, TIMER_D)
        return True

    def give_up_at(self, at: float) -> None:
        """After a CANCEL the INVITE is answered within 64*T1 or never (RFC 3261 9.1)."""
        if self.state in (State.CALLING, State.PROCEEDING):
            self._give_up_at = at

    def _send_again(self) -> None:
        self.output.append(self.request)
