"""Takes out of events what must not leave the process: card numbers, configured patterns, callers' numbers.

A card number is 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), however they are spread over words and
separators, spoken digit words of English among them. What is found becomes `[redacted]`, in the text and in each word.
A number that a leg says over several finals, as most are that are read out in groups, is known only by the last one:
what came before has left already, the rest is masked, and so is all of it in the text of the turn.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.config import PrivacySettings
from bridge.publish import events
from bridge.publish.events import Event

MASK = "[redacted]"
CARD_DIGITS = (13, 19)  # ISO/IEC 7812-1: at most 19; below 13 no issuer prints one
SPOKEN = {
    "zero": "0",
    "oh": "0",
    "o": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
}
_TOKEN = re.compile(r"\S+")
_SEPARATORS = str.maketrans("", "", "-\u2010\u2011\u2012\u2013.,;:()/_")


@dataclass(slots=True)
class _Digits:
    """What one leg's finals ended with: the beginning of a card number, perhaps."""

    last: str = ""
    "Words that are digits, behind the last word that is none."
    before: dict[Any, str] = field(default_factory=dict)
    "The same, as it was at the beginning of each turn that has not ended."


class Redactor:
    """`__call__` gives the event as it may leave. Raises ValueError at the start for a pattern that is none."""

    def __init__(self, settings: PrivacySettings) -> None:
        self._cards = settings.redact_cards
        try:
            self._patterns = [re.compile(pattern, re.IGNORECASE) for pattern in settings.redact]
        except re.error as error:
            raise ValueError(f"privacy.redact: {error}") from error
        self._numbers = settings.numbers
        self._key = settings.hash_key.encode() or secrets.token_bytes(32)
        self._digits: dict[str, dict[str, _Digits]] = {}
        "By call and leg."

    @property
    def is_idle(self) -> bool:
        """Nothing would be changed: it can be left out."""
        return not self._cards and not self._patterns and self._numbers == "plain"

    def __call__(self, event: Event) -> Event:
        if event.text is not None:
            before = self._note(event) if self._cards else ""
            words = event.data.get("words")
            data = event.data | {"words": self._mask_words(words, before)} if words else event.data
            return replace(event, text=self.mask(event.text, before), data=data)
        if event.type == events.CALL_ENDED:
            self._digits.pop(event.call, None)
        if self._numbers != "plain" and event.type in (events.CALL_STARTED, events.LEG_STARTED, events.LEG_ENDED):
            return replace(event, data=self.hide_numbers(event.data))
        return event

    def _note(self, event: Event) -> str:
        """The digits that the leg had said just before the event's text."""
        said = self._digits.setdefault(event.call, {}).setdefault(event.leg, _Digits())
        turn = event.data.get("turn")
        if event.type == events.TURN_ENDED:
            return said.before.pop(turn, "")
        before = said.last
        if event.type == events.TRANSCRIPT_FINAL:
            said.before.setdefault(turn, before)
            said.last = _digits_at_end(f"{before} {event.text}")
        return before

    def mask(self, text: str, before: str = "") -> str:
        """The text with everything found replaced by `[redacted]`. `before`: digits that precede it."""
        parts: list[str] = []
        at = 0
        for start, end in self._spans(text, before):
            parts += (text[at:start], MASK)
            at = end
        return "".join(parts) + text[at:]

    def _mask_words(self, words: Sequence[Sequence[Any]], before: str) -> list[list[Any]]:
        texts = [str(word[0]) for word in words]
        spans = self._spans(" ".join(texts), before)
        masked: list[list[Any]] = []
        at = 0
        for word, text in zip(words, texts, strict=True):
            is_hit = any(start < at + len(text) and end > at for start, end in spans)
            masked.append([MASK, *word[1:]] if is_hit else list(word))
            at += len(text) + 1
        return masked

    def _spans(self, text: str, before: str) -> list[tuple[int, int]]:
        """Stretches of `text` to mask, in order, not touching."""
        found = [match.span() for pattern in self._patterns for match in pattern.finditer(text) if match.group()]
        if self._cards:
            shift = len(before) + 1
            for start, end in card_spans(f"{before} {text}"):
                if end > shift:
                    found.append((max(start - shift, 0), end - shift))
        return _merge(found)

    def hide_numbers(self, data: dict[str, Any]) -> dict[str, Any]:
        """`from`, `to` and `participant`, here and in `legs`, as `numbers` says."""
        if self._numbers == "plain":
            return data
        hidden = dict(data)
        for name in ("from", "to", "participant"):
            if hidden.get(name):
                hidden[name] = self._hide(str(hidden[name]))
        if isinstance(hidden.get("legs"), list):
            hidden["legs"] = [self.hide_numbers(leg) if isinstance(leg, dict) else leg for leg in hidden["legs"]]
        return hidden

    def _hide(self, number: str) -> str:
        if self._numbers == "none":
            return ""
        return "h:" + hmac.new(self._key, number.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]


def card_spans(text: str) -> list[tuple[int, int]]:
    """Where card numbers stand in `text`, by whole words."""
    spans: list[tuple[int, int]] = []
    run: list[tuple[str, int, int]] = []
    for token in _TOKEN.finditer(text):
        digits = _digits(token.group())
        if digits:
            run.append((digits, *token.span()))
            continue
        spans += _cards_in(run)
        run = []
    return spans + _cards_in(run)


def _digits_at_end(text: str) -> str:
    """The last words of `text` as far as a card number may begin with them, such as make one by chance among them."""
    kept: list[str] = []
    n_digits = 0
    for token in reversed(text.split()):
        n_digits += len(_digits(token))
        if not _digits(token) or n_digits >= CARD_DIGITS[1]:
            break
        kept.append(token)
    return " ".join(reversed(kept))


def _digits(token: str) -> str:
    """The digits that a word stands for; empty: it is no number."""
    bare = token.translate(_SEPARATORS)
    if bare.isascii() and bare.isdigit():
        return bare
    return SPOKEN.get(bare.lower(), "")


def _cards_in(run: Sequence[tuple[str, int, int]]) -> list[tuple[int, int]]:
    """Every window of whole words that makes a card number, the longest from each place."""
    spans: list[tuple[int, int]] = []
    for first in range(len(run)):
        if run[first][0].startswith("0"):
            continue  # no issuer's number begins with 0 (ISO/IEC 7812-1, major industry identifier)
        digits, best = "", None
        for part, _, end in run[first:]:
            digits += part
            if len(digits) > CARD_DIGITS[1]:
                break
            if len(digits) >= CARD_DIGITS[0] and passes_luhn(digits):
                best = end
        if best is not None:
            spans.append((run[first][1], best))
    return spans


def passes_luhn(digits: str) -> bool:
    """The check digit fits (ISO/IEC 7812-1 annex B). A row of equal digits is no card."""
    total = 0
    for n, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + n % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and len(set(digits)) > 1


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged
