"""One session's stream time against the call: over every pause, skip, replay and padding."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace

SMALL_CUT = 0.5
"""s; a word may really last across a cut as small as this (drift, a mute of a moment). Across a longer one it cannot:
the caller was away in between, and the word belongs to the side on which it has more of its length. So it does where
it reaches over a small cut by no more than what was cut out: its edge is then one that was not heard, or that the
provider has placed a few ms off, and not a sound from the other side."""


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
        """Call time of a word. Where it spans a cut, as told from the side that it is mostly on."""
        first = max(bisect_right(self._starts, start) - 1, 0)
        last = max(bisect_right(self._starts, max(end - 1e-6, start)) - 1, 0)
        piece = first if first == last else self._longest_share(first, last, start, end)
        begins = self._back_from(piece, start)
        return begins, max(self._on_from(piece, end), begins)

    def _at(self, index: int, stream: float) -> float:
        piece = self._pieces[index]
        return piece.call if piece.is_padding else piece.call + max(stream - piece.stream, 0.0)

    def _back_from(self, index: int, stream: float) -> float:
        """Call time of a word's start that lies in this piece or before it."""
        while index > 0 and stream < self._starts[index]:
            beyond, gap = self._starts[index] - stream, self._gap(index)
            if gap is None:
                return self._pieces[index].call
            if beyond <= gap:
                return self._pieces[index].call - beyond
            index -= 1
        return self._at(index, stream)

    def _on_from(self, index: int, stream: float) -> float:
        """Call time of a word's end that lies in this piece or behind it."""
        while index + 1 < len(self._starts) and stream > self._starts[index + 1]:
            index += 1
            beyond, gap, cut = stream - self._starts[index], self._gap(index), self._at(index - 1, self._starts[index])
            if gap is None:
                return cut
            if beyond <= gap:
                return cut + beyond
        return self._at(index, stream)

    def _gap(self, index: int) -> float | None:
        """Seconds of the call between this piece and the one before; None where no word goes over that cut."""
        before, after = self._pieces[index - 1], self._pieces[index]
        gap = after.call - self._at(index - 1, after.stream)
        return None if before.is_padding or after.is_padding or abs(gap) > SMALL_CUT else gap

    def _longest_share(self, first: int, last: int, start: float, end: float) -> int:
        def share(n: int) -> float:
            until = self._starts[n + 1] if n < last else end
            return min(until, end) - max(self._starts[n], start)

        return max(range(first, last + 1), key=share)
