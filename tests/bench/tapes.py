"""What the legs of the load say: one-minute tapes of real speech, line noise, hold music and mute, as frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from bridge.caller.audio import compose, resample
from bridge.emulator import recordings
from bridge.rtp.srtp import SrtpKeys, SrtpSender
from rtpcodecs.contract import Codec

RATE_HZ = 8000
TAPE_SECONDS = 60.0
LINE_NOISE_RMS = 12  # of 32768: about -69 dBFS, a quiet line
MIX = "60 s loop: turns of speech on both legs, 10 s of inline hold music on the agent's leg while the caller is muted"
HOLD_AT, HOLD_SECONDS = 30.0, 10.0
SPOKEN_RMS = 300  # of 32768: above it for 0.2 s before and behind, a frame lies within speech and far from any pause
SPOKEN_AROUND = 10  # frames of 20 ms
MARK_EVERY = 50  # frames: not more than one mark a second, they are clicks
SRTP_KEYS = SrtpKeys("AES_CM_128_HMAC_SHA1_80", bytes(range(30)))
SRTP_SSRC = 0x0CA11B1D


@dataclass(frozen=True, slots=True)
class Tape:
    """Encoded frames of one leg. Row n of `payloads` holds frame n, of which the first `sizes[n]` bytes count."""

    payloads: NDArray[np.uint8]
    sizes: NDArray[np.int64]
    marks: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    "Frames that may carry the generator's time mark: within speech, where a gate neither opens nor closes. Or empty."
    is_whole: bool = False
    "The rows are packets with their headers, to be sent in this order and once."


def build(codec: Codec, *, ptime_ms: int = 20, n_pairs: int = 4) -> list[Tape]:
    """`n_pairs` different conversations: tape 2n is a caller, 2n + 1 its agent."""
    return [
        replace(encode(leg, codec, ptime_ms), marks=marks(leg)) for pair in range(n_pairs) for leg in conversation(pair)
    ]


def conversation(seed: int) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Caller and agent in turn, with pauses of 0.4 to 1.4 s, around a hold."""
    library = recordings.load()
    random = np.random.default_rng(seed)
    callers = [r.samples for r in library.recordings if r.name.startswith("caller-")]
    agents = [r.samples for r in library.recordings if r.name.startswith("agent-")]
    parts: tuple[list[tuple[float, NDArray[np.int16]]], ...] = ([], [])
    at, turn = 0.3, seed
    while at < TAPE_SECONDS:
        side = turn % 2
        said = (callers, agents)[side][int(random.integers(len((callers, agents)[side])))]
        end = at + len(said) / RATE_HZ
        if end > HOLD_AT and at < HOLD_AT + HOLD_SECONDS:
            at = HOLD_AT + HOLD_SECONDS
            continue
        if end > TAPE_SECONDS:
            break
        parts[side].append((at, said))
        at, turn = end + float(random.uniform(0.4, 1.4)), turn + 1
    n_hold = round(HOLD_SECONDS * RATE_HZ)
    parts[1].append((HOLD_AT, np.resize(library.music[0].samples, n_hold)))
    legs = []
    for side in (0, 1):
        noise = random.normal(0, LINE_NOISE_RMS, round(TAPE_SECONDS * RATE_HZ)).astype(np.int16)
        leg = compose([(0.0, noise), *parts[side]], rate_hz=RATE_HZ)[: len(noise)]
        if side == 0:
            leg[round(HOLD_AT * RATE_HZ) :][:n_hold] = 0
        legs.append(leg)
    return legs[0], legs[1]


def encode(samples: NDArray[np.int16], codec: Codec, ptime_ms: int) -> Tape:
    """Frames of `ptime_ms`, encoded once."""
    if codec.make_encoder is None:
        raise ValueError(f"{codec.name} cannot be encoded here")
    encoder = codec.make_encoder()
    audio = resample(samples, RATE_HZ, codec.sample_rate_hz)
    n = codec.sample_rate_hz * ptime_ms // 1000
    frames = [encoder.encode(audio[at : at + n]) for at in range(0, len(audio) - n + 1, n)]
    sizes = np.array([len(frame) for frame in frames], np.int64)
    payloads = np.zeros((len(frames), int(sizes.max())), np.uint8)
    for row, frame in zip(payloads, frames, strict=True):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    return Tape(payloads, sizes)


def marks(samples: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Frames of 20 ms that may carry a mark: in the middle of 0.4 s of speech, a second apart, not in the hold."""
    n = RATE_HZ // 50
    level = samples[: len(samples) // n * n].reshape(-1, n).astype(float)
    spoken = np.sqrt((level**2).mean(axis=1)) > SPOKEN_RMS
    spoken[round(HOLD_AT * 50) : round((HOLD_AT + HOLD_SECONDS) * 50)] = False
    window = 2 * SPOKEN_AROUND + 1
    dense = np.convolve(spoken, np.ones(window), "same") > window - 0.5
    chosen, last = np.zeros(len(dense), bool), -MARK_EVERY
    for at in np.flatnonzero(dense):
        if at - last >= MARK_EVERY:
            chosen[at], last = True, int(at)
    return chosen


def protect(tape: Tape, *, frames: int, payload_type: int, frame_units: int) -> Tape:
    """`frames` packets of the tape, over and over, as SRTP. Every leg may send them, under one key and one SSRC, which
    no phone may do, and which costs the receiver the same."""
    sender = SrtpSender(SRTP_KEYS)
    packets = []
    for n in range(frames):
        row = n % len(tape.sizes)
        header = struct.pack("!BBHII", 0x80, payload_type, n + 1 & 0xFFFF, n * frame_units & 0xFFFFFFFF, SRTP_SSRC)
        packets.append(sender.protect(header + tape.payloads[row, : tape.sizes[row]].tobytes()))
    sizes = np.array([len(packet) for packet in packets], np.int64)
    rows = np.zeros((frames, int(sizes.max())), np.uint8)
    for row_, packet in zip(rows, packets, strict=True):
        row_[: len(packet)] = np.frombuffer(packet, np.uint8)
    return Tape(rows, sizes, is_whole=True)
