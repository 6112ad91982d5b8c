"""One session at work on a stretch of the tape: what it has been given, what is settled, what its words mean."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.model import AudioFormat, Word
from bridge.stt.ledger import Account
from bridge.stt.pace import Pace
from bridge.stt.routing import Route
from bridge.stt.session import Policy, StreamWord, SttOptions, SttSession
from bridge.stt.tape import Tape
from bridge.stt.timeline import Piece, Timeline
from bridge.stt.utterances import OpenUtterance, Utterances
from bridge.stt.wire import converter, silence

STALL_S = 20.0
"""s of audio sent without hearing anything: the provider is deaf. It says something every second, even in silence.
Well below the ring's 60 s, so that nothing is lost by then."""
PARK_MARGIN = 0.5
"""s; a session is parked this much early, so that its last words and its end come within what was allowed."""
ROTATION_GRACE_S = 1200.0
"""s that an old session may go on without a pause; then it is replaced in mid-speech, by a replay."""
STRADDLE = 1.0
"""s; a word may begin so long before the end of a segment and yet come with the next one: where the provider cuts by
the clock, not between words. What lies between a segment's last word and its end is therefore given again."""
TIMELINE_KEPT = 30.0
"""s of stream time behind the last settled audio for which words may still be told."""


class Run:
    """From `start` on the tape to `until`, or on and on while that is None."""

    def __init__(
        self, number: int, route: Route, *, tape: Tape, options: SttOptions, account: Account, start: int,
        settled: int, until: int | None, marks: Iterable[int], utterance: OpenUtterance,
    ) -> None:  # fmt: skip
        self.number = number
        self.route = route
        self.start = start
        self.until = until
        self.sent = start
        "Next position to send."
        self.settled = settled
        "Before it nothing is awaited from this session any more. Behind `start` at first where it follows a lost one."
        self.resume = start
        "Where another session would have to begin, were this one lost: behind the last word, `STRADDLE` at most."
        self.policy: Policy = route.provider.policy(route.settings)
        self.wire: AudioFormat = route.provider.wire(route.settings, tape.audio)
        self.session: SttSession = route.provider.make_session(route.settings, self.wire, options)
        self.utterance = utterance
        self.replay_until = account.sent_to
        self.opened_at: float | None = None
        self.close_by: float | None = None
        "Set once the end of the audio was told."
        self.paused_at: float | None = None
        "The last flush, while nothing was sent since."
        self.is_writable = True
        self.was_heard = False
        self._marks = [mark for mark in marks if mark > start]
        self._tape = tape
        self._account = account
        self._convert = converter(tape.audio, self.wire)
        self._chunk = max(options.chunk_ms * tape.audio.rate_hz // 1000, 1)
        self._timeline = Timeline(tape.audio.rate_hz)
        self._streamed = 0
        self._unheard = 0
        self._pace: Pace | None = None
        self._is_unflushed = False

    @property
    def is_open(self) -> bool:
        return self.opened_at is not None

    @property
    def is_idle(self) -> bool:
        return self.sent >= self._tape.end and not self._marks

    @property
    def has_backlog(self) -> bool:
        """More than an unfinished frame is waiting to be sent."""
        return self.sent + self._chunk <= self._tape.end

    @property
    def is_paused(self) -> bool:
        """Everything is flushed, and there is nothing more to send."""
        return self.paused_at is not None and self.is_idle

    @property
    def is_stalled(self) -> bool:
        return self._unheard > STALL_S * self._tape.audio.rate_hz

    @property
    def is_untouched(self) -> bool:
        """No audio was ever given to it."""
        return self._streamed == 0

    def opened(self, now: float, *, prime: bool) -> None:
        self.opened_at = now
        self._account.sessions += 1
        is_replay = self.start < self.replay_until
        self._pace = Pace(self._tape.audio.rate_hz, chunk=self._chunk, is_replay=is_replay, now=now)
        self.session.connected(now)
        if prime and self.policy.prime_s > 0 and self.sent >= self._tape.end:
            self._pad(self.policy.prime_s, now)

    def _pad(self, seconds: float, now: float) -> None:
        samples = int(seconds * self.wire.rate_hz)
        call = self._tape.call_time(self.sent) if self._tape.end else 0.0
        self._timeline.add(Piece(self._stream_s, self.sent, call, is_padding=True))
        self.session.send_audio(silence(self.wire, samples), now)
        self._streamed += samples
        self._account.pad(samples)

    @property
    def _stream_s(self) -> float:
        return self._tape.seconds(self._streamed)

    def retime(self, by: float, since: float) -> None:
        """See `Tape.retime`."""
        self._timeline.retime(by, since)

    def mark(self, position: int) -> None:
        """A flush is wanted once everything before `position` is sent."""
        self._marks.append(position)

    def skip_to(self, position: int) -> None:
        """What lies between is not on the tape any more."""
        self.sent = max(self.sent, position)
        if self.until is not None:
            self.until = max(self.until, self.sent)

    def pump(self, now: float) -> bool:
        """Sends what may be sent: audio, flushes behind it, and the end of the stream behind all. True: it did."""
        if self._pace is None or self.close_by is not None or not self.is_writable:
            return False
        before = self._streamed
        while True:
            while self._marks and self._marks[0] <= self.sent:
                del self._marks[0]
                if self._is_unflushed:
                    self.session.finalize(now)
                    self._is_unflushed = False
                    self.paused_at = now
            samples = self._sendable()
            if samples <= 0 or self._pace.ready_at(samples) > now + 1e-6:
                break
            self._send(samples, now)
        if self.until is not None and self.sent >= self.until:
            self.close_by = now + self.policy.close_timeout_s
            if not self.is_untouched:
                self.session.finish(now)
        return self._streamed != before

    def _sendable(self) -> int:
        """Samples of the next frame: a whole chunk, or what is left before a flush or the end."""
        stop = self._marks[0] if self._marks else self._tape.end if self.until is None else self.until
        ready = min(stop - self.sent, self._chunk)
        is_cut_short = bool(self._marks) or self.until is not None
        return ready if ready == self._chunk or is_cut_short else 0

    def _send(self, samples: int, now: float) -> None:
        assert self._pace is not None
        end = self.sent + samples
        data = self._tape.read(self.sent, end)
        self._map(self.sent, end)
        self.session.send_audio(data if self._convert is None else self._convert(data), now)
        self._pace.spend(samples, now)
        self._account.send(self.sent, end)
        self._streamed += samples
        self._unheard += samples
        self.sent = end
        self._is_unflushed = True
        self.paused_at = None

    def _map(self, start: int, end: int) -> None:
        """Ties the stream time at which this chunk goes out to the call."""
        while start < end:
            cut = min(self._tape.cut_after(start), end)
            last = self._timeline.last
            stream = self._stream_s + self._tape.seconds(start - self.sent)
            call = self._tape.call_time(start)
            is_contiguous = (
                last is not None
                and not last.is_padding
                and abs(last.call + stream - last.stream - call) < 1e-6
                and last.position + round((stream - last.stream) * self.wire.rate_hz) == start
            )
            if not is_contiguous:
                self._timeline.add(Piece(stream, start, call))
            start = cut

    def heard(self) -> None:
        self.was_heard = True
        self._unheard = 0

    def settle(self, stream: float, spoken: float | None = None) -> int:
        """Everything up to this stream time is dealt with. The tape position of it. `spoken`: where the last word
        before it ended; None where a flush has left no word behind."""
        if self._timeline.last is None:
            return self.settled
        position = min(self._timeline.position(stream), self.sent)
        self.settled = max(self.settled, position)
        if spoken is None:
            self.resume = max(self.resume, position)
        else:
            earliest = position - int(STRADDLE * self._tape.audio.rate_hz)
            self.resume = max(self.resume, earliest, min(self._timeline.position(spoken), position))
        self._timeline.forget_before(stream - TIMELINE_KEPT)
        return position

    def words(self, words: Iterable[StreamWord], utterances: Utterances) -> tuple[Word, ...]:
        """In call time, without what an earlier session said already."""
        if self._timeline.last is None:
            return ()
        new: list[Word] = []
        replayed: list[Word] = []
        for word in words:
            start, end = self._timeline.call_span(word.start, word.end)
            told = Word(word.text, start, end, word.confidence)
            is_replayed = self.start < self.replay_until and self._timeline.position(word.start) < self.replay_until
            (replayed if is_replayed else new).append(told)
        return (*utterances.without_repeats(replayed), *new) if replayed else tuple(new)

    def park_at(self) -> float | None:
        """When a pause has lasted too long for this provider's way of charging."""
        if self.policy.park_after_s is None or self.close_by is not None or not self.is_paused:
            return None
        assert self.paused_at is not None
        return self.paused_at + max(self.policy.park_after_s - PARK_MARGIN, 0.0)

    def rotate_at(self) -> float | None:
        """When a session is as old as it should get: in a pause, or latest after the grace."""
        if self.opened_at is None or self.policy.rotate_after_s is None or self.close_by is not None:
            return None
        return self.opened_at + self.policy.rotate_after_s + (0.0 if self.is_paused else ROTATION_GRACE_S)

    def deadline(self) -> float | None:
        times = [self.session.deadline(), self.close_by, self.park_at(), self.rotate_at(), self._next_frame_at()]
        return min((time for time in times if time is not None), default=None)

    def _next_frame_at(self) -> float | None:
        if self._pace is None or self.close_by is not None or not self.is_writable:
            return None
        samples = self._sendable()
        return self._pace.ready_at(samples) if samples > 0 else None

    def count(self, account: Account, now: float) -> None:
        """Books what this session came to, once it is over or as if it were."""
        account.keepalives += self.session.keepalives
        account.provider_s += self.session.provider_s
        if self.opened_at is not None:
            account.connected_s += now - self.opened_at
            if self.policy.billed == "stream":
                account.billable_s += now - self.opened_at
        if self.policy.billed == "audio":
            account.billable_s += self._stream_s
