"""GSM 06.10 full rate (RFC 3551 section 4.5.8): 33 bytes are 20 ms, 8 kHz."""

from __future__ import annotations

from rtpcodecs.contract import Codec, Decoder
from rtpcodecs.gsm_encoder import GsmEncoder
from rtpcodecs.lavc import LavcDecoder, frames_of, open_decoder

FRAME_BYTES = 33
FRAME_SAMPLES = 160


def _split(payload: bytes) -> list[bytes]:
    return frames_of(payload, FRAME_BYTES, "GSM")


def _duration(payload: bytes) -> int:
    return FRAME_SAMPLES * len(_split(payload))


def _decoder(fmtp: str) -> Decoder:
    return LavcDecoder(open_decoder("gsm", 8000), _split)


GSM = Codec(
    name="GSM",
    clock_rate_hz=8000,
    sample_rate_hz=8000,
    duration=_duration,
    make_decoder=_decoder,
    make_encoder=GsmEncoder,
    static_payload_type=3,
)
