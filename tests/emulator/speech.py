"""Material: the bundled recordings on their way through what a telephone network and a gate do to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bridge.emulator.matching import MatchingRecogniser, index_of
from bridge.emulator.recogniser import HeardWord
from bridge.emulator.recordings import Library, Recording, load
from rtpcodecs.g711 import ALAW_TO_LINEAR, ULAW_TO_LINEAR, linear_to_alaw, linear_to_ulaw

RATE_HZ = 8000
Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Spoken:
    """A word that really is in the audio: sample positions."""

    text: str
    start: int
    end: int


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE_HZ), dtype=np.int16)


def line(*parts: Recording | Samples | float) -> tuple[Samples, list[Spoken]]:
    """Recordings, samples and seconds of silence in a row, and the words in it."""
    pieces: list[Samples] = []
    spoken: list[Spoken] = []
    at = 0
    for part in parts:
        if isinstance(part, Recording):
            spoken += [Spoken(w.text, at + round(w.start * RATE_HZ), at + round(w.end * RATE_HZ)) for w in part.words]
        samples = part.samples if isinstance(part, Recording) else silence(part) if isinstance(part, float) else part
        pieces.append(samples)
        at += len(samples)
    return np.concatenate(pieces), spoken


def conversation(library: Library | None = None) -> tuple[Samples, list[Spoken]]:
    """All recordings with pauses of 0.4 to 1.1 s between them."""
    rng = np.random.default_rng(7)
    parts: list[Recording | Samples | float] = []
    for recording in (library or load()).recordings:
        parts += [float(rng.uniform(0.4, 1.1)), recording]
    return line(*parts, 1.0)


def encode(samples: Samples) -> bytes:
    """As PCMU."""
    return linear_to_ulaw(samples).tobytes()


def through_g711(samples: Samples, *, alaw: bool = False) -> Samples:
    return ALAW_TO_LINEAR[linear_to_alaw(samples)] if alaw else ULAW_TO_LINEAR[linear_to_ulaw(samples)]


def lossy(samples: Samples, share: float, *, seed: int) -> tuple[Samples, npt.NDArray[np.bool_]]:
    """20 ms packets lost at random and concealed by fading repetition; also which samples are real."""
    rng = np.random.default_rng(seed)
    out, real = samples.copy(), np.ones(len(samples), dtype=bool)
    for at in range(160, len(out) - 160, 160):
        if rng.random() < share:
            out[at : at + 160] = out[at - 160 : at] // 2
            real[at : at + 160] = False
    return out, real


def cut(samples: Samples, spoken: list[Spoken], *, gaps: int, seed: int) -> tuple[Samples, list[Spoken], list[Spoken]]:
    """Stretches of 0.2-2 s taken out anywhere; the words that are whole, and those that lost a part, where they are."""
    rng = np.random.default_rng(seed)
    keep = np.ones(len(samples), dtype=bool)
    for _ in range(gaps):
        at = int(rng.integers(0, len(samples) - 16000))
        keep[at : at + int(rng.integers(1600, 16000))] = False
    place = np.cumsum(keep) - 1
    moved = [Spoken(w.text, int(place[w.start]), int(place[w.end - 1]) + 1) for w in spoken]
    whole = [m for w, m in zip(spoken, moved, strict=True) if keep[w.start : w.end].all()]
    part = [m for w, m in zip(spoken, moved, strict=True) if 0 < keep[w.start : w.end].sum() < w.end - w.start]
    return samples[keep], whole, part


def hear(samples: Samples, *, chunk: int = 800, library: Library | None = None) -> list[HeardWord]:
    """What the matching recogniser finds, fed in chunks and flushed at the end."""
    ear = MatchingRecogniser(index_of(library or load()))
    heard: list[HeardWord] = []
    for at in range(0, len(samples), chunk):
        heard += ear.push(samples[at : at + chunk])
    return heard + ear.flush()


def pair(heard: list[HeardWord], spoken: list[Spoken], *, within: float) -> tuple[list[Spoken], list[HeardWord]]:
    """(words not heard, words heard that nobody spoke there); `within` seconds of their true start."""
    left = list(heard)
    missed = []
    for word in spoken:
        match = next((h for h in left if h.text == word.text and abs(h.start - word.start / RATE_HZ) <= within), None)
        if match is None:
            missed.append(word)
        else:
            left.remove(match)
    return missed, left
