"""What a receiver makes of packets: stretches of audio in order, and how many packets met which fate."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from bridge.model import POSITION_HZ
from rtpcodecs.contract import Codec


class Kind(Enum):
    """What a frame is made from."""

    AUDIO = auto()
    LOST = auto()
    "Concealed by the decoder."
    COMFORT = auto()
    "Silence, as the sender said (comfort noise)."
    EVENT = auto()
    "RFC 4733 payload, no audio of its own."


@dataclass(frozen=True, slots=True)
class PayloadType:
    """A negotiated payload type."""

    codec: Codec
    fmtp: str = ""

    @property
    def plain_bytes(self) -> bool:
        """One byte is one sample of 1/8000 s: positions, bytes and timestamp units are the same number."""
        return self.codec.table is not None and self.codec.clock_rate_hz == POSITION_HZ


class Frame(NamedTuple):
    """A stretch of the leg's audio: positions [position, position + length), captured at position / 8000 + shift."""

    kind: Kind
    position: int
    length: int
    shift: float
    payload: bytes = b""
    payload_type: PayloadType | None = None
    timestamp: int = 0
    clock_hz: int = 0
    "Of a telephone event's timestamp and duration: as negotiated, whatever the audio counts."


@dataclass(slots=True)
class Counts:
    """Packets by fate; `lost` includes `late`: never there in time."""

    lost: int = 0
    late: int = 0
    duplicate: int = 0
    malformed: int = 0
    unknown: int = 0
    "Of a payload type that was not negotiated, or of a second stream beside the present one."
    restarts: int = 0
    "New SSRC or a leap of the sequence number."
