from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from bridge.emulator.recogniser import HeardWord, Samples
from bridge.emulator.segments import Segment, Segmenter, SegmentRules


class SlowRecogniser:
    """Knows its words beforehand and tells each only `delay` seconds of audio after its end, unless flushed."""

    def __init__(self, *spans: tuple[float, float], delay: float) -> None:
        self._words = [HeardWord(f"w{n}", f"w{n}", start, end, 0.9) for n, (start, end) in enumerate(spans)]
        self._delay = delay
        self._seconds = 0.0

    def _told(self, until: float) -> list[HeardWord]:
        told = [word for word in self._words if word.end <= until + 1e-9]
        self._words = self._words[len(told) :]
        return told

    def push(self, samples: Samples) -> list[HeardWord]:
        self._seconds += len(samples) / 8000
        return self._told(self._seconds - self._delay)

    def flush(self) -> list[HeardWord]:
        return self._told(self._seconds)

    def word_under_way(self) -> float | None:
        return next((word.start for word in self._words if word.start < self._seconds < word.end), None)

    def settle(self) -> Sequence[Future[Any]]:
        return ()


def run(recogniser: SlowRecogniser, *, loud: list[tuple[float, float]], seconds: float, **rules: Any) -> list[Segment]:
    samples = np.zeros(round(seconds * 8000), np.int16)
    for start, end in loud:
        samples[round(start * 8000) : round(end * 8000)] = 2000
    segmenter = Segmenter(recogniser, SegmentRules(**rules))
    events = []
    for at in range(0, len(samples), 800):
        events += segmenter.push(samples[at : at + 800], (at + 800) / 8000)
    return [event for event in [*events, segmenter.finish()] if isinstance(event, Segment) and event.is_final]


def texts(segments: list[Segment]) -> list[list[str]]:
    return [[word.text for word in segment.words] for segment in segments]


def test_a_closing_segment_asks_for_the_words_that_are_still_on_their_way() -> None:
    segments = run(SlowRecogniser((0.2, 0.5), (0.6, 1.0), delay=0.8), loud=[(0.2, 1.0)], seconds=2.0, endpointing=0.3)
    assert texts(segments) == [["w0", "w1"], []]
    assert segments[0].speech_final
    assert segments[0].duration == pytest.approx(1.3)


def test_a_segment_cut_by_length_ends_before_the_word_under_way() -> None:
    segments = run(SlowRecogniser((4.0, 4.3), (4.4, 4.9), delay=0), loud=[(0, 5)], seconds=5.5, endpointing=None)
    assert texts(segments) == [["w0"], ["w1"]]
    assert (segments[0].duration, segments[1].start) == (pytest.approx(4.4), pytest.approx(4.4))
    assert not segments[0].speech_final


def test_silence_alone_gives_empty_finals_that_end_the_turn_only_with_endpointing() -> None:
    with_it = run(SlowRecogniser(delay=0), loud=[], seconds=5.0, endpointing=0.01)
    without = run(SlowRecogniser(delay=0), loud=[], seconds=5.0, endpointing=None)
    assert (texts(with_it), with_it[0].speech_final) == ([[], []], True)
    assert not without[0].speech_final


def test_a_pause_inside_a_word_is_no_endpoint() -> None:
    segments = run(SlowRecogniser((0.2, 1.2), delay=0), loud=[(0.2, 0.5), (1.0, 1.2)], seconds=2.0, endpointing=0.2)
    assert texts(segments) == [["w0"], []]
    assert segments[0].duration > 1.2
