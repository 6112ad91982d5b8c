"""What the legs of the load say: one-minute tapes of real speech, line noise, hold music and mute, as frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.caller.audio import compose, resample
from bridge.emulator import recordings
from rtpcodecs.contract import Codec

RATE_HZ = 8000
TAPE_SECONDS = 60.0
LINE_NOISE_RMS = 12  # of 32768: about -69 dBFS, a quiet line
MIX = "60 s loop: turns of speech on both legs, 10 s of inline hold music on the agent's leg while the caller is muted"
HOLD_AT, HOLD_SECONDS = 30.0, 10.0


@dataclass(frozen=True, slots=True)
class Tape:
    """Encoded frames of one leg. Row n of `payloads` holds frame n, of which the first `sizes[n]` bytes count."""

    payloads: NDArray[np.uint8]
    sizes: NDArray[np.int64]


def build(codec: Codec, *, ptime_ms: int = 20, n_pairs: int = 4) -> list[Tape]:
    """`n_pairs` different conversations: tape 2n is a caller, 2n + 1 its agent."""
    return [encode(leg, codec, ptime_ms) for pair in range(n_pairs) for leg in conversation(pair)]


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
