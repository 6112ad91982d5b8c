"""The demo's call: who says what and when, what must be heard of it, and what must not. Pure data, in call time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bridge.caller.audio import compose
from bridge.caller.options import LegAudio
from bridge.caller.rtp_schedule import Mute
from bridge.emulator.recordings import RATE_HZ, Library

LINE_NOISE_RMS = 10  # of 32768: a quiet analogue line; digital silence would be a mute
AFTER_LAST_WORD = 0.15  # s until the hang-up: the last word is still on its way then

LINES: tuple[tuple[float, str], ...] = (
    (0.5, "agent-first-in-line"),
    (6.2, "caller-terribly-wrong"),
    (9.6, "agent-having-problems"),
    (11.9, "caller-weasels"),
    (15.8, "agent-please-hold"),
    (23.0, "caller-monkeys"),  # into the hold
    (31.2, "agent-patience"),
    (33.2, "caller-not-answering"),
    (36.4, "agent-not-understood"),
    (36.9, "caller-leader-left"),  # into the muted microphone
    (46.2, "agent-forwarded"),
    (49.6, "caller-thank-you"),
)
HOLD = (20.4, 30.6)
"Signalled: re-INVITE with a=inactive. Music plays on the agent's leg and the caller goes on talking all the same."
MUTE = (36.2, 40.4)
"The caller's phone sends digital silence."
INLINE_MUSIC = (40.2, 45.6)
"Hold music on the agent's leg that nobody signals: it has to be heard."


@dataclass(frozen=True, slots=True)
class SpokenWord:
    """A word as it must come out."""

    text: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """The legs to be sent and what each must give."""

    legs: tuple[LegAudio, ...]
    expected: dict[str, tuple[SpokenWord, ...]]
    "By role: every word outside of hold and mute."
    forbidden: dict[str, tuple[SpokenWord, ...]]
    "By role: words spoken into the hold or the mute; none of them may come out."
    seconds: float
    hold: tuple[float, float] = HOLD
    mute: tuple[float, float] = MUTE
    inline_music: tuple[float, float] = INLINE_MUSIC


def build(library: Library) -> Scene:
    """The scene from the bundled recordings."""
    seconds = max(at + library[name].seconds for at, name in LINES) + AFTER_LAST_WORD
    music = library.music[0].samples
    noise = np.random.default_rng(1)
    legs = []
    for role in ("caller", "agent"):
        parts: list[tuple[float, NDArray[np.int16]]] = [
            (at, library[name].samples) for at, name in LINES if _role(name) == role
        ]
        parts.append((0.0, noise.normal(0, LINE_NOISE_RMS, round(seconds * RATE_HZ)).astype(np.int16)))
        if role == "agent":
            start, end = INLINE_MUSIC
            parts.append((start, music[: round((end - start) * RATE_HZ)]))
        samples = compose(parts, rate_hz=RATE_HZ)[: round(seconds * RATE_HZ)]
        mutes = (Mute(*MUTE),) if role == "caller" else ()
        legs.append(LegAudio(role, samples, RATE_HZ, mutes, hold_music=music if role == "agent" else samples))
    return Scene(tuple(legs), _words(library, is_heard=True), _words(library, is_heard=False), seconds)


def _role(name: str) -> str:
    return name.partition("-")[0]


def _is_heard(at: float, name: str) -> bool:
    return not (HOLD[0] <= at < HOLD[1] or (_role(name) == "caller" and MUTE[0] <= at < MUTE[1]))


def _words(library: Library, *, is_heard: bool) -> dict[str, tuple[SpokenWord, ...]]:
    words: dict[str, list[SpokenWord]] = {"caller": [], "agent": []}
    for at, name in LINES:
        if _is_heard(at, name) == is_heard:
            words[_role(name)] += [SpokenWord(w.printed, at + w.start, at + w.end) for w in library[name].words]
    return {role: tuple(spoken) for role, spoken in words.items()}
