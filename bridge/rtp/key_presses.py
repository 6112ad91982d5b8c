"""Key presses of one leg, each told once, however many packets tell of it and whichever of them are lost (RFC 4733)."""

from __future__ import annotations

from typing import NamedTuple

from rtpcodecs.telephone_event import parse

SILENT_AFTER = 0.2  # s without a packet of an event, which come every 20 to 50 ms: its three end packets were lost


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
        self._last_at = 0.0

    def packet(self, payload: bytes, timestamp: int, *, clock_hz: int, now: float) -> list[Key]:
        """An event packet; what is no event is passed over. Answers what has been pressed and let go."""
        try:
            event = parse(payload)
        except ValueError:
            return []
        if self._is_by_info or not event.digit:
            return []
        self._is_by_info = False
        ended = [] if timestamp == self._timestamp else self._end()
        if timestamp != self._timestamp:
            self._timestamp, self._is_told, self._key = timestamp, False, Key("", 0)
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
        return [self._key]
