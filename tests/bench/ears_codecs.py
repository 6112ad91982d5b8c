"""Telephone codecs for the bench: what a call may have been through before it reaches us."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes.util import find_library

import numpy as np
from numpy.typing import NDArray

import rtpcodecs

Sound = NDArray[np.int16]
G729_SAMPLES = 80  # 10 ms, 10 bytes (ITU-T G.729 Annex A)
G729_DELAY = 40  # samples of look-ahead; frames come out so much later


def tandem(sound: Sound, times: int = 2) -> Sound:
    """Mu-law, then A-law, as often as a call crosses a border."""
    for _ in range(times):
        for name in ("PCMU", "PCMA"):
            codec = rtpcodecs.CODECS[name]
            assert codec.make_encoder is not None
            sound = codec.make_decoder("").decode(codec.make_encoder().encode(sound))
    return sound


def gsm(sound: Sound) -> Sound:
    """GSM full rate, by the product's own encoder: 16 times as fast as the call."""
    codec = rtpcodecs.CODECS["GSM"]
    assert codec.make_encoder is not None
    encoder, decoder = codec.make_encoder(), codec.make_decoder("")
    return in_frames(sound, 160, lambda frame: decoder.decode(encoder.encode(frame)))


def has_g729() -> bool:
    """The product only decodes G.729; its encoder comes from a system library where there is one."""
    return find_library("bcg729") is not None


def g729(sound: Sound) -> Sound:
    """G.729 without VAD: encoded by libbcg729, decoded as the product does."""
    library = ctypes.CDLL(find_library("bcg729") or "")
    library.initBcg729EncoderChannel.restype = ctypes.c_void_p
    channel = ctypes.c_void_p(library.initBcg729EncoderChannel(ctypes.c_uint8(0)))
    decoder = rtpcodecs.CODECS["G729"].make_decoder("")
    out, length = (ctypes.c_uint8 * 10)(), ctypes.c_uint8()

    def run(frame: Sound) -> Sound:
        samples = np.ascontiguousarray(frame)
        library.bcg729Encoder(channel, ctypes.c_void_p(samples.ctypes.data), out, ctypes.byref(length))
        return decoder.decode(bytes(out[: length.value]))

    coded = in_frames(sound, G729_SAMPLES, run)
    library.closeBcg729EncoderChannel(channel)
    return np.concatenate([coded[G729_DELAY:], coded[:G729_DELAY]])


def in_frames(sound: Sound, size: int, run: Callable[[Sound], Sound]) -> Sound:
    """Frame by frame; as long as before."""
    whole = np.pad(sound, (0, -len(sound) % size))
    return np.concatenate([run(frame) for frame in whole.reshape(-1, size)])[: len(sound)]
