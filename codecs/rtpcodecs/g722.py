"""G.722 at 64 kbit/s (RFC 3551 section 4.5.2). One byte is two samples at 16 kHz, but one unit of the RTP clock, which
is stated as 8000 Hz: an error of RFC 1890 that was kept. Some stacks do not know it, and state 16000, or
count so, or both."""

from __future__ import annotations

from dataclasses import replace

from rtpcodecs.contract import Codec, Decoder, Encoder
from rtpcodecs.lavc import LavcDecoder, LavcEncoder, open_decoder


def _whole(payload: bytes) -> list[bytes]:
    return [payload]


def _decoder(fmtp: str) -> Decoder:
    return LavcDecoder(open_decoder("g722", 16000), _whole)


def _encoder_options(n_samples: int) -> dict[str, str]:
    if not n_samples or n_samples % 2:
        raise ValueError("G722: samples come in pairs")
    return {"frame_size": str(n_samples)}


def _encoder() -> Encoder:
    return LavcEncoder("g722", 16000, _encoder_options)


G722 = Codec(
    name="G722",
    clock_rate_hz=8000,
    sample_rate_hz=16000,
    duration=len,
    make_decoder=_decoder,
    make_encoder=_encoder,
    static_payload_type=9,
    other_clock_hz=16000,
)


def _doubled(payload: bytes) -> int:
    return 2 * len(payload)


G722_16K = replace(G722, clock_rate_hz=16000, other_clock_hz=8000, duration=_doubled, static_payload_type=None)
"As those describe it who state the sampling rate."
