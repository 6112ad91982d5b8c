"""Key presses of one leg, each told once, however many packets tell of it and whichever of them are lost (RFC 4733)."""

from __future__ import annotations

from typing import NamedTuple

from rtpcodecs.telephone_event import parse

SILENT_AFTER = 0.2  # s without a packet of an event, which come every 20 to 50 ms: its three end packets were lost
LONGEST = 0xFFFF  # timestamp units of one segment


class Key(NamedTuple):
    """One key press."""

    digit: str
    duration_ms: int


class KeyPresses:
    """Told of every event packet, and of the INFO requests of peers that send those (application/dtmf-relay). A peer
    that sends both means one press by them: the way that came first counts."""

    def __init__(self) -> None:
        self._is_by_info: bool | None = None
        self._timestamp = -1
        self._is_told = True
        self._key = Key("", 0)
        self._before_ms = 0
        "Of the segments before, in a press that is longer than an event can say (section 2.5.1.3)."
        self._last_at = 0.0

    @property
    def is_pressed(self) -> bool:
        """A press has begun that is still to be told."""
        return not self._is_told

    def packet(self, payload: bytes, timestamp: int, *, clock_hz: int, now: float) -> list[Key]:
        """An event packet; what is no event is passed over. Answers what has been pressed and let go."""
        try:
            event = parse(payload)
        except ValueError:
            return []
        if self._is_by_info or not event.digit or not event.duration:  # of no duration: section 2.3.5
            return []
        self._is_by_info = False
        ended: list[Key] = []
        if timestamp != self._timestamp:
            is_segment = (timestamp - self._timestamp) & 0xFFFFFFFF == LONGEST and event.digit == self._key.digit
            if is_segment and not self._is_told:
                self._before_ms += LONGEST * 1000 // clock_hz
            else:
                ended = self._end()
                self._is_told, self._before_ms = False, 0
            self._timestamp, self._key = timestamp, Key("", 0)
        if (
            not self._is_told and event.duration >= self._key.duration_ms * clock_hz // 1000
        ):  # reordered ones are shorter
            self._key, self._last_at = Key(event.digit, event.duration * 1000 // clock_hz), now
        return ended + (self._end() if event.is_end else [])

    def settle(self, now: float) -> list[Key]:
        """A press whose end was lost, once nothing more is heard of it."""
        return self._end() if now - self._last_at > SILENT_AFTER else []

    def info(self, digit: str, duration_ms: int) -> list[Key]:
        """A press that was signalled."""
        if self._is_by_info is None:
            self._is_by_info = True
        return [Key(digit, duration_ms)] if self._is_by_info else []

    def _end(self) -> list[Key]:
        if self._is_told:
            return []
        self._is_told = True
        return [Key(self._key.digit, self._before_ms + self._key.duration_ms)]
