"""Which clock a sender's timestamps count, where senders of one format disagree.

G.722 is described as 8000 Hz and counted so (RFC 3551 section 4.5.2), though it is sampled at 16000. Some stacks
describe it as 16000, some count 320 for 20 ms, and neither tells of the other: only successive packets do.
"""

from __future__ import annotations

from bridge.model import POSITION_HZ
from bridge.rtp.sequence import signed16

SURE_AFTER = 3  # successive packets that count the other clock; pauses of just one packet come singly


class ClockGuess:
    """One payload type's clock. Begins with the stated one, believes the packets."""

    def __init__(self, stated_hz: int, other_hz: int) -> None:
        self.hz = stated_hz
        self._other_hz = other_hz
        self._against = 0
        self._is_proved = False
        self._last: tuple[int, int, int] | None = None

    def begin(self) -> None:
        """Another stream: its numbers have nothing to do with those before."""
        self._last = None

    def confirm(self) -> None:
        """Packets that `look` was not told of counted as it says."""
        self._against, self._is_proved, self._last = 0, True, None

    def look(self, seq: int, timestamp: int, length: int) -> tuple[bool, bool]:
        """The next audio packet, `length` in 1/8000 s. Answers whether it begins where the one before ended, although
        the clock says otherwise, and whether the clock has just been found to be the other one."""
        last, self._last = self._last, (seq, timestamp, length)
        if last is None or signed16(seq - last[0]) != 1:
            return False, False
        step, played = (timestamp - last[1]) & 0xFFFFFFFF, last[2]
        if step * POSITION_HZ == played * self.hz:
            self._against, self._is_proved = 0, True
        elif step * POSITION_HZ == played * self._other_hz:
            self._against += 1
            if self._against >= SURE_AFTER:
                self.hz, self._other_hz = self._other_hz, self.hz
                self._against, was_proved, self._is_proved = 0, self._is_proved, True
                return not was_proved, was_proved
            return not self._is_proved, False
        return False, False
