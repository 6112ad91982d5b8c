"""One leg's transcription, over every session that it takes. Sans-IO: told what happened, it answers with commands
for the driver and events for the call.

Audio goes `send_audio` -> `Tape.append` -> `Runs.feed` -> `Run.pump` -> the session's `send_audio` (`deepgram.py`) ->
a `Transmit` command that the driver writes to its WebSocket. Results come back by `received`.

The tape (`tape.py`) holds the audio that no final result covers. A run (`run.py`) is one session at work on a stretch
of it; `runs.py` says what becomes of a stretch whose session is lost, parked or rotated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bridge.errors import InvalidState
from bridge.model import AudioFormat
from bridge.stt.events import Abort, Command, Finished, SttEvent
from bridge.stt.ledger import SttLedger
from bridge.stt.pace import FASTER
from bridge.stt.routing import Breakers, Route
from bridge.stt.runs import Runs
from bridge.stt.session import SttOptions


class Transcriber:
    """`routes`: first choice first. `audio`: format in which the leg's audio is handed over. `breakers` are shared by
    all legs of the process. `random`: 0 to 1."""

    def __init__(
        self,
        *,
        routes: Sequence[Route],
        audio: AudioFormat,
        options: SttOptions,
        breakers: Breakers,
        random: Callable[[], float],
    ) -> None:
        self._routes = tuple(routes)
        self._runs = Runs(self._routes, audio, options, breakers, random)
        self._is_primed = False
        self._finish_by: float | None = None
        self._patience = 0.0
        "After the hang-up a session that cannot even be tried for so long is not waited for."
        self._ledger: SttLedger | None = None
        self._last_events: list[SttEvent] = []
        self._aborts: list[Command] = []
        self.is_touched = False
        "Commands, events or an earlier deadline may be waiting; the driver sets it back."
        self.is_due_sooner = False
        "`deadline` may have moved to an earlier time; the driver sets it back. Plain audio only moves it away."

    # What the call says

    def start(self, now: float) -> None:
        """The leg is answered. Providers that ask for priming are connected now, others at the first audio."""
        if any(route.provider.policy(route.settings).prime_s > 0 for route in self._routes[:1]):
            self._is_primed = True
            self._runs.want(now)
            self._advance(now)

    def send_audio(self, data: bytes, call_time: float, now: float) -> None:
        """The gate is open: whole samples, the first captured at `call_time`. Contiguous with the chunk before
        unless `call_time` jumps. Raises InvalidState after `finish`."""
        if self._finish_by is not None:
            raise InvalidState("send_audio after finish")
        if not data:
            return
        runs = self._runs
        oldest = runs.tape.start
        runs.tape.append(data, call_time)
        if runs.tape.start != oldest:
            runs.drop_overflow()
        if runs.current is None:
            runs.want(now)
            self._advance(now)
        elif runs.feed(runs.current, now):
            self.is_touched = True
            self.is_due_sooner |= runs.current is None or runs.current.has_backlog

    def retime(self, by: float, since: float) -> None:
        """All audio whose call time was to be `since` or later was captured `by` seconds earlier. What is told from
        now on is told by that; what was told stays."""
        self._runs.retime(by, since)

    def finalize(self, now: float) -> None:
        """The gate closed and everything was given: flush. Answered by `Finalized`; at once where all is settled."""
        tape = self._runs.tape
        if tape.end == 0 or not self._runs.marks.add(tape.end, tape.end_time(tape.end)):
            return
        if self._runs.current is not None:
            self._runs.current.mark(tape.end)
        self._advance(now)

    def purge(self, now: float) -> None:
        """Card data: what is unsent is forgotten, what is sent but not final will never be sent again. Commands that
        were taken before cannot be called back."""
        self._runs.forget_audio()
        self._advance(now)

    def finish(self, now: float) -> None:
        """Hang-up. `Finished` follows when the last words are in, or when there is no more waiting for them."""
        if self._finish_by is not None:
            return
        tape = self._runs.tape
        backlog = tape.seconds(tape.end - self._runs.settled_to())
        patience = max((r.provider.policy(r.settings).close_timeout_s for r in self._routes), default=0.0)
        # Twice: a session lost in its last moments gets one successor that replays the tail.
        self._finish_by = now + 2 * patience + backlog / FASTER
        self._patience = patience
        self._runs.close_end(now)
        self._advance(now)

    # What the driver says

    def opened(self, session: int, now: float) -> None:
        """The upgrade succeeded."""
        run = self._runs.find(session)
        if run is None:
            self._aborts.append(Abort(session))
            self.is_touched = True
            return
        run.opened(now, prime=self._is_primed)
        self._is_primed = False
        self._advance(now)

    def refused(self, session: int, *, status: int, reason: str, now: float) -> None:
        """No connection: the HTTP status of the upgrade, or 0 for anything below HTTP. `reason` is free of secrets."""
        run = self._runs.find(session)
        if run is not None:
            self._runs.lose(run, f"{status} {reason}".strip(), run.route.provider.refusal(status), now)
            self._advance(now)

    def received(self, session: int, message: str | bytes, now: float) -> None:
        """A message, from whom and of what shape ever."""
        run = self._runs.find(session)
        if run is not None:
            run.heard()
            run.session.receive_message(message, now)
            self._advance(now)

    def closed(self, session: int, *, code: int, reason: str, now: float) -> None:
        """The connection is gone: the peer's code, or 1006."""
        run = self._runs.find(session)
        if run is not None:
            run.session.connection_lost(code, reason, now)
            self._advance(now)

    def writable(self, session: int, is_writable: bool, now: float) -> None:
        """Whether the socket takes more. While it does not, audio waits on the tape."""
        run = self._runs.find(session)
        if run is not None:
            run.is_writable = is_writable
            self._advance(now)

    # Time

    def deadline(self) -> float | None:
        """When `handle_timer` must be called at the latest; None: no need."""
        if self._ledger is not None:
            return None
        return min((time for time in (self._runs.deadline(), self._finish_by) if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Harmless when nothing is due."""
        if self._ledger is not None:
            return
        if self._finish_by is not None and now >= self._finish_by:
            self._runs.give_up(now)
        else:
            self._runs.check_times(now)
        self._advance(now)

    # What comes out

    def take_commands(self) -> list[Command]:
        taken = [*self._runs.take_commands(), *self._aborts]
        self._aborts = []
        return taken

    def take_events(self) -> list[SttEvent]:
        taken = [*self._runs.take_events(), *self._last_events]
        self._last_events = []
        return taken

    def ledger(self, now: float) -> SttLedger:
        """As of now; after `Finished` it does not change any more."""
        return self._runs.ledger(now) if self._ledger is None else self._ledger

    def _advance(self, now: float) -> None:
        self.is_touched = self.is_due_sooner = True
        self._runs.advance(now)
        if self._finish_by is None or self._ledger is not None:
            return
        if self._runs.is_hopeless(min(now + self._patience, self._finish_by)):
            self._runs.give_up(now)
            self._runs.advance(now)
        if self._runs.is_done:
            self._ledger = self._runs.ledger(now)
            self._last_events.append(Finished())
