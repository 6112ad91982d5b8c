"""What comes twice on one connection is heard once."""

from __future__ import annotations

REMEMBERED = 512
"""Finals of one session: minutes of speech."""


class Repeats:
    """The finals of one session. Both providers promise to send each once; where one is sent again all the same, it
    has the text and the very times of the first, which nothing that was really said twice has. Within one message
    nothing is a repetition: tokens such as the dots of an ellipsis share their time."""

    def __init__(self) -> None:
        self._earlier: dict[tuple[str, float, float], None] = {}
        self._these: list[tuple[str, float, float]] = []

    def begin_message(self) -> None:
        """What was asked about until now belongs to earlier messages."""
        self._earlier.update(dict.fromkeys(self._these))
        self._these.clear()
        while len(self._earlier) > REMEMBERED:
            del self._earlier[next(iter(self._earlier))]

    def holds(self, text: str, start: float, end: float) -> bool:
        """An earlier message had it; else it is remembered."""
        key = (text, start, end)
        if key in self._earlier:
            return True
        self._these.append(key)
        return False
