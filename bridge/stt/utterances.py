"""Provider results put together: stable ids, revisions, and no word twice."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.model import Word
from bridge.stt.events import Final, Interim
from bridge.stt.session import Partial, Segment

MARGIN = 1.0
"""s; by so much a replay may place a word earlier than the settled end of what came before it."""


class Utterances:
    """Ids and revisions of one leg, over all its sessions. An utterance is one segment of the provider."""

    def __init__(self) -> None:
        self._next = 1
        self._starts: list[float] = []
        self._ends: list[float] = []
        "Call times of the words that were published and may be heard again: in a replay of what is not settled."
        self.finals = 0

    def new_id(self) -> int:
        number, self._next = self._next, self._next + 1
        return number

    def without_repeats(self, words: Iterable[Word]) -> tuple[Word, ...]:
        """Drops what was published already. Only asked of words that lie in replayed audio."""
        return tuple(word for word in words if not self._is_published(word))

    def _is_published(self, word: Word) -> bool:
        middle = (word.start + word.end) / 2
        spans = zip(self._starts, self._ends, strict=True)
        return any(start - 1e-3 <= middle <= end + 1e-3 for start, end in spans)

    def publish(self, words: Iterable[Word]) -> None:
        for word in words:
            self._starts.append(word.start)
            self._ends.append(word.end)
        self.finals += 1

    def retime(self, by: float, since: float) -> None:
        """See `Tape.retime`: a replay tells by the new times what was published by the old ones."""
        is_late = [start >= since for start in self._starts]
        self._starts = [time - by * late for time, late in zip(self._starts, is_late, strict=True)]
        self._ends = [time - by * late for time, late in zip(self._ends, is_late, strict=True)]

    def settled(self, call_time: float) -> None:
        """No session will hear again what was said before."""
        done = next((n for n, end in enumerate(self._ends) if end >= call_time - MARGIN), len(self._ends))
        del self._starts[:done], self._ends[:done]

    @property
    def may_repeat(self) -> bool:
        """Something that was published may be heard again."""
        return bool(self._ends)


class OpenUtterance:
    """The utterance that one session is working on. After a lost session it goes on in the next."""

    def __init__(self, utterances: Utterances) -> None:
        self._utterances = utterances
        self._id: int | None = None
        self._revision = 0
        self._shown: tuple[str, tuple[Word, ...]] = ("", ())

    @property
    def is_shown(self) -> bool:
        """An interim with text was given out and still stands."""
        return bool(self._shown[0])

    def show(self, partial: Partial, words: tuple[Word, ...]) -> list[Interim]:
        """`words`, in call time, are what is new of the partial's. Nothing where nothing changed."""
        return self._interim(_text(partial, words), words)

    def close(self, segment: Segment, words: tuple[Word, ...], provider: str) -> list[Interim] | list[Final]:
        """A segment without new words leaves the utterance open and takes back what was shown."""
        if not words:
            return self.take_back()
        number = self._advance()
        revision = self._revision
        self._id, self._revision, self._shown = None, 0, ("", ())
        self._utterances.publish(words)
        return [
            Final(
                utterance=number,
                revision=revision,
                text=_text(segment, words),
                start=words[0].start,
                end=max(word.end for word in words),
                words=words,
                language=segment.language,
                confidence=segment.confidence,
                provider=provider,
                speech_final=segment.speech_final,
            )
        ]

    def take_back(self) -> list[Interim]:
        """What is shown will not become final."""
        return self._interim("", ())

    def _interim(self, text: str, words: tuple[Word, ...]) -> list[Interim]:
        if (text, words) == self._shown:
            return []
        placed = words or self._shown[1]  # what is taken back keeps its place in time
        self._shown = (text, words)
        number = self._advance()
        start, end = placed[0].start, max(word.end for word in placed)
        return [Interim(number, self._revision, text, start, end, words)]

    def _advance(self) -> int:
        if self._id is None:
            self._id = self._utterances.new_id()
        self._revision += 1
        return self._id


def _text(heard: Partial | Segment, words: tuple[Word, ...]) -> str:
    """The provider's own text where all its words stand, else what is left of them."""
    return heard.text if words and len(words) == len(heard.words) else " ".join(word.text for word in words)
