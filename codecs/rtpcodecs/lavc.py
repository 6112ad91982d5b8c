"""Formats that libavcodec decodes, through PyAV. PyAV is imported with the first decoder, not with this module: a
service that only speaks G.711 never loads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtpcodecs.contract import Samples

EMPTY: Samples = np.zeros(0, np.int16)


def open_decoder(name: str, rate_hz: int, *, sample_format: str = "") -> Any:
    """A mono libavcodec decoder. `sample_format` asks for one where the decoder has a choice."""
    import av

    context = av.CodecContext.create(name, "r")
    context.sample_rate = rate_hz
    context.layout = "mono"
    if sample_format:
        context.format = sample_format
    context.thread_count = 1  # a frame is smaller than what waking a thread costs
    return context


def open_encoder(name: str, rate_hz: int, options: dict[str, str]) -> Any:
    """A mono 16 bit libavcodec encoder."""
    from fractions import Fraction

    import av

    context = av.CodecContext.create(name, "w")
    context.sample_rate = rate_hz
    context.layout = "mono"
    context.format = "s16"
    context.time_base = Fraction(1, rate_hz)
    context.thread_count = 1
    context.options = options
    return context


@cache
def _av() -> Any:
    """PyAV, without looking for it again for each packet."""
    import av

    return av


def decode_packet(context: Any, payload: bytes) -> Samples:
    """All samples of one libavcodec packet as int16, not to be written to. Raises ValueError for what libavcodec will
    not take."""
    if not payload:
        raise ValueError("empty payload")  # an empty packet would tell libavcodec that the stream is over
    try:
        frames = context.decode(_av().Packet(payload))
    except _av().FFmpegError as error:
        raise ValueError(f"{context.name}: {error.strerror}") from None
    if len(frames) == 1:
        return _samples_of(frames[0])
    blocks = [_samples_of(frame) for frame in frames]
    return np.concatenate(blocks) if blocks else EMPTY


def _samples_of(frame: Any) -> Samples:
    plane = frame.planes[0]
    if frame.format.name.startswith("s16"):
        return np.frombuffer(plane, np.int16, frame.samples)
    floats = np.frombuffer(plane, np.float32, frame.samples)
    return to_int16(floats * np.float32(32768.0))


def to_int16(values: NDArray[np.float32]) -> Samples:
    """Rounded and clipped."""
    rounded = np.rint(values)
    np.minimum(rounded, 32767, out=rounded)  # twice as fast as `clip`, for a packet's few samples
    np.maximum(rounded, -32768, out=rounded)
    return rounded.astype(np.int16)


def encode_block(context: Any, samples: Samples) -> bytes:
    """The packet that libavcodec makes of one block. Raises ValueError where the block does not fit the format."""
    import av

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.int16)[None, :], "s16", "mono")
    frame.sample_rate = context.sample_rate
    try:
        packets = context.encode(frame)
    except av.FFmpegError as error:
        raise ValueError(f"{context.name}: {error.strerror}") from None
    return b"".join(bytes(packet) for packet in packets)


class LavcDecoder:
    """A Decoder whose frames libavcodec takes one by one.

    `split` cuts a payload into libavcodec packets and raises ValueError for one that is not of the format.
    """

    def __init__(self, context: Any, split: Callable[[bytes], list[bytes]]) -> None:
        self._context = context
        self._split = split

    def decode(self, payload: bytes) -> Samples:
        frames = self._split(payload)
        if len(frames) == 1:
            return decode_packet(self._context, frames[0])
        return np.concatenate([decode_packet(self._context, frame) for frame in frames])


class LavcEncoder:
    """An Encoder through libavcodec. The first packet decides how long all are: raises ValueError for another
    length, and for one that the format does not have.

    `options` gives libavcodec's options for packets of that many samples, or raises ValueError.
    """

    def __init__(self, name: str, sample_rate_hz: int, options: Callable[[int], dict[str, str]]) -> None:
        self._name = name
        self._sample_rate_hz = sample_rate_hz
        self._options = options
        self._context: Any = None
        self._packet_samples = 0

    def encode(self, samples: Samples) -> bytes:
        if self._context is None:
            self._context = open_encoder(self._name, self._sample_rate_hz, self._options(len(samples)))
            self._packet_samples = len(samples)
        if len(samples) != self._packet_samples:
            raise ValueError(f"{self._name}: {len(samples)} samples, not {self._packet_samples} as in the first packet")
        return encode_block(self._context, samples)


def frames_of(payload: bytes, frame_bytes: int, name: str) -> list[bytes]:
    """`payload` cut into frames of equal size. Raises ValueError where it is not a whole number of them."""
    if not payload or len(payload) % frame_bytes:
        raise ValueError(f"{name}: {len(payload)} bytes are not frames of {frame_bytes}")
    return [payload[at : at + frame_bytes] for at in range(0, len(payload), frame_bytes)]
