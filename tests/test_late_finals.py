"""A provider that takes its time over the answer to a Finalize: its words belong to the turn that they end."""

from __future__ import annotations

import pytest

from bridge.gate.turns import TurnEnded, Turns
from bridge.stt.events import Final, Finalized
from tests.stt.rig import Network, Rig, Spoken

WORDS = [Spoken(1, 1.0, 1.3), Spoken(2, 1.4, 1.7)]
SPEECH = (1.0, 1.7)
CLOSES = 2.36  # s of call time: the gate's hangover after the speech; Finalize


def turns_of(rig: Rig) -> tuple[list[str], list[TurnEnded]]:
    """The turn of each final, and the turns that ended, as the leg would have them."""
    turns, finals = Turns(turn_end=0.8, wait=3.0, zero=rig.origin), list[str]()
    turns.begins(SPEECH[0], rig.origin + SPEECH[0])
    turns.speech(*SPEECH, rig.origin + SPEECH[1])
    for now, event in rig.events:
        turns.handle_timer(now)
        if isinstance(event, Final):
            finals.append(turns.final(event.text, event.start, event.end, now))
        elif isinstance(event, Finalized):
            turns.finalized(event.through, now)
    turns.handle_timer(rig.now)
    return finals, turns.take_events()


def call(provider: str, downlink: float, *, answers_flush: bool = True) -> Rig:
    rig = Rig([provider], WORDS, [(0.6, CLOSES)], network=Network(downlink=downlink))

    def keep_silent() -> None:
        for peer in rig.peers.values():
            peer.answers_flush = answers_flush

    rig.at(rig.origin + 0.9, keep_silent)
    rig.run(CLOSES + 4.0)
    return rig


@pytest.mark.parametrize("provider", ["deepgram", "soniox"])
@pytest.mark.parametrize("downlink", [0.3, 1.9, 2.2, 2.6])
def test_a_final_within_the_wait_ends_the_turn_that_it_was_spoken_in(provider: str, downlink: float) -> None:
    rig = call(provider, downlink)
    finals, told = turns_of(rig)
    assert set(finals) == {"t1"}
    assert [turn.text for turn in told] == ["w1 w2"]


def test_a_flush_that_is_not_answered_ends_the_turn_whose_words_were_told_before_it() -> None:
    """Deepgram's endpoint has closed the segment in the silence behind the words, and it has nothing to add."""
    rig = call("deepgram", 0.3, answers_flush=False)
    (told,) = [event.through for now, event in rig.events if isinstance(event, Finalized) and now < rig.origin + 5.0]
    assert SPEECH[1] + 0.3 <= told < CLOSES  # as far as it has said anything


def test_a_flush_that_is_answered_too_late_is_told_when_it_is() -> None:
    rig = call("deepgram", 2.6)
    told = [(now - rig.origin, event.through) for now, event in rig.events if isinstance(event, Finalized)]
    assert told == [(pytest.approx(CLOSES + 2.6, abs=0.1), pytest.approx(CLOSES))]
