"""From the bytes a client sends to 8 kHz samples, one array per channel.

Pure and incremental: a frame may end in the middle of a sample or of an interleaved group; the rest waits.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from rtpcodecs.g711 import ALAW_TO_LINEAR, ULAW_TO_LINEAR

RATE_HZ = 8000
TAPS_EACH_SIDE = 12  # of the interpolation filter, in samples of the lower of the two rates: 1.5 ms of look-ahead
FRAME_SAMPLES = 80  # 10 ms, the unit of the level
QUIET_RMS = 100.0  # of int16: -50 dBFS, below speech on any line worth transcribing, above G.711 idle noise

Int16 = npt.NDArray[np.int16]
Floats = npt.NDArray[np.float32]

WIDTHS = {"mulaw": 1, "alaw": 1, "linear16": 2, "linear32": 4}
"""Bytes per sample of the encodings that can be decoded here. `linear32` is float32 LE (Deepgram, encoding page)."""


def decode(encoding: str, data: bytes) -> Int16:
    """Whole samples only; `encoding` is a key of WIDTHS."""
    samples: Int16
    if encoding == "mulaw":
        samples = ULAW_TO_LINEAR[np.frombuffer(data, dtype=np.uint8)]
        return samples
    if encoding == "alaw":
        samples = ALAW_TO_LINEAR[np.frombuffer(data, dtype=np.uint8)]
        return samples
    if encoding == "linear16":
        return np.frombuffer(data, dtype="<i2")
    floats = np.clip(np.nan_to_num(np.frombuffer(data, dtype="<f4")), -1.0, 32767 / 32768)
    samples = (floats * 32768.0).astype(np.int16)
    return samples


class Decoder:
    """The audio of one connection: bytes in, 8 kHz int16 per channel out; knows how much audio that was."""

    def __init__(self, encoding: str, rate_hz: int, *, channels: int = 1, mixed: bool = True) -> None:
        """`mixed`: all channels summed into one (their mean) instead of one output each."""
        self.encoding, self.rate_hz, self.channels, self.mixed = encoding, rate_hz, channels, mixed
        self.outputs = 1 if mixed else channels
        self._group_bytes = WIDTHS[encoding] * channels
        self._rest = b""
        self._groups = 0
        self._resamplers = [Resampler(rate_hz) for _ in range(self.outputs)]

    @property
    def seconds(self) -> float:
        """Audio received, complete samples only."""
        return self._groups / self.rate_hz

    def push(self, data: bytes) -> list[Int16]:
        """8 kHz samples that became available, an array per output."""
        data = self._rest + data
        whole = len(data) // self._group_bytes * self._group_bytes
        self._rest = data[whole:]
        self._groups += whole // self._group_bytes
        samples = decode(self.encoding, data[:whole]).reshape(-1, self.channels)
        if self.mixed and self.channels > 1:
            samples = samples.mean(axis=1, dtype=np.float32).astype(np.int16).reshape(-1, 1)
        return [resampler.push(samples[:, i]) for i, resampler in enumerate(self._resamplers)]

    def flush(self) -> list[Int16]:
        """What the resamplers held back: the last 1.5 ms."""
        return [resampler.flush() for resampler in self._resamplers]


class Resampler:
    """Any rate to 8 kHz without delay: output n lies at time n/8000 of the input (windowed sinc, zero phase)."""

    def __init__(self, rate_hz: int) -> None:
        ratio = Fraction(rate_hz, RATE_HZ)
        self._step, self._phases = ratio.numerator, ratio.denominator
        self._is_identity = ratio == 1
        self._half = int(np.ceil(TAPS_EACH_SIDE * max(1.0, float(ratio))))
        self._table = _sinc_table(self._phases, self._half, float(ratio))
        self._held = np.zeros(self._half, dtype=np.float32)  # history before the first sample
        self._first = -self._half  # input index of _held[0]
        self._next_output = 0

    def push(self, samples: Int16) -> Int16:
        if self._is_identity:
            return samples
        self._held = np.concatenate((self._held, samples.astype(np.float32)))
        return self._produce(self._held, len(self._held) + self._first - self._half)

    def flush(self) -> Int16:
        """Outputs up to the end of the input, taking silence for what would follow."""
        if self._is_identity:
            return np.zeros(0, dtype=np.int16)
        padded = np.concatenate((self._held, np.zeros(self._half + 1, dtype=np.float32)))
        return self._produce(padded, len(self._held) + self._first)

    def _produce(self, held: Floats, inputs: int) -> Int16:
        """Outputs whose centre lies before input index `inputs`."""
        end = max(self._next_output, -(-inputs * self._phases // self._step))
        n = np.arange(self._next_output, end)
        centre, phase = (n * self._step) // self._phases, (n * self._step) % self._phases
        taps = centre[:, None] - self._first + np.arange(-self._half + 1, self._half + 1)
        out = np.einsum("ij,ij->i", held[taps], self._table[phase]) if len(n) else np.zeros(0)
        self._next_output = end
        keep = (end * self._step) // self._phases - self._half + 1 - self._first
        if keep > 0:
            self._held, self._first = self._held[keep:], self._first + keep
        return np.clip(np.rint(out), -32768, 32767).astype(np.int16)


def _sinc_table(phases: int, half: int, ratio: float) -> Floats:
    """Row p: weights of inputs -half+1 .. half around an output that lies p/phases behind input 0."""
    cutoff = min(1.0, 1.0 / ratio) * 0.95
    t = np.arange(-half + 1, half + 1)[None, :] - (np.arange(phases) / phases)[:, None]
    weights = np.sinc(t * cutoff) * np.cos(np.pi * np.clip(t / (half + 1), -1, 1) / 2) ** 2
    table: Floats = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return table


class Activity:
    """Speech or not by level, in 10 ms frames: enough to end a segment, not a voice activity detector."""

    def __init__(self) -> None:
        self._rest = np.zeros(0, dtype=np.int16)
        self._frames = 0
        self.last_loud = -1.0
        "End of the last loud frame, seconds of audio; negative: none yet."
        self.onset = -1.0
        "Start of the present or last loud run; pauses shorter than 300 ms do not end a run."

    @property
    def seconds(self) -> float:
        return self._frames * FRAME_SAMPLES / RATE_HZ

    def push(self, samples: Int16) -> None:
        held = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        n = len(held) // FRAME_SAMPLES
        self._rest = held[n * FRAME_SAMPLES :]
        if n:
            frames = held[: n * FRAME_SAMPLES].reshape(n, FRAME_SAMPLES).astype(np.float32)
            loud = np.einsum("ij,ij->i", frames, frames) > FRAME_SAMPLES * QUIET_RMS**2
            for i in np.flatnonzero(loud):
                start = (self._frames + int(i)) * FRAME_SAMPLES / RATE_HZ
                if start - self.last_loud > 0.3 or self.last_loud < 0:
                    self.onset = start
                self.last_loud = start + FRAME_SAMPLES / RATE_HZ
            self._frames += n

    def quiet_for(self, seconds: float) -> float:
        """How long it has been quiet at stream time `seconds`; since the beginning where nothing was loud."""
        return seconds - max(self.last_loud, 0.0)


def wav_format(data: bytes) -> tuple[str, int, int, int] | None:
    """(encoding, rate_hz, channels, offset of the audio) of a RIFF/WAVE header, None if it is not one we can decode."""
    if len(data) < 12 or data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return None
    at, found = 12, None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], struct.unpack_from("<I", data, at + 4)[0]
        if name == b"fmt " and at + 24 <= len(data):
            found = _wav_encoding(*struct.unpack_from("<HHIIHH", data, at + 8))
        if name == b"data":
            return None if found is None else (*found, at + 8)
        at += 8 + size + size % 2
    return None


def _wav_encoding(tag: int, channels: int, rate_hz: int, *rest: Any) -> tuple[str, int, int] | None:
    encoding = {(1, 16): "linear16", (7, 8): "mulaw", (6, 8): "alaw", (3, 32): "linear32"}.get((tag, rest[2]))
    return None if encoding is None or not channels or not rate_hz else (encoding, rate_hz, channels)
