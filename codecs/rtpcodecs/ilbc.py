"""iLBC (RFC 3952): frames of 38 bytes are 20 ms, of 50 bytes 30 ms; 8 kHz. The payload's size tells which; fmtp `mode`
only decides for the sizes that fit both (950 bytes and up, which nobody sends)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from rtpcodecs.contract import Codec, Decoder, Samples
from rtpcodecs.fmtp import parameters
from rtpcodecs.lavc import decode_packet

SAMPLES = {38: 160, 50: 240}
SILENCE = {
    38: bytes.fromhex("ffa6340160425555249249249241ccccccccf3cf3cf3cf3cf3cf3cf3e68b8227ee0101011616"),
    50: bytes.fromhex(
        "ffa63ffa6320300c492480000000001600a28210cf3cf3cf3ffffffffffffffffffff622c571e3e02032900a894161614050"
    ),
}
"What an encoder makes of its first frame of zeros."


def _frame_bytes(payload: bytes, expected: int = 38) -> int:
    for size in (expected, 38, 50):
        if payload and len(payload) % size == 0:
            return size
    raise ValueError(f"ILBC: {len(payload)} bytes are not frames of 38 or 50")


def _duration(payload: bytes) -> int:
    size = _frame_bytes(payload)
    return len(payload) // size * SAMPLES[size]


def _open(frame_bytes: int) -> tuple[Any, Any]:
    """libavcodec learns the mode from `block_align`, which PyAV does not let one set: so the decoder is taken from a
    file of that mode (RFC 3952 section 5). The file must live as long as the decoder; both are returned.

    The first frame of libavcodec's decoder comes out as a burst near full scale, whatever it holds (FFmpeg 8): a frame
    of silence goes first and is thrown away. What follows is as in the reference decoder without its enhancer.
    """
    import av

    header = b"#!iLBC20\n" if frame_bytes == 38 else b"#!iLBC30\n"
    container = av.open(io.BytesIO(header + SILENCE[frame_bytes]), format="ilbc")
    context = container.streams.audio[0].codec_context
    decode_packet(context, SILENCE[frame_bytes])
    return container, context


class IlbcDecoder:
    """A Decoder for both modes; each keeps its own state."""

    def __init__(self, fmtp: str) -> None:
        self._expected = 50 if parameters(fmtp).get("mode") == "30" else 38
        self._open: dict[int, tuple[Any, Any]] = {}

    def decode(self, payload: bytes) -> Samples:
        size = _frame_bytes(payload, self._expected)
        if size not in self._open:
            self._open[size] = _open(size)
        context = self._open[size][1]
        frames = [decode_packet(context, payload[at : at + size]) for at in range(0, len(payload), size)]
        return frames[0] if len(frames) == 1 else np.concatenate(frames)


def _decoder(fmtp: str) -> Decoder:
    return IlbcDecoder(fmtp)


ILBC = Codec(name="ILBC", clock_rate_hz=8000, sample_rate_hz=8000, duration=_duration, make_decoder=_decoder)
