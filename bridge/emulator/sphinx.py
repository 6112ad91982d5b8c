"""pocketsphinx as the ear, for audio that no library knows. A toy: 40-65 % of the words are wrong on telephone audio.

It runs in a process of its own, so that the loop which serves the connections never waits for it. Needs the extra
`offline`. Its words come late: a piece of speech is decoded when it is over, or every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from typing import Any

import numpy as np

from bridge.emulator.audio import Activity
from bridge.emulator.recogniser import RATE_HZ, HeardWord, RecogniserFactory, Samples
from bridge.errors import ConfigError

PIECE = 4.0  # s; longest piece decoded at once
PAUSE = 0.4  # s of quiet that ends a piece
MODEL_RATE_HZ = 16000  # of the model in the wheel; fed at 8 kHz it is unusable

_decoder: Any = None


@contextmanager
def sphinx_factory() -> Iterator[RecogniserFactory]:
    """A maker of recognisers that share one decoding process. Raises ConfigError without pocketsphinx."""
    if find_spec("pocketsphinx") is None:
        raise ConfigError(["recogniser pocketsphinx: install callbridge[offline]"])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield lambda: PocketsphinxRecogniser(pool)


class PocketsphinxRecogniser:
    """One channel's ear. Nothing in it waits; a segment is not closed before its last piece is decoded."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self._activity = Activity()
        self._held: list[Samples] = []
        self._held_from = self._received = 0
        self._decoding: list[tuple[float, Future[list[HeardWord]]]] = []

    def push(self, samples: Samples) -> list[HeardWord]:
        self._held.append(samples)
        self._received += len(samples)
        self._activity.push(samples)
        seconds = (self._received - self._held_from) / RATE_HZ
        if seconds >= PIECE or (seconds > PAUSE and self._activity.quiet_for(self._received / RATE_HZ) > PAUSE):
            self._submit()
        return self._collect()

    def flush(self) -> list[HeardWord]:
        self._submit()
        return self._collect()

    def word_under_way(self) -> float | None:
        return self._decoding[0][0] if self._decoding else None

    def settle(self) -> Sequence[Future[Any]]:
        self._submit()
        return [future for _, future in self._decoding]

    def _submit(self) -> None:
        start = self._held_from / RATE_HZ
        if self._held and self._activity.last_loud > start:
            future = self._pool.submit(decode_piece, np.concatenate(self._held), start)
            self._decoding.append((start, future))
        self._held, self._held_from = [], self._received

    def _collect(self) -> list[HeardWord]:
        words: list[HeardWord] = []
        while self._decoding and self._decoding[0][1].done():
            words += self._decoding.pop(0)[1].result()
        return words


def decode_piece(samples: Samples, start: float) -> list[HeardWord]:
    """In the decoding process: words of one piece that begins at stream time `start`."""
    global _decoder
    from pocketsphinx import Decoder

    from bridge.emulator.align import FRAME, bare, resampled

    if _decoder is None:
        _decoder = Decoder(samprate=MODEL_RATE_HZ, loglevel="FATAL")
    _decoder.start_utt()
    _decoder.process_raw(resampled(samples, MODEL_RATE_HZ / RATE_HZ).tobytes(), full_utt=True)
    _decoder.end_utt()
    words = []
    for segment in _decoder.seg() or []:
        text = bare(segment.word.partition("(")[0])
        if text and segment.word[0] not in "<[":
            begin, end = start + segment.start_frame * FRAME, start + (segment.end_frame + 1) * FRAME
            words.append(HeardWord(text, text, begin, end, 0.5))
    return words
