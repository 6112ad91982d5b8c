"""G.729, with annexes A and B (RFC 3551 section 4.5.6): frames of 10 bytes are 10 ms, 8 kHz. A payload may end with,
or be, one silence description (SID) of 2 bytes; `annexb` is on unless fmtp says no, and we take SIDs in either case."""

from __future__ import annotations

import numpy as np

from rtpcodecs.comfort_noise import noise
from rtpcodecs.contract import Codec, Decoder, Samples
from rtpcodecs.lavc import decode_packet, open_decoder

FRAME_BYTES = 10
FRAME_SAMPLES = 80
SID_BYTES = 2


def _duration(payload: bytes) -> int:
    frames, rest = divmod(len(payload), FRAME_BYTES)
    if not payload or rest not in (0, SID_BYTES):
        raise ValueError(f"G729: {len(payload)} bytes are not frames of 10 with or without a SID")
    return FRAME_SAMPLES * (frames + (rest == SID_BYTES))


def sid_level_dbov(sid: bytes) -> float:
    """The level of the noise that a SID describes: 5 bits of gain in steps of 2 dB.

    The spectrum (10 bits before the gain) is left out. The scale was set by what bcg729's decoder makes of a SID
    (gain 10: RMS 32, 11: RMS 39); it is a level to fill a pause with, not a measurement.
    """
    index = (int.from_bytes(sid, "big") >> 1) & 0x1F
    return 2.0 * index - 80.3


class G729Decoder:
    """A Decoder: speech through libavcodec, SIDs as noise of their level, since libavcodec refuses them."""

    def __init__(self) -> None:
        self._context = open_decoder("g729", 8000)
        self._random = np.random.default_rng(0)

    def decode(self, payload: bytes) -> Samples:
        _duration(payload)
        speech = len(payload) - len(payload) % FRAME_BYTES
        blocks = [decode_packet(self._context, payload[:speech])] if speech else []
        if speech < len(payload):
            blocks.append(noise(sid_level_dbov(payload[speech:]), FRAME_SAMPLES, self._random))
        return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


def _decoder(fmtp: str) -> Decoder:
    return G729Decoder()


G729 = Codec(
    name="G729",
    clock_rate_hz=8000,
    sample_rate_hz=8000,
    duration=_duration,
    make_decoder=_decoder,
    static_payload_type=18,
)
