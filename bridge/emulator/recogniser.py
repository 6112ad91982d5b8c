"""What a stand-in provider listens with. Sans-IO: samples in, words in stream time out.

A recogniser hears one channel of one stream, at 8 kHz, gapless: sample n is stream time n/8000.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

RATE_HZ = 8000
Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A word with its place in the stream, seconds of audio received on this connection."""

    text: str
    "Bare and lower case."
    printed: str
    "With capitals and punctuation."
    start: float
    end: float
    confidence: float


class Recogniser(Protocol):
    """One channel's ear."""

    def push(self, samples: Samples) -> list[HeardWord]:
        """Take the next samples; words that were found since the last call, each once, in order of their start within
        a call. A word may be found up to a second after it was spoken."""

    def flush(self) -> list[HeardWord]:
        """Judge everything received so far now. The stream goes on; a word that is not over yet may still be found
        later, with its true start."""

    def word_under_way(self) -> float | None:
        """Start of a word that has begun and not ended, None if none is known: a segment is not cut there."""

    def settle(self) -> Sequence[Future[Any]]:
        """Work elsewhere that a `flush` now would need done; a driver waits for it first. Mostly none."""


RecogniserFactory = Callable[[], Recogniser]


class DeafRecogniser:
    """Hears nothing: for load tests of everything else."""

    def push(self, samples: Samples) -> list[HeardWord]:
        return []

    def flush(self) -> list[HeardWord]:
        return []

    def word_under_way(self) -> float | None:
        return None

    def settle(self) -> Sequence[Future[Any]]:
        return ()


class ScriptedRecogniser:
    """Says the words of a script at a fixed pace, whatever the audio: word k from k*every to k*every + length.

    For load tests: costs nothing, and its words prove by their times that no audio was lost.
    """

    def __init__(self, script: str = "one two three four five six seven", *, every: float = 0.5, length: float = 0.3):
        self._script, self._every, self._length = script.split(), every, length
        self._samples = 0
        self._spoken = 0

    def push(self, samples: Samples) -> list[HeardWord]:
        self._samples += len(samples)
        words = []
        while (start := self._spoken * self._every) + self._length <= self._samples / RATE_HZ:
            text = self._script[self._spoken % len(self._script)]
            words.append(HeardWord(text, text, start, start + self._length, 0.99))
            self._spoken += 1
        return words

    def flush(self) -> list[HeardWord]:
        return []

    def word_under_way(self) -> float | None:
        start = self._spoken * self._every
        return start if start < self._samples / RATE_HZ else None

    def settle(self) -> Sequence[Future[Any]]:
        return ()
