"""What ears and gate cost: microseconds of one core per second of one leg's audio, by batch.

The frames themselves are kept by whoever has them anyhow, here the mix, in a call the media plane.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from bridge.config import GateSettings
from bridge.gate.ears import FRAME, Ears
from bridge.gate.gate import Gates
from bridge.gate.silero import Rows

BATCHES = (1, 32, 128, 512)
FRAMES, FRAMES_ALONE = 200, 4000
REPEATS = 5  # of the same ticks; of each the least is taken: others' load on a core's caches and clock only adds


def measure(sounds: list[NDArray[np.int16]]) -> dict[str, float]:
    """The folder's own mix: leg n plays the concatenation of all items from a place of its own."""
    mix = np.concatenate(sounds)
    frames = mix[: len(mix) // FRAME * FRAME].reshape(-1, FRAME)
    if not len(frames):
        return {}
    return {str(batch): round(one_batch(frames, batch), 1) for batch in BATCHES}


def one_batch(frames: NDArray[np.int16], batch: int) -> float:
    """Mean CPU time of a tick, as microseconds per leg and second of audio."""
    spent = np.min([one_run(frames, batch) for _ in range(REPEATS)], axis=0)
    return float(np.mean(spent)) / batch * 1e6 / (FRAME / 8000)


def one_run(frames: NDArray[np.int16], batch: int) -> list[float]:
    """CPU seconds of each tick; the same in every run but for what disturbs it."""
    place = np.linspace(0, len(frames) - 1, batch, endpoint=False).astype(int) if batch > 1 else np.zeros(1, int)

    def earlier(rows: Rows, n: int) -> NDArray[np.int16]:
        age = np.arange(n - 1, -1, -1)[:, None]
        return frames[(place[rows] - age) % len(frames)]

    ears, gates = Ears(batch, earlier), Gates(batch)
    for row in range(batch):
        gates.open_leg(row, GateSettings(), 0)
    rows, spent = np.arange(batch), []
    for n in range(FRAMES if batch > 1 else FRAMES_ALONE):
        now = frames[place % len(frames)]
        before = time.thread_time()
        gates.hear(ears.hear(rows, now), np.full(batch, (n + 1) * FRAME))
        spent.append(time.thread_time() - before)
        place += 1
    return spent
