"""A leg's audio as it was handed over, gap after gap cut out: the replay ring, and its tie to call time.

A *position* counts samples of this audio and only ever grows; it stands still while the gate is closed. Between a
position and the call lies this map; between a session's stream time and a position lies the session's timeline.
"""

from __future__ import annotations

from bisect import bisect_right

from bridge.errors import InvalidState
from bridge.model import AudioFormat

SLACK = 0.002
"""s; a chunk whose call time is off its predecessor's end by less goes on: smoothing, not a gap."""


class Tape:
    """Holds at most `keep_s` of audio, and less once `release` was told what is no longer needed."""

    def __init__(self, audio: AudioFormat, keep_s: float) -> None:
        self.audio = audio
        self.start = 0
        "First position still held."
        self.end = 0
        "Where the next chunk goes: all samples ever handed over."
        self._width = audio.bytes_per_sample
        self._keep = int(keep_s * audio.rate_hz)
        self._chunks: list[bytes] = []
        "As they came: what one leg lets go of is what another takes, and what is sent as it came is no copy."
        self._begins: list[int] = []
        "Their positions."
        self._cuts: list[int] = []
        "Positions at which call time jumps, ascending, and the call times there."
        self._times: list[float] = []

    def append(self, data: bytes, call_time: float) -> None:
        """A chunk that is not empty. Raises InvalidState for half a sample."""
        if len(data) % self._width:
            raise InvalidState(f"{len(data)} bytes are no whole samples of {self.audio.encoding}")
        if not self._cuts or abs(self.call_time(self.end) - call_time) > SLACK:
            self._cuts.append(self.end)
            self._times.append(call_time)
        self._chunks.append(data)
        self._begins.append(self.end)
        self.end += len(data) // self._width
        if self.end - self.start > self._keep:
            self.release(self.end - self._keep)

    def read(self, start: int, end: int) -> bytes:
        """Raises InvalidState for what is no longer, or not yet, there."""
        if not self.start <= start <= end <= self.end:
            raise InvalidState(f"[{start}, {end}) of a tape that holds [{self.start}, {self.end})")
        if start == end:
            return b""
        width, begins = self._width, self._begins
        first, last = bisect_right(begins, start) - 1, bisect_right(begins, end - 1)
        parts = self._chunks[first:last]
        parts[-1] = parts[-1][: (end - begins[last - 1]) * width]
        parts[0] = parts[0][(start - begins[first]) * width :]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def release(self, position: int) -> None:
        """What lies before is not needed any more."""
        position = min(position, self.end)
        if position <= self.start:
            return
        self.start = position
        done = len(self._chunks) if position == self.end else bisect_right(self._begins, position) - 1
        del self._chunks[:done], self._begins[:done]
        unused = bisect_right(self._cuts, position) - 1
        if unused > 0:
            del self._cuts[:unused], self._times[:unused]

    def retime(self, by: float, since: float) -> None:
        """What was to have been captured at `since` (call time) or later was captured `by` seconds earlier."""
        self._times = [time - by if time >= since else time for time in self._times]

    def call_time(self, position: int) -> float:
        """Call time of a position that is held; of `end`, the end of the last chunk."""
        piece = max(bisect_right(self._cuts, position) - 1, 0)
        return self._times[piece] + (position - self._cuts[piece]) / self.audio.rate_hz

    def end_time(self, position: int) -> float:
        """Call time at which the audio before `position` ends: differs from `call_time` at a cut."""
        return self.call_time(position - 1) + 1 / self.audio.rate_hz

    def cut_after(self, position: int) -> int:
        """First position behind `position` at which call time jumps, or `end`."""
        piece = bisect_right(self._cuts, position)
        return self._cuts[piece] if piece < len(self._cuts) else self.end

    def seconds(self, samples: int) -> float:
        return samples / self.audio.rate_hz
