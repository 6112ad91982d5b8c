"""Audio whose call time turns out to have been told too late: words are told by what is known when they come."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from bridge.model import Word
from bridge.stt.events import Finalized
from bridge.stt.marks import Marks
from bridge.stt.utterances import Utterances
from tests.stt.rig import Network, Rig, speech

PROVIDERS = ["deepgram", "soniox", "vosk"]
LATE = 0.3  # s
WORDS = speech(1.0, 11.0, 1) + speech(14.0, 18.0, 50)
SPANS = [(0.6, 11.6), (13.6, 18.6)]


class LateRig(Rig):
    """Audio of `since` or later is handed over as of `LATE` too late, until `known_at`."""

    known_at = inf
    since = -inf

    def tick(self, start: float) -> None:
        if abs(start - self.known_at) < 1e-6:
            self.leg.retime(LATE, self.since)
        super().tick(start)

    def told_time(self, start: float) -> float:
        """What the plane believes."""
        return start + LATE if self.since <= start < self.known_at else start


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("faults", [{}, {"drops": [1.8]}, {"drops": [2.6]}, {"down": (0.0, 5.0), "refuse_status": 0}])
def test_words_that_are_not_told_yet_are_told_at_their_time(provider: str, faults: dict[str, Any]) -> None:
    rig = LateRig([provider], WORDS, SPANS, network=Network(**faults))
    rig.known_at = 2.0
    rig.run(20.0)
    rig.assert_every_word_once()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_replay_doubles_no_word_that_was_told_by_the_old_times(provider: str) -> None:
    rig = LateRig([provider], WORDS, SPANS, network=Network(drops=[5.1]))
    rig.known_at = 5.0
    rig.run(20.0)
    rig.assert_every_word_once(within=LATE + 0.02)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_lies_before_the_leap_of_a_clock_stays_where_it_was(provider: str) -> None:
    rig = LateRig([provider], WORDS, SPANS, network=Network(downlink=3.0))
    rig.since, rig.known_at = 13.0, 15.0
    rig.run(20.0)
    rig.assert_every_word_once()


def test_a_word_heard_again_is_known_by_its_better_time() -> None:
    utterances = Utterances()
    utterances.publish([Word("early", 1.0, 1.2, 1.0), Word("late", 4.3, 4.6, 1.0)])
    utterances.retime(LATE, 3.0)
    again = [Word("early", 1.0, 1.2, 1.0), Word("late", 4.0, 4.3, 1.0), Word("new", 4.4, 4.6, 1.0)]
    assert utterances.without_repeats(again) == (again[2],)


def test_a_flush_is_answered_for_by_the_better_time() -> None:
    marks = Marks()
    marks.add(8_000, 1.0)
    marks.add(32_000, 4.3)
    marks.retime(LATE, 3.0)
    marks.settled(32_000)
    assert marks.take_events() == [Finalized(1.0), Finalized(pytest.approx(4.0))]
