"""How words become Soniox's tokens: non-final until settled, final exactly once, `<end>` and `<fin>`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.emulator.audio import Activity
from bridge.emulator.recogniser import HeardWord, Recogniser
from bridge.emulator.soniox_start import StartRequest

SETTLED_AFTER = 1.5  # s behind a word's end; own choice within the service's 0.7-6 s for non-final tokens
ENDPOINT_SILENCE = 0.7  # s; own choice: the service's endpointing is a model, at most max_endpoint_delay_ms
PIECE_LETTERS = 4  # words longer than this are told as two tokens


@dataclass(frozen=True, slots=True)
class TokenUpdate:
    """What the next message brings besides the tokens."""

    marks: tuple[str, ...] = ()
    "`<end>`, `<fin>`: behind the finals."
    is_flush: bool = False
    "To be sent at once."


class Tokens:
    """One stream's words on their way to being final. Times are seconds of its audio."""

    def __init__(self, recogniser: Recogniser, start: StartRequest) -> None:
        self._recogniser, self._start = recogniser, start
        self._activity = Activity()
        self._pending: list[HeardWord] = []
        self._unsent: list[HeardWord] = []  # final, and waiting for the next message
        self._clock = self._final_until = 0.0
        self._has_spoken = False  # since the last <end>
        self._is_first = True

    def push(self, samples: npt.NDArray[np.int16], clock: float) -> TokenUpdate:
        """`clock`: audio received, these samples included. At most 0.1 s at a time."""
        self._clock = clock
        self._activity.push(samples)
        self._hear(self._recogniser.push(samples))
        settled = [word for word in self._pending if word.end <= clock - SETTLED_AFTER]
        self._make_final(len(settled))
        if self._is_endpoint():
            return self._flush("<end>")
        return TokenUpdate()

    def finalize(self, clock: float) -> TokenUpdate:
        self._clock = clock
        return self._flush("<fin>")

    def finish(self, clock: float) -> TokenUpdate:
        self._clock = clock
        return self._flush()

    def message(self, update: TokenUpdate, *, with_marks: bool = True) -> tuple[dict[str, Any], list[HeardWord]]:
        """The tokens as they are now, and which words they make final. Each final is in exactly one message."""
        finals, self._unsent = self._unsent, []
        tokens = [token for word in finals for token in self._tokens_of(word, is_final=True)]
        marks = [mark for mark in update.marks if with_marks or mark != "<fin>"]
        tokens += [{"text": mark, "confidence": 1.0, "is_final": True} for mark in marks]
        was_first = self._is_first
        tokens += [token for word in self._pending for token in self._tokens_of(word, is_final=False)]
        self._is_first = was_first  # a non-final first word is told as first again
        return {
            "tokens": tokens,
            "final_audio_proc_ms": round(self._final_until * 1000),
            "total_audio_proc_ms": round(self._clock * 1000),
        }, finals

    def _hear(self, words: list[HeardWord]) -> None:
        if words:
            self._pending = sorted([*self._pending, *words], key=lambda word: word.start)
            self._has_spoken = True

    def _make_final(self, count: int) -> None:
        self._unsent += self._pending[:count]
        self._pending = self._pending[count:]
        if self._unsent:
            self._final_until = max(self._final_until, self._unsent[-1].end)

    def _flush(self, *marks: str) -> TokenUpdate:
        self._hear(self._recogniser.flush())
        self._make_final(len(self._pending))
        self._final_until = self._clock
        self._has_spoken = self._has_spoken and "<end>" not in marks
        return TokenUpdate(marks=marks, is_flush=True)

    def _is_endpoint(self) -> bool:
        if not self._start.detects_endpoints or not self._has_spoken:
            return False
        pause = min(ENDPOINT_SILENCE, self._start.max_endpoint_delay)
        return self._activity.quiet_for(self._clock) >= pause and self._recogniser.word_under_way() is None

    def _tokens_of(self, word: HeardWord, *, is_final: bool) -> list[dict[str, Any]]:
        text = word.printed if self._is_first else " " + word.printed
        self._is_first = False
        cut = len(text) if len(word.text) <= PIECE_LETTERS else len(text) - len(word.printed) // 2
        middle = word.start + (word.end - word.start) * cut / len(text)
        parts = [(text[:cut], word.start, middle), (text[cut:], middle, word.end)]
        return [self._token(*part, word.confidence, is_final) for part in parts if part[0]]

    def _token(self, text: str, start: float, end: float, confidence: float, is_final: bool) -> dict[str, Any]:
        token: dict[str, Any] = {
            "text": text,
            "start_ms": round(start * 1000),
            "end_ms": round(end * 1000),
            "confidence": round(confidence, 3),
            "is_final": is_final,
        }
        if self._start.is_diarized:
            token["speaker"] = "1"
        if self._start.identifies_language:
            token["language"] = "en"
        if self._start.is_translated:
            token["translation_status"] = "original"
        return token
