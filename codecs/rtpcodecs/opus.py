"""Opus (RFC 7587; RFC 6716). The RTP clock is always 48 kHz; we hand out 16 kHz mono, which is all a recogniser uses.

libavcodec's libopus decodes at 48 kHz and mixes to mono; a linear-phase low-pass takes every third sample (1.25 ms of
delay). Packets of one or two bytes are DTX: libopus answers them with its comfort noise. In-band FEC is not used: PyAV
gives no way to libopus' `decode_fec`, so a lost packet is concealed as in every other format.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rtpcodecs.concealment import Concealment
from rtpcodecs.contract import Codec, Decoder, Encoder, Samples
from rtpcodecs.lavc import LavcEncoder, decode_packet, open_decoder, to_int16

CLOCK_HZ = 48000
RATE_HZ = 16000
LONGEST_PACKET = 5760  # 120 ms at 48 kHz (RFC 6716 section 3.2.5, [R5])
ENCODER_MS = (10, 20, 40, 60)

_SILK = (480, 960, 1920, 2880)  # 10, 20, 40, 60 ms
_HYBRID = (480, 960)
_CELT = (120, 240, 480, 960)  # 2.5, 5, 10, 20 ms
FRAME_UNITS = _SILK * 3 + _HYBRID * 2 + _CELT * 4
"RTP units of one frame by the TOC byte's configuration number (RFC 6716 table 2)."


def duration(payload: bytes) -> int:
    """Units of 1/48000 s, from the TOC byte (RFC 6716 section 3.1). Raises ValueError for an impossible one."""
    if not payload:
        raise ValueError("OPUS: empty payload")
    frame = FRAME_UNITS[payload[0] >> 3]
    code = payload[0] & 3
    if code == 3 and len(payload) < 2:
        raise ValueError("OPUS: no frame count")
    frames = (1, 2, 2, payload[1] & 0x3F if code == 3 else 0)[code]
    if not 0 < frames * frame <= LONGEST_PACKET:
        raise ValueError("OPUS: longer than 120 ms or empty")
    return frames * frame


def _low_pass() -> NDArray[np.float32]:
    """120 taps at 48 kHz: flat to 7 kHz, 60 dB down from 8.4 kHz (Kaiser, beta 5.65), gain 1."""
    at = np.arange(120) - 59.5
    taps = np.sinc(at * 2 * 7700 / CLOCK_HZ) * np.kaiser(120, 5.65)
    normal: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return normal


TAPS = 120
BLOCK = 20
"Outputs of one column block: every Opus frame is a multiple of it."


def _filter_bank() -> NDArray[np.float32]:
    """Column m is the low-pass placed at input 3 m: one matrix product gives `BLOCK` outputs of each row of inputs, at
    a third of what a convolution of so few samples costs in calls."""
    bank = np.zeros((3 * (BLOCK - 1) + TAPS, BLOCK), np.float32)
    for column in range(BLOCK):
        bank[3 * column : 3 * column + TAPS, column] = _low_pass()
    return bank


FILTER_BANK = _filter_bank()


class Decimator:
    """48 to 16 kHz. Keeps its state between blocks, whose length must be a multiple of three samples."""

    def __init__(self) -> None:
        self._n = 0
        self._input = np.zeros(TAPS - 3, np.float32)

    def _fit(self, n: int) -> None:
        """Room for blocks of `n` samples behind the last 117 of before."""
        before = self._input[self._n : self._n + TAPS - 3]
        n_rows = -(-n // (3 * BLOCK))
        self._n = n
        self._input = np.zeros(3 * BLOCK * n_rows + TAPS - 3, np.float32)
        self._input[: TAPS - 3] = before
        windows = np.lib.stride_tricks.sliding_window_view(self._input, len(FILTER_BANK))
        self._rows = windows[:: 3 * BLOCK]
        self._output = np.empty((n_rows, BLOCK), np.float32)

    def push(self, samples: Samples) -> Samples:
        """A third as many samples."""
        n = len(samples)
        if not n:
            return samples
        if n != self._n:
            self._fit(n)
        else:
            self._input[: TAPS - 3] = self._input[n : n + TAPS - 3]
        self._input[TAPS - 3 : TAPS - 3 + n] = samples
        np.matmul(self._rows, FILTER_BANK, out=self._output)
        return to_int16(self._output.reshape(-1)[: n // 3])


class OpusDecoder:
    """A Decoder of mono or stereo Opus to 16 kHz mono."""

    def __init__(self) -> None:
        self._context = open_decoder("libopus", CLOCK_HZ, sample_format="s16")
        self._decimator = Decimator()
        self._concealment = Concealment(RATE_HZ)

    def decode(self, payload: bytes) -> Samples:
        duration(payload)
        return self._concealment.good(self._decimator.push(decode_packet(self._context, payload)))

    def conceal(self, n_samples: int) -> Samples:
        return self._concealment.lost(n_samples)


def _encoder_options(n_samples: int) -> dict[str, str]:
    frame_ms = n_samples * 1000 / RATE_HZ
    if frame_ms not in ENCODER_MS:
        raise ValueError(f"OPUS: {frame_ms:g} ms is not a packet's length")
    return {"application": "voip", "frame_duration": f"{frame_ms:g}"}


def _decoder(fmtp: str) -> Decoder:
    return OpusDecoder()


def _encoder() -> Encoder:
    return LavcEncoder("libopus", RATE_HZ, _encoder_options)


OPUS = Codec(
    name="OPUS",
    clock_rate_hz=CLOCK_HZ,
    sample_rate_hz=RATE_HZ,
    duration=duration,
    make_decoder=_decoder,
    make_encoder=_encoder,
    sdp_channels=2,
)
