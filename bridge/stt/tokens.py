"""Sub-word tokens put together to words (Soniox WebSocket API, real-time tokens).

A leading space belongs to the token and begins a word. Each final token is sent once, ever; the others are sent whole
again with every message. So a word may be half final: it stays open until what follows shows that it is whole.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from bridge.stt.repeats import Repeats
from bridge.stt.session import StreamWord
from bridge.stt.shapes import as_share, as_text, as_time


@dataclass(frozen=True, slots=True)
class Token:
    """`text` with its leading space; seconds of stream time."""

    text: str
    start: float
    end: float
    confidence: float
    speaker: str
    language: str


@dataclass(frozen=True, slots=True)
class FinalWords:
    """What `take_final` gives."""

    text: str
    words: tuple[StreamWord, ...]
    end: float
    language: str
    confidence: float


class TokenWords:
    """The tokens of the open segment."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._final: list[Token] = []
        self._open: list[Token] = []
        self._repeats = Repeats()

    def begin_message(self) -> None:
        """The next tokens that are not final replace the earlier ones."""
        self._open = []
        self._repeats.begin_message()

    def add(self, text: str, token: dict[str, Any]) -> bool:
        """False: it has no usable times and was dropped."""
        start, end = as_time(token.get("start_ms")), as_time(token.get("end_ms"))
        if start is None or end is None:
            return False
        made = Token(
            text=text,
            start=start / 1000,
            end=max(start, end) / 1000,
            confidence=as_share(token.get("confidence")),
            speaker=as_text(token.get("speaker")),
            language=as_text(token.get("language")),
        )
        if token.get("is_final") is not True:
            self._open.append(made)
        elif not self._repeats.holds(made.text, made.start, made.end):
            self._final.append(made)
        return True

    @property
    def final_length(self) -> float:
        """Seconds that the final tokens span; above 0 wherever there are any."""
        return max(self._final[-1].end - self._final[0].start, 1e-3) if self._final else 0.0

    def all_words(self) -> tuple[str, tuple[StreamWord, ...]]:
        tokens = [*self._final, *self._open]
        return _text(tokens), _words(_groups(tokens))

    def take_final(self, *, with_last: bool) -> FinalWords:
        """Removes and gives the whole final words. Without `with_last`, the last word only if something that
        follows shows it to be whole."""
        groups = list(_groups(self._final))
        if groups and not with_last and len(list(_groups([*groups[-1], *self._open[:1]]))) == 1:
            groups.pop()
        taken = list(itertools.chain.from_iterable(groups))
        self._final = self._final[len(taken) :]
        words = _words(groups)
        languages = Counter(token.language for token in taken if token.language)
        return FinalWords(
            text=_text(taken),
            words=words,
            end=max((word.end for word in words), default=0.0),
            language=languages.most_common(1)[0][0] if languages else self._language,
            confidence=sum(word.confidence for word in words) / len(words) if words else 0.0,
        )


def _groups(tokens: Iterable[Token]) -> Iterable[list[Token]]:
    group: list[Token] = []
    for token in tokens:
        if group and _begins_word(group[-1], token):
            yield group
            group = []
        group.append(token)
    if group:
        yield group


def _begins_word(before: Token, token: Token) -> bool:
    return (
        token.text[:1].isspace()
        or before.text[-1:].isspace()
        or token.speaker != before.speaker
        or _is_unspaced(token.text)
    )


def _is_unspaced(text: str) -> bool:
    """Chinese, Japanese and Thai are written without spaces: there a token is as near to a word as can be had."""
    first = text[:1]
    return "\u3041" <= first <= "\u30ff" or "\u3400" <= first <= "\u9fff" or "\u0e00" <= first <= "\u0e7f"


def _words(groups: Iterable[list[Token]]) -> tuple[StreamWord, ...]:
    """A space that is a token of its own parts words and is none."""
    return tuple(_word(group) for group in groups if _text(group))


def _word(group: list[Token]) -> StreamWord:
    return StreamWord(
        text=_text(group),
        start=group[0].start,
        end=max(token.end for token in group),
        confidence=min(token.confidence for token in group),
    )


def _text(tokens: Iterable[Token]) -> str:
    return "".join(token.text for token in tokens).strip()
