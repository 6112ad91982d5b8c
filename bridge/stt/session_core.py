"""What every provider's session does alike: its states, its queue of messages, keepalive pace, flushes and counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from bridge.errors import InvalidState
from bridge.model import AudioFormat
from bridge.stt.session import Ended, Failed, Flushed, SessionEvent


class State(Enum):
    """Of a session."""

    CONNECTING = auto()
    OPEN = auto()
    FINISHING = auto()
    ENDED = auto()


TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.OPEN, State.ENDED}),
    State.OPEN: frozenset({State.FINISHING, State.ENDED}),
    State.FINISHING: frozenset({State.ENDED}),
    State.ENDED: frozenset(),
}


@dataclass(slots=True)
class SessionCore:
    """What a session keeps, and the moves that all protocols share."""

    wire: AudioFormat
    keepalive_s: float | None
    "A pause in sending that calls for a keepalive; None: the protocol has none."
    flush_timeout: float
    state: State = State.CONNECTING
    sent_bytes: int = 0
    keepalives: int = 0
    malformed: int = 0
    last_sent: float = 0.0
    flushes: list[tuple[float, float]] = field(default_factory=list)
    "Unanswered ones: stream time, moment of giving up on an answer."
    given_up: float | None = None
    "Stream time of the last one that had no answer in time. It may still come."
    events: list[SessionEvent] = field(default_factory=list)
    outbox: list[str | bytes] = field(default_factory=list)

    @property
    def sent_s(self) -> float:
        return self.wire.seconds(self.sent_bytes)

    def go(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise InvalidState(f"a session cannot go from {self.state.name} to {state.name}")
        self.state = state

    def require_open(self, what: str) -> None:
        if self.state is not State.OPEN:
            raise InvalidState(f"{what} in state {self.state.name}")

    def audio(self, data: bytes, now: float) -> None:
        """Counts and queues one binary frame. An empty one would end some providers' streams."""
        self.require_open("send_audio")
        if not data:
            raise InvalidState("an empty audio frame")
        self.sent_bytes += len(data)
        self.say(data, now)

    def say(self, message: str | bytes, now: float) -> None:
        self.outbox.append(message)
        self.last_sent = now

    def expect_flush(self, now: float) -> None:
        self.flushes.append((self.sent_s, now + self.flush_timeout))

    def answer_flush(self, through: float) -> None:
        """The flush at `through`, and every earlier one, is answered."""
        done = [at for at, _ in self.flushes if at <= through]
        self.flushes = self.flushes[len(done) :]
        if self.given_up is not None and self.given_up <= through:
            done = done or [self.given_up]
            self.given_up = None
        if done:
            self.events.append(Flushed(done[-1], is_answered=True))

    def expire_flushes(self, now: float) -> None:
        while self.flushes and self.flushes[0][1] <= now:
            self.given_up = self.flushes.pop(0)[0]
            self.events.append(Flushed(self.given_up, is_answered=False))

    def deadline(self) -> float | None:
        if self.state is not State.OPEN:
            return None
        times = [self.flushes[0][1]] if self.flushes else []
        if self.keepalive_s is not None:
            times.append(self.last_sent + self.keepalive_s)
        return min(times, default=None)

    def keep_alive(self, message: str, now: float) -> None:
        """Says it where a pause in sending has lasted for `keepalive_s`."""
        if self.keepalive_s is not None and self.last_sent + self.keepalive_s <= now:
            self.say(message, now)
            self.keepalives += 1

    def end(self, event: Ended | Failed) -> None:
        if self.state is not State.ENDED:
            self.state = State.ENDED
            self.events.append(event)

    def take_events(self) -> list[SessionEvent]:
        taken, self.events = self.events, []
        return taken

    def take_messages(self) -> list[str | bytes]:
        taken, self.outbox = self.outbox, []
        return taken


class CoreSession:
    """An `SttSession` but for what its protocol says: `connected`, `finalize`, `finish`, `receive_message`,
    `connection_lost` and `handle_timer` are the provider's own."""

    def __init__(self, core: SessionCore) -> None:
        self._core = core
        self._provider_s = 0.0
        "Seconds of audio that the provider has said it heard."

    @property
    def provider_s(self) -> float:
        return self._provider_s

    @property
    def keepalives(self) -> int:
        return self._core.keepalives

    @property
    def malformed(self) -> int:
        return self._core.malformed

    def send_audio(self, data: bytes, now: float) -> None:
        self._core.audio(data, now)

    def deadline(self) -> float | None:
        return self._core.deadline()

    def messages_to_send(self) -> list[str | bytes]:
        return self._core.take_messages()

    def take_events(self) -> list[SessionEvent]:
        return self._core.take_events()
