"""Between the format that a leg arrives in and the one that a provider is sent: G.711 and linear, same rate.

ITU-T G.711 in the usual 16 bit scaling. Tables are made once; a chunk is one look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from bridge.model import AudioFormat

Convert = Callable[[bytes], bytes]


def converter(source: AudioFormat, target: AudioFormat) -> Convert | None:
    """None where the bytes go through untouched. Both formats have the same rate."""
    if source.encoding == target.encoding:
        return None
    if source.encoding == "linear16":
        encode = _encoder(target.encoding)
        return lambda data: encode[np.frombuffer(data, "<u2")].tobytes()
    decode = _decoder(source.encoding)
    if target.encoding == "linear16":
        return lambda data: decode[np.frombuffer(data, np.uint8)].tobytes()
    recode = _encoder(target.encoding)[decode.view("<u2")]
    return lambda data: recode[np.frombuffer(data, np.uint8)].tobytes()


def silence(audio: AudioFormat, samples: int) -> bytes:
    """Digital silence."""
    if audio.encoding == "linear16":
        return bytes(2 * samples)
    return (b"\xff" if audio.encoding == "mulaw" else b"\xd5") * samples


@cache
def _decoder(encoding: str) -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32)
    if encoding == "mulaw":
        code = ~code & 0xFF
        size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
        return np.where(code & 0x80, -size, size).astype("<i2")
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    size = np.where(exponent == 0, mantissa + 8, mantissa + 0x108 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, size, -size).astype("<i2")


@cache
def _encoder(encoding: str) -> NDArray[np.uint8]:
    """By the 16 bit pattern of a sample (as unsigned): the code whose value is nearest."""
    values = _decoder(encoding).astype(np.int32)
    order = np.argsort(values, kind="stable").astype(np.uint8)
    levels = values[order]
    borders = (levels[:-1] + levels[1:]) / 2
    samples = np.arange(65536, dtype=np.uint16).view(np.int16)
    return order[np.searchsorted(borders, samples)]
