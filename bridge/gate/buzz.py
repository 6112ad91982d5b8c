"""Buzzing: what the network takes for a voice and a machine makes, over and over.

The radio bursts of a mobile or a cordless telephone beside the line (217 and 100 Hz), a telephone that rings without a
sound, an alarm: each period is the one before, to the sample. No voice's is: its pitch has moved by a percent or more
within a tenth of a second, which puts its upper partials out of step.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bridge.gate import thresholds as at
from bridge.gate.ears import FRAME, Heard
from bridge.model import POSITION_HZ

SPAN = 704  # samples in which the frame is looked for
HEARD = SPAN + at.REPEAT_LEAST_MS * POSITION_HZ // 1000  # samples that are looked at, the newest frame included
REPEAT_FRAMES = -(-(HEARD + 1) // FRAME)  # that `repeats` asks for
LEAST = 1.0  # so that silence has a share; samples are as they come


class Buzzes:
    """In which rows what sounds like speech is a machine's. Row by row: few are asked about, and seldom."""

    def __init__(self) -> None:
        self._left: dict[int, int] = {}  # of rows that buzzed: frames that must not repeat before a voice is believed

    def reset(self, row: int) -> None:
        """A new leg."""
        self._left.pop(row, None)

    def is_buzzing(self, heard: Heard, n: int) -> bool:
        """The n-th of the heard is taken for speech: is it a machine's, or a note? Asked only where the network is not
        sure, within music, or when it buzzed the last time: asking takes 20 us and more."""
        row, speech = int(heard.rows[n]), float(heard.speech[n])
        left = self._left.get(row, 0)
        is_sure = speech >= at.REPEAT_SPEECH and not (left or heard.music[n] or heard.tone[n])
        if speech <= at.SPEECH_ON or is_sure:
            return False
        if repeats(heard.earlier(heard.rows[n : n + 1], REPEAT_FRAMES).ravel()) > at.REPEATS:
            left = at.REPEAT_HOLD_FRAMES
        else:
            left = max(left - 1, 0)
        self._left[row] = left
        return left > 0


def repeats(samples: NDArray[np.int16]) -> float:
    """How nearly (0 to 1) the newest frame is what sounded 20 to 76 ms before, at the lag that fits best. `samples`:
    a leg's last REPEAT_FRAMES frames in a row."""
    samples = samples[-HEARD - 1 :].astype(np.float32)
    sound = samples[1:] - samples[:-1]  # else a voice's lowest partials, which move the least, would tell
    newest, before = sound[-FRAME:], sound[:SPAN]
    products = np.correlate(before, newest)  # by the dot product: in half the time of the transforms
    loudest = int(products.argmax())
    energy = float(newest.dot(newest)) + LEAST
    there = before[loudest : loudest + FRAME]
    share = float(products[loudest]) / math.sqrt((float(there.dot(there)) + LEAST) * energy)
    if share < at.REPEATS_PERHAPS:  # so it is with most voices, and the other lags need not be scaled
        return share
    power = np.zeros(SPAN + 1)
    np.cumsum(before * before, out=power[1:])
    shares = products / np.sqrt((power[FRAME:] - power[:-FRAME] + LEAST) * energy)
    return float(shares.max())
