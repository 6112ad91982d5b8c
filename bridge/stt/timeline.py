"""One session's stream time against the call: over every pause, skip, replay and padding."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

SMALL_CUT = 0.5
"""s; a word may really last across a cut as small as this (drift, a lost packet or two). Across a longer one it
cannot: the caller was away in between, and the word belongs to the side on which it has more of its length."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Audio that is contiguous in the stream, on the tape and in the call."""

    stream: float
    "Stream time at which it begins, s."
    position: int
    "Tape position there."
    call: float
    "Call time there, s."
    is_padding: bool = False
    "Silence of our own: it takes stream time, but neither call time nor tape."


class Timeline:
    """Pieces in the order in which they were sent."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._pieces: list[Piece] = []
        self._starts: list[float] = []

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._starts.append(piece.stream)

    def retime(self, by: float, since: float) -> None:
        """See `Tape.retime`."""
        self._pieces = [
            replace(piece, call=piece.call - by) if piece.call >= since else piece for piece in self._pieces
        ]

    @property
    def last(self) -> Piece | None:
        return self._pieces[-1] if self._pieces else None

    def forget_before(self, stream: float) -> None:
        """Nothing from before this stream time will be asked for."""
        unused = bisect_right(self._starts, stream) - 1
        if unused > 0:
            del self._pieces[:unused], self._starts[:unused]

    def position(self, stream: float) -> int:
        """Tape position up to which the stream has come at `stream`."""
        # A cut itself still belongs to what lies before it: nothing behind it has been heard yet.
        piece = self._pieces[max(bisect_right(self._starts, stream - 1e-6) - 1, 0)]
        if piece.is_padding or stream <= piece.stream:
            return piece.position
        return piece.position + round((stream - piece.stream) * self._rate_hz)

    def call_span(self, start: float, end: float) -> tuple[float, float]:
        """Call time of a word. One that spans a cut is clamped to the side that it is mostly on."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = max(bisect_right(self._starts, max(end - 1e-6, start)) - 1, 0)
        if first != last and not self._is_small_cut(first, last):
            first = last = self._longest_share(first, last, start, end)
        return self._at(first, start), max(self._at(last, end), self._at(first, start))

    def _at(self, index: int, stream: float) -> float:
        piece = self._pieces[index]
        if piece.is_padding:
            return piece.call
        limit = self._starts[index + 1] if index + 1 < len(self._starts) else stream
        return piece.call + min(max(stream, piece.stream), max(limit, piece.stream)) - piece.stream

    def _is_small_cut(self, first: int, last: int) -> bool:
        return all(
            not self._pieces[n + 1].is_padding
            and not self._pieces[n].is_padding
            and abs(self._pieces[n + 1].call - self._at(n, self._starts[n + 1])) <= SMALL_CUT
            for n in range(first, last)
        )

    def _longest_share(self, first: int, last: int, start: float, end: float) -> int:
        def share(n: int) -> float:
            until = self._starts[n + 1] if n < last else end
            return min(until, end) - max(self._starts[n], start)

        return max(range(first, last + 1), key=share)
