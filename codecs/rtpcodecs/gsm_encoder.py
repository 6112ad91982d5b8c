"""A GSM 06.10 full rate encoder (ETSI EN 300 961), since libavcodec only decodes: for the call generator and tests.

Fixed point throughout, with the standard's own word lengths: a frame becomes parameters that describe the vocal tract
(log area ratios), the pitch (lag and gain), and what is left of the sound on a grid of every third sample. The bits are
those of libgsm. It takes 0.7 ms of processor time a frame: enough for a few legs, not for a load test.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rtpcodecs.contract import Samples

Words = NDArray[np.int64]

FRAME_SAMPLES = 160
SUBFRAME_SAMPLES = 40
HISTORY = 120  # samples: the longest pitch lag
SIGNATURE = 0xD  # first four bits of a frame (RFC 3551 section 4.5.8.1)
LAR_BITS = (6, 6, 5, 5, 4, 4, 3, 3)
LAR_A = (20480, 20480, 20480, 20480, 13964, 15360, 8534, 9036)  # table 5.1
LAR_B = (0, 0, 2048, -2560, 94, -1792, -341, -1144)
LAR_MIN = (-32, -32, -16, -16, -8, -8, -4, -4)
LAR_INVERSE_A = (13107, 13107, 13107, 13107, 19223, 17476, 31454, 29708)  # table 5.2
GAIN_LIMITS = (6554, 16384, 26214)  # DLB, table 5.3a
GAINS = (3277, 11469, 21299, 32767)  # QLB, table 5.3b
WEIGHTING = np.array((-134, -374, 0, 2054, 5741, 8192, 5741, 2054, 0, -374, -134))  # H, table 5.4
MANTISSA_INVERSE = (29128, 26215, 23832, 21846, 20165, 18725, 17476, 16384)  # NRFAC, table 5.5
MANTISSA = (18431, 20479, 22527, 24575, 26623, 28671, 30719, 32767)  # FAC, table 5.6


def _clip(value: int) -> int:
    return max(-32768, min(32767, value))


def _mult(a: int, b: int) -> int:
    return (a * b) >> 15


def _mult_r(a: int, b: int) -> int:
    return (a * b + 16384) >> 15


def _peak(words: Words) -> int:
    """Greatest magnitude, as a word: -32768 counts as 32767."""
    return min(32767, int(np.abs(words).max()))


def _norm(value: int) -> int:
    """Left shifts until a positive 32 bit number fills its 31 bits."""
    return 31 - value.bit_length()


@dataclass(slots=True)
class _Bits:
    value: int = SIGNATURE
    count: int = 4

    def put(self, value: int, n_bits: int) -> None:
        self.value = self.value << n_bits | value
        self.count += n_bits


@dataclass(slots=True)
class GsmEncoder:
    """An Encoder: whole frames of 160 samples at 8 kHz. Raises ValueError for anything else."""

    _z1: int = 0
    _z2: int = 0
    _emphasis: int = 0
    _lattice: list[int] = field(default_factory=lambda: [0] * 8)
    _last_lar: list[int] = field(default_factory=lambda: [0] * 8)
    _residual: Words = field(default_factory=lambda: np.zeros(HISTORY + FRAME_SAMPLES, np.int64))

    def encode(self, samples: Samples) -> bytes:
        if not len(samples) or len(samples) % FRAME_SAMPLES:
            raise ValueError(f"GSM: {len(samples)} samples are not frames of 160")
        return b"".join(self._frame(samples[at : at + FRAME_SAMPLES]) for at in range(0, len(samples), FRAME_SAMPLES))

    def _frame(self, samples: Samples) -> bytes:
        bits = _Bits()
        signal, lar_codes = _lpc_analysis(self._preprocess(samples))
        for code, n_bits in zip(lar_codes, LAR_BITS, strict=True):
            bits.put(code, n_bits)
        lar = _decode_lar(lar_codes)
        short_term = self._short_term_filter(signal, lar)
        self._last_lar = lar
        for start in range(0, FRAME_SAMPLES, SUBFRAME_SAMPLES):
            self._subframe(short_term[start : start + SUBFRAME_SAMPLES], HISTORY + start, bits)
        self._residual[:HISTORY] = self._residual[FRAME_SAMPLES:]
        return bits.value.to_bytes(33, "big")

    def _preprocess(self, samples: Samples) -> list[int]:
        """Section 5.2.1 to 5.2.3: scaled to 13 bits, freed of its offset, high frequencies raised."""
        out = []
        z1, z2, emphasis = self._z1, self._z2, self._emphasis
        for sample in samples.tolist():
            scaled = (sample >> 3) << 2
            high, low = z2 >> 15, z2 & 0x7FFF
            z2 = high * 32735 + (((scaled - z1) << 15) + _mult_r(low, 32735))
            z1 = scaled
            before = _mult_r(emphasis, -28180)
            emphasis = (z2 + 16384) >> 15
            out.append(_clip(emphasis + before))
        self._z1, self._z2, self._emphasis = z1, z2, emphasis
        return out

    def _short_term_filter(self, signal: list[int], lar: list[int]) -> Words:
        """Sections 5.2.9 and 5.2.10: what the vocal tract does not explain. It glides from the last frame's shape."""
        last = self._last_lar
        mixes = (
            (13, [(a >> 2) + (b >> 2) + (a >> 1) for a, b in zip(last, lar, strict=True)]),
            (27, [(a >> 1) + (b >> 1) for a, b in zip(last, lar, strict=True)]),
            (40, [(a >> 2) + (b >> 2) + (b >> 1) for a, b in zip(last, lar, strict=True)]),
            (FRAME_SAMPLES, lar),
        )
        out: list[int] = []
        for end, mix in mixes:
            out += self._lattice_filter(signal[len(out) : end], [_reflection(value) for value in mix])
        return np.array(out)

    def _lattice_filter(self, signal: list[int], reflections: list[int]) -> list[int]:
        state = self._lattice
        out = []
        for sample in signal:
            forward = backward = sample
            for i, r in enumerate(reflections):
                delayed = state[i]
                state[i] = backward
                backward = _clip(delayed + ((r * forward + 16384) >> 15))
                forward = _clip(forward + ((r * delayed + 16384) >> 15))
            out.append(forward)
        return out

    def _subframe(self, signal: Words, at: int, bits: _Bits) -> None:
        """Section 5.2.11 to 5.2.18, and its own decoding, which the next subframe's pitch is searched in."""
        lag, gain = _pitch(signal, self._residual[at - HISTORY : at])
        predicted = (GAINS[gain] * self._residual[at - lag : at - lag + SUBFRAME_SAMPLES] + 16384) >> 15
        left = np.clip(signal - predicted, -32768, 32767)
        grid, level, codes, rebuilt = _rpe(left)
        self._residual[at : at + SUBFRAME_SAMPLES] = np.clip(rebuilt + predicted, -32768, 32767)
        for value, n_bits in ((lag, 7), (gain, 2), (grid, 2), (level, 6)):
            bits.put(value, n_bits)
        for code in codes:
            bits.put(int(code), 3)


