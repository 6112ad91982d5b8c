"""What comes twice on one connection is heard once."""

from __future__ import annotations

from array import array
from math import inf

REMEMBERED = 512
"""Finals of one session: minutes of speech."""


class Repeats:
    """The finals of one session. Both providers promise to send each once; where one is sent again all the same, it
    has the text and the very times of the first, which nothing that was really said twice has. Within one message
    nothing is a repetition: tokens such as the dots of an ellipsis share their time.

    Of each only a hash of 64 bits is kept: a thousand legs speak for hours."""

    def __init__(self) -> None:
        self._earlier = array("q")
        self._latest = -inf
        "The latest start among them: what begins later is new, and that is nearly all."
        self._these = array("q")
        self._latest_of_these = -inf

    def begin_message(self) -> None:
        """What was asked about until now belongs to earlier messages."""
        if not self._these:
            return
        self._earlier.extend(self._these)
        self._latest = max(self._latest, self._latest_of_these)
        del self._these[:]
        del self._earlier[:-REMEMBERED]

    def holds(self, text: str, start: float, end: float) -> bool:
        """An earlier message had it; else it is remembered."""
        said = hash((text, start, end))
        if start <= self._latest and said in self._earlier:
            return True
        self._these.append(said)
        self._latest_of_these = max(self._latest_of_these, start)
        return False
