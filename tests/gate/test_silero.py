"""The carried network against what Silero's own file answers (recorded in silero_reference.json)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bridge.gate.silero import Silero
from tests.gate.sounds import frames_of, recording

REFERENCE = json.loads(Path(__file__).with_name("silero_reference.json").read_text())


@pytest.mark.parametrize("name", sorted(REFERENCE))
def test_the_rewritten_network_answers_what_the_published_one_does(name: str) -> None:
    silero = Silero(3)
    row = np.array([2])
    heard = [float(silero.speech(row, frame[None] / np.float32(32768))[0]) for frame in frames_of(recording(name))]
    np.testing.assert_allclose(heard, REFERENCE[name], atol=1e-4)


def test_legs_in_one_batch_do_not_hear_each_other() -> None:
    together, alone = Silero(8), Silero(8)
    first, second = (frames_of(recording(name)) / np.float32(32768) for name in ("caller-weasels", "agent-please-hold"))
    for n in range(100):
        both = together.speech(np.array([5, 1]), np.stack([first[n], second[n]]))
        assert both[1] == pytest.approx(alone.speech(np.array([1]), second[n][None])[0], abs=1e-5)


def test_no_rows_cost_no_run() -> None:
    assert Silero(1).speech(np.array([], np.intp), np.zeros((0, 256), np.float32)).size == 0


def test_frames_heard_afresh_together_are_answered_as_one_by_one() -> None:
    first, second = (frames_of(recording(name))[:49] / np.float32(32768) for name in ("caller-weasels", "hold-music"))
    begins = (0, 14)
    together = Silero(1).afresh(np.stack([first, second], axis=1).astype(np.float32), begins)
    for column, frames in enumerate((first, second)):
        for hearing, begin in zip(together, begins, strict=True):
            silero, row = Silero(1), np.array([0])
            silero.skip(row, frames[begin : begin + 1].astype(np.float32))
            alone = [float(silero.speech(row, frame[None].astype(np.float32))[0]) for frame in frames[begin + 1 :]]
            np.testing.assert_allclose(hearing[begin:, column], alone, atol=1e-4)
            assert not hearing[:begin].any()
