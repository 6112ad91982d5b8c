"""Phones by others, with something to say: what each says, what must be heard of it, and how its call is judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.caller.audio import compose, resample
from bridge.demo.verdict import Event
from bridge.emulator import recordings

LIBRARY = recordings.load()
RATE_HZ = recordings.RATE_HZ
HEARD = ((1.2, "caller-terribly-wrong"), (7.5, "caller-weasels"), (14.6, "caller-not-answering"))
WITHHELD = ((5.3, "caller-thank-you"), (12.7, "caller-thank-you"))
"Said into the mute and into the hold."
MUTE, HOLD = (4.2, 7.2), (12.1, 14.2)
"The hold begins when the gate has closed for silence, so that its own time can be told."
HANG_UP = 17.0
SCRIPT = ((MUTE[0], "mute"), (MUTE[1], "unmute"), (HOLD[0], "hold"), (HOLD[1], "resume"), (HANG_UP, "hangup"))
LINE_NOISE_RMS = 10  # of 32768: a microphone is never digitally silent


def speech(rate_hz: int) -> NDArray[np.int16]:
    """All of it on one timeline."""
    n_samples = round((HANG_UP + 2) * RATE_HZ)
    noise = np.random.default_rng(5).normal(0, LINE_NOISE_RMS, n_samples).astype(np.int16)
    lines = [(at, LIBRARY[name].samples) for at, name in (*HEARD, *WITHHELD)]
    return resample(compose([(0.0, noise), *lines], rate_hz=RATE_HZ), RATE_HZ, rate_hz)


def truth() -> list[tuple[str, float, float]]:
    """Every word that must be heard, in the time of the phone's file."""
    return [(w.text, at + w.start, at + w.end) for at, name in HEARD for w in LIBRARY[name].words]


@dataclass
class Phoned:
    """What a phone's call left: its events, and when the phone did what, in call time."""

    events: list[Event]
    did: dict[str, float] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    "What a pjsua2 caller said of itself."

    def words(self) -> list[tuple[str, float, float]]:
        """As heard, in call time."""
        finals = [e for e in self.events if e.type == "transcript.final"]
        words = [w for e in finals for w in e.data["words"]]
        return [(str(w[0]).lower().strip(".,;:!?"), float(w[1]), float(w[2])) for w in words]

    def closed(self, cause: str) -> list[tuple[float, float]]:
        """Each time the gate stood closed for `cause`: from when to when."""
        gates = [e.data for e in self.events if e.type == "leg.gate"]
        spans = zip(gates, [*gates[1:], {"since": float("inf")}], strict=True)
        return [(g["since"], after["since"]) for g, after in spans if g.get("cause") == cause]

    def ledger(self) -> dict[str, Any]:
        """The one leg's."""
        (ledger,) = self.events[-1].data["legs"].values()
        return dict(ledger)
