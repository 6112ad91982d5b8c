"""The calls of the flow tests. All are placed at once against one service; each is judged by tests of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bridge.caller.audio import Samples, compose
from bridge.caller.options import CallOptions, LegAudio
from bridge.caller.rtp_schedule import Faults, Mute, MuteKind
from bridge.demo.scene import SpokenWord
from bridge.emulator import recordings
from bridge.emulator.recordings import RATE_HZ

LINE_NOISE_RMS = 10  # of 32768
TAIL = 0.5  # s of line noise behind the last line
LIBRARY = recordings.load()
Lines = tuple[tuple[float, str], ...]
WRONG, WEASELS, NOT_ANSWERING, THANKS = (
    "caller-terribly-wrong", "caller-weasels", "caller-not-answering", "caller-thank-you",
)  # fmt: skip


@dataclass(frozen=True)
class Scenario:
    """A call and the lines that must be heard of it, by role."""

    options: CallOptions
    heard: dict[str, Lines]

    def words(self, role: str = "caller") -> list[SpokenWord]:
        return [SpokenWord(w.printed, at + w.start, at + w.end) for at, n in self.heard[role] for w in LIBRARY[n].words]


def leg(role: str, lines: Lines, *, cut_at: float = 0.0, **options: Any) -> LegAudio:
    """Lines over a quiet line's noise; `cut_at` hangs up there."""
    length = cut_at or max(at + LIBRARY[name].seconds + TAIL for at, name in lines)
    n_samples = round(length * RATE_HZ)
    noise = np.random.default_rng(len(lines)).normal(0, LINE_NOISE_RMS, n_samples).astype(np.int16)
    parts: list[tuple[float, Samples]] = [(0.0, noise), *((at, LIBRARY[name].samples) for at, name in lines)]
    return LegAudio(role, compose(parts, rate_hz=RATE_HZ)[:n_samples], RATE_HZ, **options)


def plain(lines: Lines, *, mutes: tuple[Mute, ...] = (), cut_at: float = 0.0, **options: Any) -> Scenario:
    """A plain call: one leg."""
    return Scenario(CallOptions("", (leg("caller", lines, mutes=mutes, cut_at=cut_at),), **options), {"caller": lines})


TWO: Lines = ((0.5, WRONG), (4.5, WEASELS))
APART: Lines = ((0.5, WRONG), (8.0, WEASELS))
PAUSE = (3.7, 7.6)
"Between the two lines of APART."
LONG_HOLD = (3.4, 23.4)
"Twenty seconds: longer than any provider waits for a sign of life."
END_OF_WEASELS = 0.5 + LIBRARY[WEASELS].words[-1].end


def muted(how: MuteKind) -> Scenario:
    return plain(APART, mutes=(Mute(*PAUSE, how),))


def _recorded() -> Scenario:
    """Two parties and a long hold, in which both go on talking."""
    caller = leg("caller", ((0.5, WRONG), (10.0, WEASELS), (24.0, NOT_ANSWERING), (28.6, THANKS)))
    agent = leg("agent", ((4.0, "agent-not-understood"), (26.4, "agent-patience")))
    legs = tuple(replace(audio, hold_music=audio.samples) for audio in (caller, agent))
    heard: dict[str, Lines] = {
        "caller": ((0.5, WRONG), (24.0, NOT_ANSWERING), (28.6, THANKS)), "agent": ((26.4, "agent-patience"),),
    }  # fmt: skip
    return Scenario(CallOptions("", legs, siprec=True, holds=(LONG_HOLD,)), heard)


RECORDED = "recorded, with a long hold"
SCENARIOS: dict[str, Scenario] = {
    "plain": plain(TWO),
    "over tcp": plain(TWO),
    "in pcma": plain(TWO, codec="PCMA"),
    "in g722": plain(TWO, codec="G722"),
    "in opus": plain(TWO, codec="OPUS"),
    "in packets of 40 ms": plain(TWO, ptime_ms=40),
    "with a delay that shrinks at first": plain(TWO, faults=Faults(late_start=(0.4, 2.0))),
    "with loss, jitter and reordering": plain(TWO, faults=Faults(seed=4, loss=0.05, jitter_ms=30, reorder=0.02)),
    "with duplicates": plain(TWO, faults=Faults(seed=2, duplicate=0.3)),
    "with another ssrc": plain(TWO, faults=Faults(ssrc_changes=(4.0,))),
    "with a timestamp jump": plain(TWO, faults=Faults(timestamp_jumps=((4.0, 800_000),))),
    "muted by digital silence": muted("silence"),
    "muted by no rtp": muted("stop"),
    "muted by comfort noise": muted("comfort_noise"),
    "held": plain(APART, holds=(PAUSE,)),
    "held by sendonly": plain(APART, holds=(PAUSE,), hold_form="sendonly"),
    "held by c=0.0.0.0": plain(APART, holds=(PAUSE,), hold_form="zero"),
    "held with a frozen clock": plain(APART, holds=(PAUSE,), faults=Faults(frozen_clock=True)),
    "held from the start": plain(((5.0, WEASELS),), holds=((0.0, 4.6),)),
    "hung up on the last word": plain(((0.5, WEASELS),), cut_at=END_OF_WEASELS + 0.02),
    RECORDED: _recorded(),
}
