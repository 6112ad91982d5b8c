"""The nouns that every floor shares. Pure data; seconds are call time unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

POSITION_HZ = 8000
"""Unit of a media *position*: 1/8000 s. A position counts the audio of one leg, whatever its sample rate; it stands
still while nothing arrives (that time is absent, not received)."""

Encoding = Literal["mulaw", "alaw", "linear16"]


class Cause(StrEnum):
    """Why a gate is closed, strongest first: signalling outranks sound."""

    PAUSED = "paused"
    HOLD = "hold"
    MUTE = "mute"
    MUSIC = "music"
    TONE = "tone"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """Raw mono audio: `linear16` is signed 16 bit little endian, the others one byte per sample (G.711)."""

    encoding: Encoding
    rate_hz: int

    @property
    def bytes_per_sample(self) -> int:
        return 2 if self.encoding == "linear16" else 1

    @property
    def bytes_per_second(self) -> int:
        return self.rate_hz * self.bytes_per_sample

    def seconds(self, n_bytes: int) -> float:
        """Duration of `n_bytes` of this audio, in seconds."""
        return n_bytes / self.bytes_per_second

    def n_bytes(self, seconds: float) -> int:
        """Whole samples that fit `seconds`, in bytes."""
        return round(seconds * self.rate_hz) * self.bytes_per_sample


@dataclass(frozen=True, slots=True)
class Word:
    """One word as the provider would print it, in call time."""

    text: str
    start: float
    end: float
    confidence: float
