from __future__ import annotations

import itertools

import numpy as np
import pytest

from bridge.demo import scene as scenes
from bridge.emulator import recordings

LIBRARY = recordings.load()
SCENE = scenes.build(LIBRARY)
RATE_HZ = recordings.RATE_HZ


def test_the_demo_takes_less_than_a_minute() -> None:
    assert SCENE.seconds < 55


def test_every_line_stands_clear_of_the_others_of_its_leg_and_of_every_border() -> None:
    for role in ("caller", "agent"):
        spans = [(at, at + LIBRARY[name].seconds) for at, name in scenes.LINES if name.startswith(role)]
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
        for border in (*scenes.HOLD, *(scenes.MUTE if role == "caller" else scenes.INLINE_MUSIC)):
            assert not any(start < border < end for start, end in spans), (role, border)


def test_what_is_said_on_hold_or_muted_is_forbidden_and_all_else_expected() -> None:
    n_words = sum(len(LIBRARY[name].words) for _, name in scenes.LINES)
    expected = sum(len(words) for words in SCENE.expected.values())
    forbidden = sum(len(words) for words in SCENE.forbidden.values())
    assert expected + forbidden == n_words
    assert forbidden > 0
    assert all(scenes.HOLD[0] < w.start < scenes.MUTE[1] for w in SCENE.forbidden["caller"])


def test_the_caller_goes_on_talking_into_the_hold() -> None:
    caller = SCENE.legs[0]
    assert caller.hold_music is caller.samples
    on_hold = caller.samples[round(scenes.HOLD[0] * RATE_HZ) : round(scenes.HOLD[1] * RATE_HZ)]
    assert np.abs(on_hold.astype(int)).max() > 3000


def test_a_word_stands_where_its_sound_is() -> None:
    """A recording's own words, moved by the time at which it is said."""
    at, name = scenes.LINES[1]
    first = next(w for w in SCENE.expected["caller"])
    assert first.start == pytest.approx(at + LIBRARY[name].words[0].start)
    start = round(at * RATE_HZ)
    said = SCENE.legs[0].samples[start : start + len(LIBRARY[name].samples)].astype(int)
    assert np.corrcoef(said, LIBRARY[name].samples.astype(int))[0, 1] > 0.99