def _lpc_analysis(signal: list[int]) -> tuple[list[int], list[int]]:
    """Sections 5.2.4 to 5.2.7. The signal as it is rescaled on the way, and its coded log area ratios."""
    words = np.array(signal)
    peak = _peak(words)
    shift = max(0, 4 - _norm(peak << 16)) if peak else 0
    if shift:
        words = (words * (16384 >> (shift - 1)) + 16384) >> 15
    correlation = [2 * int(words[lag:] @ words[: FRAME_SAMPLES - lag]) for lag in range(9)]
    ratios = (_log_area_ratio(r) for r in _schur(correlation))
    codes = []
    for ratio, a, b, low in zip(ratios, LAR_A, LAR_B, LAR_MIN, strict=True):
        value = (_mult(a, ratio) + b + 256) >> 9
        codes.append(min(max(value, low), -low - 1) - low)
    return (words << shift).tolist(), codes


def _schur(correlation: list[int]) -> list[int]:
    """Section 5.2.5: reflection coefficients, 16 bit fractions."""
    if correlation[0] == 0:
        return [0] * 8
    shift = _norm(correlation[0])
    p = [(value << shift) >> 16 for value in correlation]
    k = p[:]
    out: list[int] = []
    for n in range(1, 9):
        size = min(abs(p[1]), 32767)
        if p[0] < size:
            break
        quotient = min(32767, (size << 15) // p[0]) if size else 0
        r = -quotient if p[1] > 0 else quotient
        out.append(r)
        p[0] = _clip(p[0] + _mult_r(p[1], r))
        for m in range(1, 9 - n):
            p[m], k[m] = _clip(p[m + 1] + _mult_r(k[m], r)), _clip(k[m] + _mult_r(p[m + 1], r))
    return out + [0] * (8 - len(out))


def _log_area_ratio(r: int) -> int:
    """Section 5.2.6."""
    size = abs(r)
    size = size >> 1 if size < 22118 else size - 11059 if size < 31130 else (size - 26112) << 2
    return -size if r < 0 else size


def _decode_lar(codes: list[int]) -> list[int]:
    """Section 5.2.8."""
    table = zip(codes, LAR_MIN, LAR_B, LAR_INVERSE_A, strict=True)
    return [_clip(2 * _mult_r(inverse, _clip(((code + low) << 10) - 2 * b))) for code, low, b, inverse in table]


def _reflection(ratio: int) -> int:
    """Section 5.2.9.2."""
    size = abs(ratio)
    size = size << 1 if size < 11059 else size + 11059 if size < 20070 else _clip((size >> 2) + 26112)
    return -size if ratio < 0 else size


def _pitch(signal: Words, history: Words) -> tuple[int, int]:
    """Section 5.2.11: the lag, 40 to 120, at which `history` resembles `signal` most, and the code of its gain."""
    peak = _peak(signal)
    shift = max(0, 6 - _norm(peak << 16)) if peak else 0
    likeness = np.correlate(history, signal >> shift, "valid")[::-1]  # index 0: lag 40
    best = int(np.argmax(likeness))
    lag = 40 + best if likeness[best] > 0 else 40
    most = max(0, int(2 * likeness[best])) >> (6 - shift)
    start = HISTORY - lag
    power = 2 * int(((history[start : start + SUBFRAME_SAMPLES] >> 3) ** 2).sum())
    if most <= 0:
        return lag, 0
    if most >= power:
        return lag, 3
    up = _norm(power)
    ratio, whole = (most << up) >> 16, (power << up) >> 16
    return lag, next((n for n, limit in enumerate(GAIN_LIMITS) if ratio <= _mult(whole, limit)), 3)


def _rpe(left: Words) -> tuple[int, int, Words, Words]:
    """Sections 5.2.13 to 5.2.17: grid, coded level, 13 coded pulses, and the 40 samples a decoder makes of them."""
    weighted = np.clip((np.convolve(left, WEIGHTING)[5:45] + 4096) >> 13, -32768, 32767)
    energies = [int(((weighted[grid : grid + 37 : 3] >> 2) ** 2).sum()) for grid in range(4)]
    grid = energies.index(max(energies))
    pulses = weighted[grid : grid + 37 : 3]
    level = _coded_level(_peak(pulses))
    exponent, mantissa = _level_parts(level)
    codes = ((((pulses << (6 - exponent)) * MANTISSA_INVERSE[mantissa]) >> 15) >> 12) + 4
    half = (1 << (6 - exponent)) >> 1
    scaled = ((2 * codes - 7) * 4096 * MANTISSA[mantissa] + 16384) >> 15
    rebuilt = np.zeros(SUBFRAME_SAMPLES, np.int64)
    rebuilt[grid : grid + 37 : 3] = np.clip(scaled + half, -32768, 32767) >> (6 - exponent)
    return grid, level, codes, rebuilt


def _coded_level(peak: int) -> int:
    """Section 5.2.15: 3 bits of exponent, 3 of mantissa."""
    exponent = min(6, (peak >> 9).bit_length())
    return (peak >> (exponent + 5)) + (exponent << 3)


def _level_parts(level: int) -> tuple[int, int]:
    """The exponent, -4 to 6, and the mantissa, 0 to 7, that a level code stands for."""
    exponent = (level >> 3) - 1 if level > 15 else 0
    mantissa = level - (exponent << 3)
    if mantissa == 0:
        return -4, 7
    while mantissa <= 7:
        mantissa = mantissa << 1 | 1
        exponent -= 1
    return exponent, mantissa - 8
