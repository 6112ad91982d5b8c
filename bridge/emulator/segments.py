"""How Deepgram cuts a channel into results: interims, finals at an endpoint or by length, UtteranceEnd. Pure.

All times are seconds of audio of this stream. Sources: captures and documents quoted in the project's provider notes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.emulator.audio import Activity
from bridge.emulator.recogniser import HeardWord, Recogniser

INTERIM_EVERY = 1.0  # s of audio; captures of 2026-08 and 2026-09
LONGEST_SEGMENT = 4.5  # s; captures show finals without an endpoint after 4-5 s
ENDPOINT_FLOOR = 0.2  # s; own choice: level alone must not take the closure of a stop consonant for an endpoint
MINIMUM_CUT = 0.5  # s; a segment cut before a word under way keeps at least this much


@dataclass(frozen=True, slots=True)
class Segment:
    """One Results message: [start, start + duration)."""

    start: float
    duration: float
    words: tuple[HeardWord, ...]
    is_final: bool = False
    speech_final: bool = False
    from_finalize: bool = False


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    timestamp: float


@dataclass(frozen=True, slots=True)
class UtteranceEnd:
    last_word_end: float


SegmentEvent = Segment | SpeechStarted | UtteranceEnd


@dataclass(frozen=True, slots=True)
class SegmentRules:
    """What the query asked for. Seconds; None: off."""

    interims: bool = False
    endpointing: float | None = 0.01
    utterance_end: float | None = None
    speech_started: bool = False


class Segmenter:
    """One channel. Feed it at most 0.1 s at a time: that is the grain of its decisions."""

    def __init__(self, recogniser: Recogniser, rules: SegmentRules) -> None:
        self._recogniser, self._rules = recogniser, rules
        self._activity = Activity()
        self._words: list[HeardWord] = []
        self._start = 0.0
        self._clock = 0.0
        self._next_interim = INTERIM_EVERY
        self._last_word_end = -1.0
        self._utterance_ended_at = -1.0
        self._onset_told = -1.0

    @property
    def buffered(self) -> float:
        """Audio that no final covers yet."""
        return self._clock - self._start

    def push(self, samples: npt.NDArray[np.int16], clock: float) -> list[SegmentEvent]:
        """`clock`: audio received on this channel, these samples included."""
        self._clock = clock
        self._activity.push(samples)
        self._hear(self._recogniser.push(samples))
        events: list[SegmentEvent] = []
        if self._rules.speech_started and self._activity.onset > self._onset_told:
            self._onset_told = self._activity.onset
            events.append(SpeechStarted(self._activity.onset))
        if self._is_endpoint():
            events.append(self._close(clock, speech_final=True))
        elif self.buffered >= LONGEST_SEGMENT:
            events.append(self._close_by_length())
        elif clock >= self._next_interim - 1e-9:
            self._next_interim += INTERIM_EVERY
            if self._rules.interims:
                events.append(Segment(self._start, self.buffered, tuple(self._words)))
        return events + self._utterance_end()

    def finish(self, *, from_finalize: bool = False) -> Segment:
        """Everything received so far becomes final."""
        return self._close(self._clock, speech_final=True, from_finalize=from_finalize)

    def _hear(self, words: list[HeardWord]) -> None:
        if words:
            self._words = sorted([*self._words, *words], key=lambda word: word.start)
            self._last_word_end = max(self._last_word_end, self._words[-1].end)

    def _is_endpoint(self) -> bool:
        pause = self._rules.endpointing
        if pause is None or self._activity.last_loud <= self._start:
            return False
        if self._activity.quiet_for(self._clock) < max(pause, ENDPOINT_FLOOR):
            return False
        return self._recogniser.word_under_way() is None

    def _close_by_length(self) -> Segment:
        """A final may end before the last interim did: a word under way belongs to the next segment."""
        spoke = self._activity.last_loud > self._start
        word = self._recogniser.word_under_way()
        cut = self._clock if word is None or word < self._start + MINIMUM_CUT else word
        return self._close(cut, speech_final=not spoke and self._rules.endpointing is not None)

    def _close(self, end: float, *, speech_final: bool, from_finalize: bool = False) -> Segment:
        self._hear(self._recogniser.flush())
        inside = tuple(word for word in self._words if word.end <= end + 1e-3)
        self._words = [word for word in self._words if word.end > end + 1e-3]
        closed = Segment(self._start, end - self._start, inside, True, speech_final, from_finalize)
        self._start, self._next_interim = end, end + INTERIM_EVERY
        return closed

    def _utterance_end(self) -> list[SegmentEvent]:
        gap = self._rules.utterance_end
        if gap is None or self._last_word_end <= self._utterance_ended_at or self._clock - self._last_word_end < gap:
            return []
        if self._recogniser.word_under_way() is not None or self._activity.quiet_for(self._clock) < ENDPOINT_FLOOR:
            return []
        self._utterance_ended_at = self._last_word_end
        return [UtteranceEnd(self._last_word_end)]
