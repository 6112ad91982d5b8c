"""L16: linear 16 bit samples, most significant byte first (RFC 3551 section 4.5.11).

The rate is what rtpmap says. 8 and 16 kHz are taken; the static payload types 10 and 11 are 44.1 kHz music and are not.
"""

from __future__ import annotations

import numpy as np

from rtpcodecs.contract import Codec, Decoder, Encoder, Samples


def _duration(payload: bytes) -> int:
    if len(payload) % 2:
        raise ValueError("L16: odd number of bytes")
    return len(payload) // 2


class L16Decoder:
    """A Decoder that swaps bytes."""

    def decode(self, payload: bytes) -> Samples:
        if not payload or len(payload) % 2:
            raise ValueError(f"L16: {len(payload)} bytes are not whole samples")
        return np.frombuffer(payload, ">i2").astype(np.int16)


class L16Encoder:
    """An Encoder that swaps bytes."""

    def encode(self, samples: Samples) -> bytes:
        return samples.astype(">i2").tobytes()


def _at(rate_hz: int) -> Codec:
    def make_decoder(fmtp: str) -> Decoder:
        return L16Decoder()

    def make_encoder() -> Encoder:
        return L16Encoder()

    return Codec(
        name="L16",
        clock_rate_hz=rate_hz,
        sample_rate_hz=rate_hz,
        duration=_duration,
        make_decoder=make_decoder,
        make_encoder=make_encoder,
    )


L16_8K = _at(8000)
L16_16K = _at(16000)
