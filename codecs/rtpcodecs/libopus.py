"""libopus itself, through ctypes. PyAV's wrapper decodes at 48 kHz only; libopus decodes at the rate it is asked for,
and to 16 kHz mono does two thirds of the work, with nothing to be filtered behind it.

The library is the one that PyAV's wheel brings, or else the system's; PyAV itself is not imported.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rtpcodecs.contract import Samples

SONAME = "libopus.so.0"


@cache
def library() -> Any:
    """None where there is no libopus.

    Its functions are called with the interpreter's lock held: a packet takes microseconds, less than the handing over.
    """
    for name in (*_of_pyav(), SONAME):
        try:
            loaded = ctypes.PyDLL(name)
        except OSError:
            continue
        pointer, number = ctypes.c_void_p, ctypes.c_int
        loaded.opus_decode.argtypes = [pointer, ctypes.c_char_p, number, pointer, number, number]
        loaded.opus_strerror.restype = ctypes.c_char_p
        return loaded
    return None


def _of_pyav() -> list[str]:
    """What auditwheel put beside the package."""
    spec = find_spec("av")
    places = spec.submodule_search_locations if spec else None
    return [str(path) for place in places or () for path in Path(place).parent.glob("av.libs/libopus-*.so*")]


class LibopusDecoder:
    """One stream to mono at `rate_hz` (8000, 12000, 16000, 24000 or 48000)."""

    def __init__(self, opus: Any, rate_hz: int) -> None:
        self._decode = opus.opus_decode
        self._strerror = opus.opus_strerror
        self._memory = ctypes.create_string_buffer(opus.opus_decoder_get_size(1))  # freed with this object
        error = opus.opus_decoder_init(self._memory, rate_hz, 1)
        if error:
            raise ValueError(f"OPUS: {self._why(error)}")
        self._state = ctypes.addressof(self._memory)

    def decode(self, payload: bytes, n_samples: int) -> Samples:
        """Exactly `n_samples`, which the caller has from the TOC byte. Raises ValueError for a broken payload."""
        block = (ctypes.c_int16 * n_samples)()
        got = self._decode(self._state, payload, len(payload), block, n_samples, 0)
        if got != n_samples:
            raise ValueError(f"OPUS: {self._why(got)}")
        return np.frombuffer(block, np.int16)  # type: ignore[call-overload,no-any-return]

    def _why(self, code: int) -> str:
        reason: bytes = self._strerror(code) if code < 0 else b"shorter than it says"
        return reason.decode()
