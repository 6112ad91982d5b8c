"""All sessions of one leg: which stretch of the tape each has, and what becomes of it.

    want ─> Stretch, which waits ── _connect, where a route lets it ──> Run, which works ── Ended ──> done
                 ^                                                       │        │
                 └── lose: its unsettled rest ── lost, stalled, rotated ─┘        └─ _park (a long pause): it gets no
                                                                                     more, and is drained on the side

At most one run is `current`, the one that takes what comes; after parking the next audio asks for another.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bridge.model import AudioFormat
from bridge.stt.events import Abort, Close, Command, Connect, Lost, Probe, Restored, SttEvent, Transmit
from bridge.stt.ledger import Account, SttLedger
from bridge.stt.marks import Marks
from bridge.stt.routing import Breakers, Route, RouteChoice
from bridge.stt.run import Run
from bridge.stt.session import Accepted, Cure, Ended, Failed, Flushed, Partial, Segment, SessionEvent, SttOptions
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
    resume: int
    "At most `start`: what lies between is given along, for the word that may have begun in it."


class Runs:
    """What happens is told to its methods and to the runs themselves; then `advance` draws the consequences."""

    def __init__(
        self,
        routes: Sequence[Route],
        audio: AudioFormat,
        options: SttOptions,
        breakers: Breakers,
        random: Callable[[], float],
    ) -> None:
        self.tape = Tape(audio, options.replay_s)
        self.marks = Marks()
        self.current: Run | None = None
        "The one that takes what comes; None in an outage, after parking, and before the first audio."
        self._options = options
        self._account = Account(audio.rate_hz)
        self._choice = RouteChoice(routes, breakers, random)
        self._utterances = Utterances()
        self._runs: dict[int, Run] = {}
        self._waiting: list[Stretch] = []
        self._next_start = 0
        "Where the next open-ended stretch begins, while there is none."
        self._next_resume = 0
        self._utterance = OpenUtterance(self._utterances)
        "The one that the next open-ended run goes on with."
        self._sessions = 0
        self._lost_at: float | None = None
        self._is_changed = False
        self._commands: list[Command] = []
        self._events: list[SttEvent] = []

    def find(self, session: int) -> Run | None:
        return self._runs.get(session)

    def all(self) -> list[Run]:
        return list(self._runs.values())

    @property
    def is_done(self) -> bool:
        return not self._runs and not self._waiting

    def is_hopeless(self, until: float) -> bool:
        """Nothing is connected, nor tried to be before then."""
        return not self._runs and bool(self._waiting) and self._choice.not_before >= until

    def take_commands(self) -> list[Command]:
        taken, self._commands = self._commands, []
        return taken

    def take_events(self) -> list[SttEvent]:
        taken = [*self._events, *self.marks.take_events()]
        self._events = []
        return taken

    def deadline(self) -> float | None:
        times = [run.deadline() for run in self._runs.values()]
        if self._waiting:
            times.append(self._choice.not_before)
        return min((time for time in times if time is not None), default=None)

    def ledger(self, now: float) -> SttLedger:
        account = copy.copy(self._account)
        for run in self._runs.values():
            run.count(account, now)
        ledger = account.ledger(self.tape.end, self._utterances.finals)
        account.lose(self.settled_to(), self.tape.end)
        at_worst = account.ledger(self.tape.end, self._utterances.finals)
        return replace(ledger, unsettled_s=at_worst.lost_s - ledger.lost_s)

    # What is asked

    def want(self, now: float) -> None:
        """An open-ended run is needed."""
        if self.current is not None or (self._waiting and self._waiting[-1].until is None):
            return
        if self._lost_at is not None:
            self._lost_at = now  # it was lost in a pause: the gap begins with the speech that missed it
        self._waiting.append(Stretch(self._next_start, None, self._utterance, self._next_resume))

    def feed(self, run: Run, now: float) -> bool:
        """The short way for what happens ten times a second: new audio on the tape. True: something was sent."""
        if not run.pump(now):
            return False
        self._transmit(run)
        if run.is_stalled:
            self.advance(now)
        return True

    def retime(self, by: float, since: float) -> None:
        """See `Tape.retime`. Words that are not told yet are told by the new times."""
        self.tape.retime(by, since)
        self.marks.retime(by, since)
        self._utterances.retime(by, since)
        for run in self._runs.values():
            run.retime(by, since)

    def close_end(self, now: float) -> None:
        """No more audio comes: what is open-ended ends where the tape does."""
        end = self.tape.end
        run = self.current
        if run is not None:
            run.until = end
            if run.settled == end and not run.is_open:
                self._remove(run, now)
                self._commands.append(Abort(run.number))
        for stretch in self._waiting:
            stretch.until = end if stretch.until is None else stretch.until

    def forget_audio(self) -> None:
        """Everything on the tape: what is unsent stays so, what is unsettled is never replayed."""
        end = self.tape.end
        self.marks.tell(end if self.current is None else self.current.sent, end)
        for run in self._runs.values():
            until = end if run.until is None else run.until
            self._account.lose(max(run.sent, run.settled), until)
            run.skip_to(until)
        for stretch in self._waiting:
            self._account.lose(stretch.start, end if stretch.until is None else stretch.until)
            stretch.start = stretch.resume = end if stretch.until is None else stretch.until
        self.tape.release(end)
        self._go_on_at(end)

    def drop_overflow(self) -> None:
        """The tape is full and has let go of its oldest audio: what no session was given by now never will be."""
        oldest = self.tape.start
        for run in self._runs.values():
            if run.sent < oldest:
                self._account.lose(max(run.sent, run.settled), oldest)
                run.skip_to(oldest)
        for stretch in self._waiting:
            stretch.resume = max(stretch.resume, oldest)
            if stretch.start < oldest:
                until = oldest if stretch.until is None else min(oldest, stretch.until)
                self._account.lose(stretch.start, until)
                stretch.start = until

    def give_up(self, now: float) -> None:
        """What is not settled by now is lost."""
        for run in self.all():
            self._account.lose(run.settled, self.tape.end if run.until is None else run.until)
            self._remove(run, now)
            self._commands.append(Abort(run.number))
        for stretch in self._waiting:
            self._account.lose(stretch.start, self.tape.end if stretch.until is None else stretch.until)
        self._waiting.clear()
        self._go_on_at(self.tape.end)

    def check_times(self, now: float) -> None:
        """Closing, parking and rotating, where due. The sessions' own timers too."""
        for run in self.all():
            run.session.handle_timer(now)
            if run.close_by is not None and now >= run.close_by:
                self.lose(run, "no end of stream", Cure.RETRY, now)
            elif _is_due(run.park_at(), now):
                self._park(run)
            elif _is_due(run.rotate_at(), now):
                if run.is_paused:
                    self._park(run)
                else:
                    self.lose(run, "rotated", Cure.RETRY, now, is_rotation=True)

    # What follows

    def advance(self, now: float) -> None:
        """Until nothing follows any more."""
        self._is_changed = True
        while self._is_changed:
            self._is_changed = False
            for run in self.all():
                self._work(run, now)
            self._connect(now)
        needed = self._needed_from()
        self.tape.release(needed)
        self.marks.settled(self.settled_to())
        # What the tape lost before (a purge, an overflow) some session may still be hearing again.
        if self._utterances.may_repeat and needed >= self.tape.start:
            self._utterances.settled(self.tape.call_time(self.tape.start))

    def _work(self, run: Run, now: float) -> None:
        self._take(run, now)  # first: a session that has ended takes nothing more
        if run.number not in self._runs:
            return
        run.pump(now)
        if run.close_by is not None and run.is_untouched:
            self._end(run, now)
        elif run.is_stalled:
            self.lose(run, "stalled", Cure.RETRY, now)
        self._transmit(run)
        self._take(run, now)

    def _take(self, run: Run, now: float) -> None:
        for event in run.session.take_events():
            if run.number not in self._runs:
                break
            self._absorb(run, event, now)

    def _transmit(self, run: Run) -> None:
        self._commands += (Transmit(run.number, message) for message in run.session.messages_to_send())

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
        run = self._runs[self._sessions] = Run(
            self._sessions,
            route,
            tape=self.tape,
            options=self._options,
            account=self._account,
            start=stretch.resume,
            settled=stretch.start,
            until=stretch.until,
            marks=self.marks.positions(),
            utterance=stretch.utterance,
        )
        if run.until is None:
            self.current = run
            self._utterance = OpenUtterance(self._utterances)
        endpoint = route.provider.endpoint(route.settings, run.wire, self._options)
        self._commands.append(Connect(run.number, route.provider.name, endpoint.url, endpoint.headers))

    def _absorb(self, run: Run, event: SessionEvent, now: float) -> None:
        match event:
            case Accepted():
                self._accepted(run, now)
            case Partial():
                self._choice.proved()
                if self._options.interim:
                    self._events += run.utterance.show(event, run.words(event.words, self._utterances))
            case Segment():
                self._choice.proved()
                self._close_segment(run, event)
            case Flushed():
                self._flushed(run, event)
            case Failed(reason, cure):
                self.lose(run, reason, cure, now)
            case Ended():
                self._end(run, now)

    def _accepted(self, run: Run, now: float) -> None:
        self._choice.accepted(run.route)
        if self._lost_at is not None:
            replayed = self.tape.seconds(max(run.replay_until - run.start, 0))
            self._events.append(Restored(run.route.provider.name, now - self._lost_at, replayed))
            self._lost_at = None

    def _close_segment(self, run: Run, segment: Segment) -> None:
        words = run.words(segment.words, self._utterances)
        self._events += run.utterance.close(segment, words, run.route.provider.name)
        near = int(NEAR * self.tape.audio.rate_hz)
        spoken = max((word.end for word in segment.words), default=0.0)
        self.marks.tell(run.start, run.settle(segment.end, spoken) + near)

    def _flushed(self, run: Run, event: Flushed) -> None:
        # Of the marks in the run's own stretch: an earlier one belongs to a run that is still being drained.
        if event.is_answered:
            self.marks.tell(run.start, run.settle(event.through))
            return
        settled = self.settled_to()  # silence proves nothing: what is to be said of the rest, if anything, may come
        if 0 < settled < self.tape.end:
            self.marks.tell_short(self.tape.call_time(settled))
        if not run.was_heard and not run.policy.holds_unheard and run.is_idle:
            self._park(run)
        elif run.utterance.is_shown:
            self._commands.append(Probe(run.number))

    def _park(self, run: Run) -> None:
        """The session is ended in good order; its successor is opened at the next audio."""
        run.until = run.sent
        self._is_changed = True
        if run is self.current:
            self.current = None
            self._go_on_at(run.sent)

    def _end(self, run: Run, now: float) -> None:
        """The provider has given everything."""
        until = run.sent if run.until is None else run.until
        self._remove(run, now)
        self._commands.append(Close(run.number))
        self.marks.tell(run.start, until)
        self._events += run.utterance.take_back()

    def lose(self, run: Run, reason: str, cure: Cure, now: float, *, is_rotation: bool = False) -> None:
        """Its unsettled stretch goes back to wait for another session."""
        if run.number not in self._runs:
            return
        # What it knows for certain (final tokens that no endpoint has closed yet) is still taken.
        run.session.connection_lost(1006, reason, now)
        for event in run.session.take_events():
            if isinstance(event, (Segment, Partial, Flushed)):
                self._absorb(run, event, now)
        was_current = run is self.current
        self._remove(run, now)
        self._commands.append(Abort(run.number))
        if not is_rotation:
            self._choice.failed(run.route, cure, now)
            if self._lost_at is None:
                self._lost_at = now
                self._events.append(Lost(run.route.provider.name, reason))
        start = max(run.settled, self.tape.start)
        resume = max(run.resume, self.tape.start)
        self._account.lose(run.settled, min(start, run.sent))
        if was_current:
            self._go_on_at(start, resume)
            self._utterance = run.utterance
        if start < (self.tape.end if run.until is None else run.until):
            self._waiting.append(Stretch(start, run.until, run.utterance, resume))
            self._waiting.sort(key=lambda stretch: stretch.start)

    def _go_on_at(self, start: int, resume: int | None = None) -> None:
        self._next_start, self._next_resume = start, start if resume is None else resume

    def _remove(self, run: Run, now: float) -> None:
        del self._runs[run.number]
        self._is_changed = True
        if run is self.current:
            self.current = None
            self._go_on_at(self.tape.end)
        run.count(self._account, now)

    def settled_to(self) -> int:
        """First position that may still be waited for."""
        starts = [run.settled for run in self._runs.values()]
        starts += [stretch.start for stretch in self._waiting]
        return min((*starts, self.tape.end if self._has_open_end else self._next_start))

    def _needed_from(self) -> int:
        """First position that another session may have to be given."""
        starts = [run.resume for run in self._runs.values()]
        starts += [stretch.resume for stretch in self._waiting]
        return min((*starts, self.tape.end if self._has_open_end else self._next_resume))

    @property
    def _has_open_end(self) -> bool:
        return self.current is not None or any(stretch.until is None for stretch in self._waiting)


def _is_due(at: float | None, now: float) -> bool:
    return at is not None and now >= at
