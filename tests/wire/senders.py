"""Plain RTP as an external media source sends it: any codec, with key presses in between."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.caller.audio import resample
from bridge.caller.rtp_schedule import rtp_packet
from bridge.clock import monotonic
from rtpcodecs import CODECS
from rtpcodecs.telephone_event import DIGITS, TelephoneEvent

Samples = NDArray[np.int16]
BCG729 = ctypes.util.find_library("bcg729") or "libbcg729.so.0"
PTIME = 0.02  # s
END_REPEATS = 3  # RFC 4733 section 2.5.1.4


class G729:
    """Debian's libbcg729: an encoder by others for the one codec that FFmpeg cannot encode."""

    def __init__(self) -> None:
        """Raises OSError where it is not installed."""
        self._library = ctypes.CDLL(BCG729)
        self._library.initBcg729EncoderChannel.restype = ctypes.c_void_p
        self._channel = ctypes.c_void_p(self._library.initBcg729EncoderChannel(0))

    def encode(self, samples: Samples) -> bytes:
        out, length = (ctypes.c_uint8 * 10)(), ctypes.c_uint8()
        packet = b""
        for frame in samples.reshape(-1, 80):
            data = np.ascontiguousarray(frame, np.int16).ctypes.data_as(ctypes.c_void_p)
            self._library.bcg729Encoder(self._channel, data, out, ctypes.byref(length))
            packet += bytes(out[: length.value])
        return packet


def encoder(name: str) -> Callable[[Samples], bytes]:
    """Raises OSError where there is none."""
    if name == "G729":
        return G729().encode
    make = CODECS[name].make_encoder
    assert make is not None
    return make().encode


@dataclass(frozen=True)
class Press:
    """A key, as telephone-events in place of audio."""

    digit: str
    at: float
    "Seconds of the stream; a multiple of PTIME."
    seconds: float


@dataclass(frozen=True)
class Addressed:
    """Where a leg listens, with which payload types."""

    codec: str
    payload_type: int
    event: int
    remote: tuple[str, int]


def packets(samples: Samples, to: Addressed, presses: list[Press]) -> list[tuple[float, bytes]]:
    """(when it leaves, datagram) of a stream of 8 kHz audio."""
    codec, encode = CODECS[to.codec], encoder(to.codec)
    audio = resample(samples, 8000, codec.sample_rate_hz)
    n, units = round(codec.sample_rate_hz * PTIME), round(codec.clock_rate_hz * PTIME)
    chance = random.Random(to.codec)
    ssrc, sequence, timestamp = chance.getrandbits(32), chance.getrandbits(15), chance.getrandbits(31)
    found: list[tuple[float, bytes]] = []

    def add(payload: bytes, kind: int, at: int, *, marker: bool) -> None:
        nonlocal sequence
        sequence = (sequence + 1) & 0xFFFF
        data = rtp_packet(
            payload, payload_type=kind, sequence=sequence, timestamp=(timestamp + at * units) & 0xFFFFFFFF,
            ssrc=ssrc, marker=marker,
        )  # fmt: skip
        found.append(((frame + 1) * PTIME, data))

    for frame in range(len(audio) // n):
        payload = encode(audio[frame * n : (frame + 1) * n])
        press = next((p for p in presses if p.at <= frame * PTIME + 1e-6 < p.at + p.seconds), None)
        if press is None:
            add(payload, to.payload_type, frame, marker=frame == 0)
            continue
        first, last = round(press.at / PTIME), round((press.at + press.seconds) / PTIME) - 1
        is_end = frame == last
        event = TelephoneEvent(DIGITS.index(press.digit), is_end, -10, (frame - first + 1) * units)
        for _ in range(END_REPEATS if is_end else 1):
            add(event.build(), to.event, first, marker=frame == first)
    return found


async def send(stream: list[tuple[float, bytes]], to: Addressed, start: float) -> None:
    """At its times; stream time 0 is monotonic `start`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for due, data in stream:
            await asyncio.sleep(max(start + due - monotonic(), 0.0))
            sock.sendto(data, to.remote)
