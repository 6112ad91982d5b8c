"""Where the gate closed: what must be flushed there, and who is to be told when it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bridge.stt.events import Finalized


@dataclass(slots=True)
class Mark:
    """`position` on the tape, `through` in the call."""

    position: int
    through: float
    is_told: bool = False


class Marks:
    """Of one leg, in order. A mark stays until its audio is settled, so that a replay is flushed there again."""

    def __init__(self) -> None:
        self._marks: list[Mark] = []
        self._events: list[Finalized] = []

    def add(self, position: int, through: float) -> bool:
        """False: that place is marked already."""
        if self._marks and self._marks[-1].position == position:
            return False
        self._marks.append(Mark(position, through))
        return True

    def retime(self, by: float, since: float) -> None:
        """See `Tape.retime`."""
        for mark in self._marks:
            if mark.through >= since:
                mark.through -= by

    def positions(self) -> Iterator[int]:
        return (mark.position for mark in self._marks)

    def tell(self, after: int, until: int) -> None:
        """No more words are to be waited for from before the marks in (after, until]."""
        for mark in self._marks:
            if after < mark.position <= until and not mark.is_told:
                mark.is_told = True
                self._events.append(Finalized(mark.through))

    def tell_short(self, through: float) -> None:
        """No more words are to be waited for from before `through` (call time), whatever becomes of the marks."""
        self._events.append(Finalized(through))

    def settled(self, position: int) -> None:
        """Nothing from before `position` will be asked of anybody any more."""
        self.tell(-1, position)
        while self._marks and self._marks[0].position <= position:
            self._marks.pop(0)

    def take_events(self) -> list[Finalized]:
        taken, self._events = self._events, []
        return taken
