"""One leg's transcription, over every session that it takes. Sans-IO: told what happened, it answers with commands
for the driver and events for the call.

The tape holds the audio that no final result covers. A *run* is a session at work on a stretch of the tape. A run that
is lost gives its unsettled stretch back, and the next one starts there; one that is parked or rotated is drained on the
side while its successor already works.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.errors import InvalidState
from bridge.model import AudioFormat, Word
from bridge.stt.events import (
    Abort,
    Close,
    Command,
    Connect,
    Finalized,
    Finished,
    Lost,
    Restored,
    SttEvent,
    Transmit,
)
from bridge.stt.ledger import Account, SttLedger
from bridge.stt.pace import FASTER
from bridge.stt.routing import Breakers, Route, RouteChoice
from bridge.stt.run import Run
from bridge.stt.session import (
    Accepted,
    Cure,
    Ended,
    Failed,
    Flushed,
    Partial,
    Segment,
    SessionEvent,
    SttOptions,
)
from bridge.stt.tape import Tape
from bridge.stt.utterances import OpenUtterance, Utterances

NEAR = 0.05
"""s; a flush is done when everything but so little before it is settled: no word is that short."""


@dataclass(slots=True)
class Stretch:
    """Audio that waits for a session. `until` None: and all that follows."""

    start: int
    until: int | None
    utterance: OpenUtterance


@dataclass(slots=True)
class Mark:
    """The gate closed here."""

    position: int
    through: float
    is_told: bool = False


class Transcriber:
    """`routes`: first choice first. `audio`: format in which the leg's audio is handed over. `random`: 0 to 1."""

    def __init__(
        self,
        *,
        routes: Sequence[Route],
        audio: AudioFormat,
        options: SttOptions,
        breakers: Breakers,
        random: Callable[[], float],
    ) -> None:
        self._options = options
        self._tape = Tape(audio, options.replay_s)
        self._account = Account(audio.rate_hz)
        self._choice = RouteChoice(routes, breakers, random)
        self._routes = tuple(routes)
        self._utterances = Utterances()
        self._runs: dict[int, Run] = {}
        self._current: Run | None = None
        self._waiting: list[Stretch] = []
        self._next_start = 0
        "Position from which on no run and no waiting stretch exists."
        self._idle_utterance: OpenUtterance = OpenUtterance(self._utterances)
        self._marks: list[Mark] = []
        self._sessions = 0
        self._is_primed = False
        self._lost_at: float | None = None
        self._finish_by: float | None = None
        self._is_finished = False
        self._is_settling = False
        self._commands: list[Command] = []
        self._events: list[SttEvent] = []
        self.is_touched = False
        "Commands, events or an earlier deadline may be waiting; the driver sets it back."

    # What the call says

    def start(self, now: float) -> None:
        """The leg is answered. Providers that ask for priming are connected now, others at the first audio."""
        first = self._routes[0] if self._routes else None
        if first is not None and first.provider.policy(first.settings).prime_s > 0 and self._current is None:
            self._is_primed = True
            self._waiting.append(Stretch(self._next_start, None, self._idle_utterance))
            self._advance(now)

    def send_audio(self, data: bytes, call_time: float, now: float) -> None:
        """The gate is open: whole samples, the first captured at `call_time`. Contiguous with the chunk before
        unless `call_time` jumps. Raises InvalidState after `finish`."""
        if self._finish_by is not None:
            raise InvalidState("send_audio after finish")
        if not data:
            return
        before = self._tape.start
        self._tape.append(data, call_time)
        if self._tape.start != before:
            self._drop_overflow()
        run = self._current
        if run is None:
            self._want_session(now)
        elif run.pump(now):
            self._commands += (Transmit(run.number, message) for message in run.session.messages_to_send())
            self.is_touched = True
            if run.is_stalled:
                self._advance(now)

    def _want_session(self, now: float) -> None:
        if self._waiting and self._waiting[-1].until is None:
            return
        if self._lost_at is not None:
            self._lost_at = now  # it was lost in a pause: the gap begins with the speech that missed it
        self._waiting.append(Stretch(self._next_start, None, self._idle_utterance))
        self._advance(now)

    def finalize(self, now: float) -> None:
        """The gate closed and everything was given: flush. Answered by `Finalized`, at once where nothing is open."""
        end = self._tape.end
        if end == 0 or (self._marks and self._marks[-1].position == end):
            return
        self._marks.append(Mark(end, self._tape.end_time(end)))
        if self._current is not None:
            self._current.mark(end)
        self._advance(now)

    def purge(self, now: float) -> None:
        """Card data: what is unsent is forgotten, what is sent but not final will never be sent again. What the
        driver was given before cannot be called back."""
        end = self._tape.end
        sent = end if self._current is None else self._current.sent
        for mark in self._marks:
            if mark.position > sent:
                self._tell(mark)  # nothing of it will be flushed any more
        for run in self._runs.values():
            self._account.lose(run.sent, end if run.until is None else run.until)
            run.skip_to(end if run.until is None else run.until)
        for stretch in self._waiting:
            self._account.lose(stretch.start, end if stretch.until is None else stretch.until)
        self._waiting = [s for s in self._waiting if s.until is None]
        for stretch in self._waiting:
            stretch.start = end
        self._tape.release(end)
        self._next_start = max(self._next_start, end)
        self._advance(now)

    def finish(self, now: float) -> None:
        """Hang-up. `Finished` follows when the last words are in, or when there is no more waiting for them."""
        if self._finish_by is not None:
            return
        backlog = self._tape.seconds(self._tape.end - self._settled_to())
        patience = max((r.provider.policy(r.settings).close_timeout_s for r in self._routes), default=0.0)
        # Twice: a session lost in its last moments gets one successor that replays the tail.
        self._finish_by = now + 2 * patience + backlog / FASTER
        run = self._current
        if run is not None:
            run.until = self._tape.end
            if run.start == run.until and not run.is_open:
                self._remove(run, now)
                self._commands.append(Abort(run.number))
        for stretch in self._waiting:
            stretch.until = self._tape.end if stretch.until is None else stretch.until
        self._advance(now)

    # What the driver says

    def opened(self, session: int, now: float) -> None:
        """The upgrade succeeded."""
        run = self._runs.get(session)
        if run is None:
            self._commands.append(Abort(session))
            return
        run.opened(now, prime=self._is_primed)
        self._is_primed = False
        self._advance(now)

    def refused(self, session: int, *, status: int, reason: str, now: float) -> None:
        """No connection: the HTTP status of the upgrade, or 0 for anything below HTTP. `reason` is free of secrets."""
        run = self._runs.get(session)
        if run is not None:
            self._lose(run, f"{status} {reason}".strip(), run.route.provider.refusal(status), now)
            self._advance(now)

    def received(self, session: int, message: str | bytes, now: float) -> None:
        """A message, from whom and of what shape ever."""
        run = self._runs.get(session)
        if run is not None:
            run.heard()
            run.session.receive_message(message, now)
            self._advance(now)

    def closed(self, session: int, *, code: int, reason: str, now: float) -> None:
        """The connection is gone: the peer's code, or 1006."""
        run = self._runs.get(session)
        if run is not None:
            run.session.connection_lost(code, reason, now)
            self._advance(now)

    def writable(self, session: int, is_writable: bool, now: float) -> None:
        """Whether the socket takes more. While it does not, audio waits on the tape."""
        run = self._runs.get(session)
        if run is not None:
            run.is_writable = is_writable
            self._advance(now)

    # Time

    def deadline(self) -> float | None:
        """When `handle_timer` must be called at the latest."""
        if self._is_finished:
            return None
        times = [run.deadline() for run in self._runs.values()]
        if self._waiting:
            times.append(self._choice.not_before)
        return min((time for time in (*times, self._finish_by) if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Harmless when nothing is due."""
        if self._is_finished:
            return
        if self._finish_by is not None and now >= self._finish_by:
            self._give_up(now)
            return
        for run in list(self._runs.values()):
            run.session.handle_timer(now)
            if run.close_by is not None and now >= run.close_by:
                self._lose(run, "no end of stream", Cure.RETRY, now)
            elif self._is_due(run.park_at(), now) and run.is_idle:
                self._park(run)
            elif self._is_due(run.rotate_at(), now):
                self._rotate(run, now)
        self._advance(now)

    @staticmethod
    def _is_due(at: float | None, now: float) -> bool:
        return at is not None and now >= at

    # What comes out

    def take_commands(self) -> list[Command]:
        taken, self._commands = self._commands, []
        return taken

    def take_events(self) -> list[SttEvent]:
        taken, self._events = self._events, []
        return taken

    def ledger(self, now: float) -> SttLedger:
        """As of now; after `Finished` it does not change any more."""
        account = copy.copy(self._account)
        for run in self._runs.values():
            run.count(account, now)
        return account.ledger(self._tape.end, self._utterances.finals)

    # How it goes on

    def _advance(self, now: float) -> None:
        """After any change: everything that follows from it."""
        self.is_touched = True
        self._is_settling = True
        while self._is_settling:
            self._is_settling = False
            for run in list(self._runs.values()):
                self._work(run, now)
            self._connect(now)
        self._release()
        if self._finish_by is not None and not self._is_finished and not self._runs and not self._waiting:
            self._finished()

    def _work(self, run: Run, now: float) -> None:
        run.pump(now)
        if run.close_by is not None and run.is_untouched:
            self._end(run, now)
        elif run.is_stalled:
            self._lose(run, "stalled", Cure.RETRY, now)
        self._commands += (Transmit(run.number, message) for message in run.session.messages_to_send())
        for event in run.session.take_events():
            if run.number not in self._runs:
                break
            self._absorb(run, event, now)

    def _connect(self, now: float) -> None:
        """Gives every waiting stretch a session, if a route lets it."""
        while self._waiting:
            stretch = self._waiting[0]
            is_empty = stretch.until is not None and stretch.start >= stretch.until
            route = None if is_empty else self._choice.choose(now)
            if route is None and not is_empty:
                return
            self._waiting.pop(0)
            if route is not None:
                self._begin(stretch, route)

    def _begin(self, stretch: Stretch, route: Route) -> None:
        self._sessions += 1
        run = Run(
            self._sessions,
            route,
            tape=self._tape,
            options=self._options,
            account=self._account,
            start=stretch.start,
            until=stretch.until,
            marks=[mark.position for mark in self._marks],
            utterance=stretch.utterance,
        )
        self._runs[run.number] = run
        if run.until is None:
            self._current = run
            self._idle_utterance = OpenUtterance(self._utterances)
        endpoint = route.provider.endpoint(route.settings, run.wire, self._options)
        self._commands.append(Connect(run.number, route.provider.name, endpoint.url, endpoint.headers))

    def _absorb(self, run: Run, event: SessionEvent, now: float) -> None:
        match event:
            case Accepted():
                self._accepted(run, now)
            case Partial():
                self._choice.proved()
                self._show(run, event)
            case Segment():
                self._choice.proved()
                self._close_segment(run, event)
            case Flushed(through, is_answered):
                position = run.settle(through) if is_answered else run.position(through)
                self._tell_finalized(run, position)
                if not run.was_heard and not run.policy.holds_unheard and run.is_idle:
                    self._park(run)
            case Failed(reason, cure):
                self._lose(run, reason, cure, now)
            case Ended():
                self._end(run, now)

    def _accepted(self, run: Run, now: float) -> None:
        self._choice.accepted(run.route)
        if self._lost_at is not None:
            replayed = max(run.replay_until - run.start, 0)
            gap = now - self._lost_at
            self._events.append(Restored(run.route.provider.name, gap, self._tape.seconds(replayed)))
            self._lost_at = None

    def _show(self, run: Run, partial: Partial) -> None:
        if not self._options.interim:
            return
        words = run.words(partial.words, self._utterances)
        text = partial.text if len(words) == len(partial.words) else " ".join(word.text for word in words)
        self._show_interim(run.utterance, text if words else "", words)

    def _show_interim(self, utterance: OpenUtterance, text: str, words: tuple[Word, ...]) -> None:
        interim = utterance.interim(text, words)
        if interim is not None:
            self._events.append(interim)

    def _close_segment(self, run: Run, segment: Segment) -> None:
        words = run.words(segment.words, self._utterances)
        if words:
            text = segment.text if len(words) == len(segment.words) else " ".join(word.text for word in words)
            self._events.append(
                run.utterance.final(
                    text,
                    words,
                    language=segment.language,
                    confidence=segment.confidence,
                    provider=run.route.provider.name,
                    speech_final=segment.speech_final,
                )
            )
        else:
            self._show_interim(run.utterance, "", ())
        self._tell_finalized(run, run.settle(segment.end) + int(NEAR * self._tape.audio.rate_hz))

    def _tell_finalized(self, run: Run, position: int) -> None:
        """Of the marks in the run's own stretch; an earlier one belongs to a run that is still being drained."""
        for mark in self._marks:
            if run.start < mark.position <= position:
                self._tell(mark)

    def _tell(self, mark: Mark) -> None:
        if not mark.is_told:
            mark.is_told = True
            self._events.append(Finalized(mark.through))

    # The end of a run

    def _park(self, run: Run) -> None:
        """The session is ended in good order; its successor is opened at the next audio."""
        run.until = run.sent
        self._is_settling = True
        if run is self._current:
            self._current = None
            self._next_start = run.sent

    def _rotate(self, run: Run, now: float) -> None:
        if run.paused_at is not None:
            self._park(run)
        else:
            self._lose(run, "rotated", Cure.RETRY, now, is_rotation=True)

    def _end(self, run: Run, now: float) -> None:
        """The provider has given everything."""
        assert run.until is not None
        run.settled = run.until
        self._remove(run, now)
        self._commands.append(Close(run.number))
        self._tell_finalized(run, run.until)
        if run.utterance.is_shown:
            self._show_interim(run.utterance, "", ())

    def _lose(self, run: Run, reason: str, cure: Cure, now: float, *, is_rotation: bool = False) -> None:
        """Its unsettled stretch goes back to wait for another session."""
        if run.number not in self._runs:
            return
        # What it knows for certain (final tokens that no endpoint has closed yet) is still taken.
        run.session.connection_lost(1006, reason, now)
        for event in run.session.take_events():
            if isinstance(event, (Segment, Partial, Flushed)):
                self._absorb(run, event, now)
        was_current = run is self._current
        self._remove(run, now)
        self._commands.append(Abort(run.number))
        if not is_rotation:
            self._choice.failed(run.route, cure, now)
            if self._lost_at is None:
                self._lost_at = now
                self._events.append(Lost(run.route.provider.name, reason))
        start = max(run.settled, self._tape.start)
        self._account.lose(run.settled, min(start, run.sent))
        if was_current:
            self._next_start = start
            self._idle_utterance = run.utterance
            if start < self._tape.end:
                self._waiting.append(Stretch(start, run.until, run.utterance))
        elif run.until is not None and start < run.until:
            self._waiting.insert(0, Stretch(start, run.until, run.utterance))

    def _remove(self, run: Run, now: float) -> None:
        del self._runs[run.number]
        self._is_settling = True
        if run is self._current:
            self._current = None
        run.count(self._account, now)

    def _give_up(self, now: float) -> None:
        """The deadline after the hang-up has passed: what is not settled by now is lost."""
        for run in list(self._runs.values()):
            self._account.lose(run.settled, run.until if run.until is not None else self._tape.end)
            self._remove(run, now)
            self._commands.append(Abort(run.number))
        for stretch in self._waiting:
            self._account.lose(stretch.start, stretch.until if stretch.until is not None else self._tape.end)
        self._waiting.clear()
        self._finished()

    def _finished(self) -> None:
        for mark in self._marks:
            self._tell(mark)
        self._marks.clear()
        self._is_finished = True
        self.is_touched = True
        self._events.append(Finished())

    # The tape

    def _settled_to(self) -> int:
        """First position that may still be needed."""
        starts = [run.settled for run in self._runs.values()]
        starts += [stretch.start for stretch in self._waiting]
        has_open_end = self._current is not None or any(stretch.until is None for stretch in self._waiting)
        return min((*starts, self._tape.end if has_open_end or self._finish_by is not None else self._next_start))

    def _release(self) -> None:
        settled = self._settled_to()
        self._tape.release(settled)
        for mark in self._marks:
            if mark.position <= settled:
                self._tell(mark)
        while self._marks and self._marks[0].position <= settled:
            self._marks.pop(0)

    def _drop_overflow(self) -> None:
        """The ring is full: what no session has been given by now never will be."""
        oldest = self._tape.start
        for run in self._runs.values():
            if run.sent < oldest:
                self._account.lose(run.sent, oldest)
                run.skip_to(oldest)
        for stretch in self._waiting:
            if stretch.start < oldest:
                self._account.lose(stretch.start, oldest if stretch.until is None else min(oldest, stretch.until))
                stretch.start = oldest
