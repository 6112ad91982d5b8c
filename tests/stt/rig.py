"""A leg on a virtual clock: a scripted conversation, a Transcriber, and peers behind a network that can be broken."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from bridge.model import AudioFormat
from bridge.stt import PROVIDERS
from bridge.stt.events import Abort, Close, Connect, Final, Finished, Probe, SttEvent, Transmit
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber
from tests.stt.peers import RATE, SILENCE, DeepgramPeer, Peer, SonioxPeer, VoskPeer

MULAW = AudioFormat("mulaw", RATE)
TICK = 0.02
ONE_WAY = 0.03  # s of network
HANDSHAKE = 0.2
PEERS: dict[str, type[Peer]] = {"deepgram": DeepgramPeer, "local": DeepgramPeer, "soniox": SonioxPeer, "vosk": VoskPeer}


@dataclass(frozen=True)
class Spoken:
    number: int
    start: float
    end: float


def speech(start: float, end: float, first: int) -> list[Spoken]:
    """A word of 0.3 s every 0.4 s, with a breath of 0.6 s after each fifth."""
    words, at, number = [], start, first
    while at + 0.3 <= end:
        words.append(Spoken(number, round(at, 3), round(at + 0.3, 3)))
        number += 1
        at += 0.4 if number % 5 else 0.9
    return words


@dataclass
class Network:
    """What can go wrong. Times are `now`."""

    refuse: dict[int, int] = field(default_factory=dict)  # attempt number -> HTTP status
    down: tuple[float, float] = (0.0, 0.0)  # no connection can be made from, to
    refuse_status: int = 503
    drops: list[float] = field(default_factory=list)
    drop_on: str = ""  # cut the line when the client sends a text with this in it, once
    deaf_from: float = float("inf")  # half-open: nothing arrives in either direction, for sessions opened before
    ping_finds_after: float = 40.0
    downlink: float = ONE_WAY


class Rig:
    """`open_spans`: call times during which the gate is open; the gate finalizes at the end of each."""

    def __init__(
        self, routes: list[str], words: list[Spoken], open_spans: list[tuple[float, float]], *,
        network: Network | None = None, options: SttOptions | None = None, settings: dict[str, object] | None = None,
        breakers: Breakers | None = None, origin: float = 1000.0,
    ) -> None:  # fmt: skip
        self.origin = origin
        self.now = origin
        self.network = network or Network()
        self.words = words
        self.open_spans = open_spans
        made = [
            Route(PROVIDERS[name], PROVIDERS[name].settings_type(**(settings or {}).get(name, {})))  # type: ignore[attr-defined]
            for name in routes
        ]
        self.breakers = breakers or Breakers(lambda: 0.5)
        self.leg = Transcriber(
            routes=made, audio=MULAW, options=options or SttOptions(), breakers=self.breakers, random=lambda: 0.5
        )
        self.events: list[tuple[float, SttEvent]] = []
        self.peers: dict[int, Peer] = {}
        self.providers: dict[int, str] = {}
        self.alive: set[int] = set()
        self.opened_at: dict[int, float] = {}
        self.handed = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._attempts = 0
        self._is_gate_open = False

    # The world

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), what))

    def audio(self, start: float, n_samples: int) -> bytes:
        first = round(start * RATE)
        data = bytearray([SILENCE]) * n_samples
        for word in self.words:
            low, high = round(word.start * RATE) - first, round(word.end * RATE) - first
            if high > 0 and low < n_samples:
                low, high = max(low, 0), min(high, n_samples)
                data[low:high] = bytes([word.number]) * (high - low)
        return bytes(data)

    def run(self, until: float, *, finish: bool = True, patience: float = 200.0) -> None:
        """The call from 0 to `until`, then the hang-up."""
        self.leg.start(self.now)
        self.pump()
        for dropped in self.network.drops:
            self.at(self.origin + dropped, self.drop_all)
        ticks = round(until / TICK)
        for n in range(ticks):
            self.advance(self.origin + (n + 1) * TICK)
            self.tick(n * TICK)
        if finish:
            self.hang_up(patience)

    def run_on(self, start: float, until: float) -> None:
        """From one call time to another, then the hang-up."""
        for n in range(round(start / TICK), round(until / TICK)):
            self.advance(self.origin + (n + 1) * TICK)
            self.tick(n * TICK)
        self.hang_up()

    def hang_up(self, patience: float = 200.0) -> None:
        self.leg.finish(self.now)
        self.pump()
        self.advance(self.now + patience, stop=lambda: self.is_finished)

    @property
    def is_finished(self) -> bool:
        return any(isinstance(event, Finished) for _, event in self.events)

    def tick(self, start: float) -> None:
        is_open = any(low - 1e-9 <= start < high - 1e-9 for low, high in self.open_spans)
        if is_open:
            samples = round(TICK * RATE)
            self.handed += samples
            self.leg.send_audio(self.audio(start, samples), self.told_time(start), self.now)
        elif self._is_gate_open:
            self.leg.finalize(self.now)
        self._is_gate_open = is_open
        self.pump()

    def told_time(self, start: float) -> float:
        """What the leg is told of when the audio of `start` was captured."""
        return start

    def skip(self, seconds: float) -> None:
        """Time goes by with the gate closed, without ticking."""
        self.advance(self.now + seconds)

    def advance(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        for _ in range(200_000):
            if stop():
                return
            deadline = self.leg.deadline()
            at = min((t for t in (deadline, self._queue[0][0] if self._queue else None) if t is not None), default=None)
            if at is None or at > until:
                break
            self.now = max(self.now, at)
            if self._queue and self._queue[0][0] <= self.now:
                heapq.heappop(self._queue)[2]()
            else:
                self.leg.handle_timer(self.now)
            self.pump()
        else:
            raise AssertionError("the deadline does not move")
        self.now = max(self.now, until)

    def pump(self) -> None:
        for command in self.leg.take_commands():
            if isinstance(command, Connect):
                self._connect(command)
            elif isinstance(command, Transmit):
                self._transmit(command)
            elif isinstance(command, Probe):
                self._probe(command.session)
            elif isinstance(command, (Close, Abort)):
                self.alive.discard(command.session)
        self.events += ((self.now, event) for event in self.leg.take_events())

    # The network

    def _connect(self, command: Connect) -> None:
        self._attempts += 1
        status = self.network.refuse.get(self._attempts)
        low, high = self.network.down
        if self.origin + low <= self.now < self.origin + high:
            status = self.network.refuse_status
        session = command.session
        self.alive.add(session)
        self.providers[session] = command.provider

        def answer() -> None:
            if session not in self.alive:
                return
            if status is not None:
                self.alive.discard(session)
                self.leg.refused(session, status=status, reason="refused", now=self.now)
            else:
                self.peers[session] = PEERS[command.provider]()
                self.opened_at[session] = self.now
                self.leg.opened(session, self.now)

        self.at(self.now + HANDSHAKE, answer)

    def _is_deaf(self, session: int) -> bool:
        deaf_from = self.origin + self.network.deaf_from
        return self.now >= deaf_from and self.opened_at.get(session, self.now) < deaf_from

    def _transmit(self, command: Transmit) -> None:
        session, message = command.session, command.message
        assert session in self.peers, "sent before the session was open"
        if isinstance(message, str) and self.network.drop_on and self.network.drop_on in message:
            self.network.drop_on = ""
            self.drop(session)
            return
        if self._is_deaf(session):
            self.at(self.origin + self.network.deaf_from + self.network.ping_finds_after, lambda: self.drop(session))
            return
        self.at(self.now + ONE_WAY, lambda: self._arrive(session, message))

    def _arrive(self, session: int, message: str | bytes) -> None:
        if session not in self.alive:
            return
        peer = self.peers[session]
        peer.receive(message, self.now)
        for reply in peer.replies:
            self.at(self.now + self.network.downlink, lambda reply=reply: self._told(session, reply))  # type: ignore[misc]
        peer.replies = []
        if peer.close is not None:
            code, reason = peer.close
            self.at(self.now + self.network.downlink + 0.025, lambda: self._closed(session, code, reason))

    def _probe(self, session: int) -> None:
        if self._is_deaf(session):
            self.at(self.now + 5.5, lambda: self.drop(session))

    def _told(self, session: int, reply: str) -> None:
        if session in self.alive and not self._is_deaf(session):
            self.leg.received(session, reply, self.now)

    def _closed(self, session: int, code: int, reason: str) -> None:
        if session in self.alive and not self._is_deaf(session):
            self.alive.discard(session)
            self.leg.closed(session, code=code, reason=reason, now=self.now)

    def drop(self, session: int) -> None:
        if session in self.alive:
            self.alive.discard(session)
            self.leg.closed(session, code=1006, reason="", now=self.now)

    def drop_all(self) -> None:
        for session in list(self.alive):
            if session in self.peers:
                self.drop(session)

    # What came out

    @property
    def finals(self) -> list[Final]:
        return [event for _, event in self.events if isinstance(event, Final)]

    def transcript(self) -> list[tuple[int, float, float]]:
        return [(int(w.text[1:]), w.start, w.end) for final in self.finals for w in final.words]

    def of(self, kind: type[SttEvent]) -> list[SttEvent]:
        return [event for _, event in self.events if isinstance(event, kind)]

    def assert_every_word_once(self, *, within: float = 0.02, expected: list[Spoken] | None = None) -> None:
        """Words lost 0, doubled 0, each in its place in the call."""
        expected = self.words if expected is None else expected
        told = sorted(self.transcript())
        assert [number for number, _, _ in told] == [word.number for word in expected]
        for word, (_, start, end) in zip(expected, told, strict=True):
            assert abs(start - word.start) <= within, (word, start)
            assert abs(end - word.end) <= within, (word, end)

    def assert_ledger_adds_up(self) -> None:
        """received - withheld = sent - replayed - padded + unsent; what was handed over is what was let through."""
        ledger = self.leg.ledger(self.now)
        assert abs(self.handed / RATE - (ledger.sent_s - ledger.replayed_s - ledger.padded_s + ledger.unsent_s)) < 1e-6
