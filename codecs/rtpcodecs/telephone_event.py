"""Telephone events, DTMF above all (RFC 4733). The clock is that of the audio they run beside."""

from __future__ import annotations

import struct
from dataclasses import dataclass

DIGITS = "0123456789*#ABCD"  # events 0 to 15 (RFC 4733 section 3.2)
_BLOCK = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """One event block. The same event is sent again and again while it lasts: tell events apart by the RTP timestamp,
    which is that of the beginning. `duration` 0 is to be ignored (section 2.3.5)."""

    event: int
    is_end: bool
    "Sent three times (section 2.5.1.4)."
    volume_dbm0: int
    "0 to -63."
    duration: int
    "RTP timestamp units so far; 0xFFFF means that a further segment follows (section 2.5.1.3)."

    @property
    def digit(self) -> str:
        """The DTMF digit, or "" for an event that is none."""
        return DIGITS[self.event] if self.event < len(DIGITS) else ""

    def build(self) -> bytes:
        """The payload, for the call generator."""
        return _BLOCK.pack(self.event, (0x80 if self.is_end else 0) | (-self.volume_dbm0 & 0x3F), self.duration)


def parse(payload: bytes) -> TelephoneEvent:
    """The first event of a payload; further ones (section 2.5.1.5) are left out. Raises ValueError if too short."""
    if len(payload) < _BLOCK.size:
        raise ValueError(f"telephone-event: {len(payload)} bytes instead of 4")
    event, flags, duration = _BLOCK.unpack_from(payload)
    return TelephoneEvent(event, bool(flags & 0x80), -(flags & 0x3F), duration)
