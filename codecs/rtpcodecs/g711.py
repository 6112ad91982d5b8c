"""G.711: PCMU and PCMA (ITU-T G.711; RFC 3551 section 4.5.14). One byte is one sample at 8 kHz.

Everything is a table. Decoded values are G.711's 14 (mu-law) and 13 bit (A-law) ones scaled to 16 bit; encoding takes
the nearest level (see `_encode_table`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rtpcodecs.contract import Codec, Decoder, Samples

Bytes = NDArray[np.uint8]


def _ulaw_values() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = ((code >> 4) & 7).astype(np.int32)
    magnitude = ((((code & 15).astype(np.int32) << 3) + 0x84) << exponent) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _alaw_values() -> Samples:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 7).astype(np.int32)
    mantissa = (code & 15).astype(np.int32) << 4
    magnitude = np.where(exponent == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


ULAW_TO_LINEAR: Samples = _ulaw_values()
"256 int16 values; 0xFF is +0 and 0x7F is -0, both 0."
ALAW_TO_LINEAR: Samples = _alaw_values()
"256 int16 values; there is no zero: 0xD5 is +8, 0x55 is -8."


def _encode_table(to_linear: Samples, zero: int) -> Bytes:
    """Codes for every value >> 2, shifted up by 8192. `zero` is the code of +0.

    Levels change halfway, rounded on the 14 bit scale: the very thresholds of libavcodec's pcm_mulaw and pcm_alaw, so
    that the call generator sends what FFmpeg, and anything built on it, would send.
    """
    positive = np.arange(128) ^ zero
    levels = to_linear[positive].astype(np.int32)
    thresholds = (levels[:-1] + levels[1:] + 4) >> 3
    index = np.searchsorted(thresholds, np.abs(np.arange(-8192, 8192)), side="right")
    index[0] = index[1]
    codes = index ^ zero
    codes[:8192] ^= 0x80
    return codes.astype(np.uint8)


_LINEAR_TO_ULAW = _encode_table(ULAW_TO_LINEAR, 0xFF)
_LINEAR_TO_ALAW = _encode_table(ALAW_TO_LINEAR, 0xD5)


def linear_to_ulaw(samples: Samples) -> Bytes:
    """Codes of int16 samples, any shape."""
    codes: Bytes = _LINEAR_TO_ULAW[(samples >> 2) + np.int16(8192)]
    return codes


def linear_to_alaw(samples: Samples) -> Bytes:
    """Codes of int16 samples, any shape."""
    codes: Bytes = _LINEAR_TO_ALAW[(samples >> 2) + np.int16(8192)]
    return codes


ULAW_TO_ALAW: Bytes = linear_to_alaw(ULAW_TO_LINEAR)
"256 codes: the A-law level next to each mu-law level; G.711's own tables 3 and 4 differ from it in places."
ALAW_TO_ULAW: Bytes = linear_to_ulaw(ALAW_TO_LINEAR)


class TableDecoder:
    """A Decoder by 256-entry table."""

    def __init__(self, table: Samples) -> None:
        self._table = table

    def decode(self, payload: bytes) -> Samples:
        if not payload:
            raise ValueError("empty payload")
        samples: Samples = self._table[np.frombuffer(payload, np.uint8)]
        return samples


class TableEncoder:
    """An Encoder by table."""

    def __init__(self, to_code: Callable[[Samples], Bytes]) -> None:
        self._to_code = to_code

    def encode(self, samples: Samples) -> bytes:
        return self._to_code(samples).tobytes()


def _ulaw_decoder(fmtp: str) -> Decoder:
    return TableDecoder(ULAW_TO_LINEAR)


def _alaw_decoder(fmtp: str) -> Decoder:
    return TableDecoder(ALAW_TO_LINEAR)


PCMU = Codec(
    name="PCMU",
    clock_rate_hz=8000,
    sample_rate_hz=8000,
    duration=len,
    make_decoder=_ulaw_decoder,
    make_encoder=lambda: TableEncoder(linear_to_ulaw),
    static_payload_type=0,
    table=ULAW_TO_LINEAR,
    wire_encoding="mulaw",
)
PCMA = Codec(
    name="PCMA",
    clock_rate_hz=8000,
    sample_rate_hz=8000,
    duration=len,
    make_decoder=_alaw_decoder,
    make_encoder=lambda: TableEncoder(linear_to_alaw),
    static_payload_type=8,
    table=ALAW_TO_LINEAR,
    wire_encoding="alaw",
)
