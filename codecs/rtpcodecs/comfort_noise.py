"""Comfort noise (RFC 3389): static payload type 13, and 19 where old equipment still uses it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtpcodecs.contract import Samples

OVERLOAD = 8031 * 4  # 0 dBov is a square wave of mu-law's largest level (RFC 3389 section 3), here in 16 bit


@dataclass(frozen=True, slots=True)
class ComfortNoise:
    """One CN payload."""

    level_dbov: int
    "0 (overload) to -127 (nothing at all)."
    reflection: tuple[float, ...] = ()
    "Reflection coefficients of the spectrum, -1 to 1, as many as the sender gave; we do not shape with them."

    def build(self) -> bytes:
        """The payload."""
        return bytes((-self.level_dbov, *(round(k * 127) + 127 for k in self.reflection)))


def parse(payload: bytes) -> ComfortNoise:
    """RFC 3389 section 3. Raises ValueError for an empty payload; the level's unused top bit is ignored."""
    if not payload:
        raise ValueError("CN: empty payload")
    return ComfortNoise(-(payload[0] & 0x7F), tuple(min(byte, 254) / 127 - 1.0 for byte in payload[1:]))


def noise(level_dbov: float, n_samples: int, random: np.random.Generator) -> Samples:
    """White Gaussian noise of that level (RMS), as heard between words: the same at any sample rate."""
    rms = OVERLOAD * 10 ** (level_dbov / 20)
    return np.rint(random.standard_normal(n_samples) * rms).clip(-32768, 32767).astype(np.int16)
