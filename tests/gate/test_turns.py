"""Turns: what ends one, when it is told, and to which a final belongs. `now` is call time here."""

from __future__ import annotations

import math

import pytest

from bridge.gate.turns import TurnEnded, Turns
from bridge.model import Cause


def turns() -> Turns:
    return Turns(turn_end=0.8, wait=3.0)


def told(subject: Turns, now: float) -> list[TurnEnded]:
    subject.handle_timer(now)
    return subject.take_events()


def test_a_turn_ends_after_its_silence_when_its_final_came_first() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.speech(1.0, 3.0, 3.65)
    name = subject.final("good morning", 1.1, 2.9, 3.7)
    subject.finalized(3.0, 3.7)
    assert subject.deadline() == pytest.approx(3.8)
    assert told(subject, 3.79) == []
    assert told(subject, 3.8) == [TurnEnded(name, "good morning", 1.1, 2.9, "silence", 700)]
    assert subject.deadline() is None


def test_a_turn_waits_for_its_last_final() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.speech(1.0, 3.0, 3.65)
    assert subject.deadline() == pytest.approx(6.8)
    subject.final("good", 1.1, 1.5, 4.0)
    assert told(subject, 4.0) == []
    subject.final("morning", 1.6, 2.9, 4.2)
    subject.finalized(3.0, 4.2)
    assert [turn.text for turn in subject.take_events()] == ["good morning"]


def test_a_turn_waits_for_its_final_only_so_long_and_a_later_final_has_a_turn_of_its_own() -> None:
    subject = turns()
    subject.speech(1.0, 3.0, 3.65)
    first = subject.final("good", 1.1, 1.5, 3.7)
    assert [turn.turn for turn in told(subject, 6.8)] == [first]
    second = subject.final("morning", 1.6, 2.9, 7.0)
    assert second != first
    assert [(turn.turn, turn.text) for turn in subject.take_events()] == [(second, "morning")]


def test_a_turn_that_was_told_too_late_ends_by_the_better_time() -> None:
    subject = turns()
    subject.begins(1.3, 1.4)
    subject.speech(1.3, 3.3, 3.65)
    subject.retime(0.3, -math.inf, 3.66)
    name = subject.final("good morning", 1.1, 2.9, 3.7)
    subject.finalized(3.0, 3.7)
    assert subject.deadline() == pytest.approx(3.8)
    assert told(subject, 3.8) == [TurnEnded(name, "good morning", 1.1, 2.9, "silence", 700)]


def test_a_turn_of_before_a_clock_leapt_stays_where_it_was() -> None:
    subject = turns()
    subject.speech(1.0, 3.0, 3.65)
    subject.retime(0.3, 3.5, 3.66)
    assert subject.deadline() == pytest.approx(6.8)


def test_a_hesitation_does_not_split_a_turn_though_it_was_finalized() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.speech(1.0, 2.0, 2.65)
    first = subject.final("well", 1.1, 1.9, 2.7)
    subject.finalized(2.0, 2.7)
    subject.begins(2.72, 2.75)
    assert told(subject, 3.5) == []
    subject.speech(2.72, 4.0, 4.65)
    assert subject.final("yes", 2.8, 3.9, 4.7) == first
    subject.finalized(4.0, 4.7)
    assert [turn.text for turn in told(subject, 4.8)] == ["well yes"]


def test_speech_that_goes_on_is_not_ended_by_finals_of_its_beginning() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.final("a long", 1.0, 2.0, 2.2)
    assert subject.deadline() is None
    assert told(subject, 20.0) == []


def test_a_final_that_comes_after_the_next_turn_began_goes_to_the_turn_it_was_spoken_in() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.speech(1.0, 2.0, 2.65)
    subject.begins(3.5, 3.6)
    early = subject.final("first", 1.1, 1.9, 3.9)
    late = subject.final("second", 3.5, 3.8, 4.0)
    assert early != late
    subject.finalized(2.0, 4.0)
    assert [turn.text for turn in subject.take_events()] == ["first"]


@pytest.mark.parametrize(
    ("cause", "reason"), [(Cause.HOLD, "hold"), (Cause.MUTE, "mute"), (Cause.MUSIC, "music"), (Cause.PAUSED, "hold")]
)
def test_hold_mute_and_music_end_a_turn_at_once(cause: Cause, reason: str) -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.closed(cause, 2.0, 2.0)
    subject.final("wait", 1.1, 1.9, 2.2)
    subject.finalized(2.0, 2.3)
    assert [(turn.text, turn.reason) for turn in subject.take_events()] == [("wait", reason)]


def test_closing_for_silence_or_opening_ends_nothing() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.closed(None, 1.0, 1.1)
    subject.speech(1.0, 2.0, 2.65)
    subject.final("yes", 1.0, 2.0, 2.7)
    subject.closed(Cause.SILENCE, 2.65, 2.7)
    assert subject.take_events() == []


def test_another_leg_taking_over_ends_a_silent_turn_at_once() -> None:
    subject = turns()
    subject.speech(1.0, 2.0, 2.1)
    subject.final("yes", 1.0, 2.0, 2.3)
    subject.other_speaks(2.4)
    assert [(turn.reason, turn.latency_ms) for turn in subject.take_events()] == [("interrupted", 300)]


def test_who_stops_just_after_another_began_was_interrupted_and_who_speaks_on_was_not() -> None:
    yielding, insisting = turns(), turns()
    for subject in (yielding, insisting):
        subject.begins(1.0, 1.1)
        subject.final("I think", 1.1, 2.0, 2.0)
        subject.other_speaks(2.0)
        assert subject.take_events() == []
    yielding.speech(1.0, 2.0, 2.65)
    assert [turn.reason for turn in yielding.take_events()] == ["interrupted"]
    insisting.speech(1.0, 4.0, 4.65)
    assert insisting.take_events() == []


def test_hangup_in_the_middle_of_speech_ends_the_turn_with_its_last_words() -> None:
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.hang_up(2.0)
    subject.final("good bye", 1.1, 1.9, 2.3)
    assert subject.take_events() == []
    subject.finalized(math.inf, 2.4)
    assert [(turn.text, turn.reason) for turn in subject.take_events()] == [("good bye", "hangup")]


def test_a_turn_that_was_over_before_the_hangup_ended_by_silence() -> None:
    subject = turns()
    subject.speech(1.0, 2.0, 2.65)
    subject.final("yes", 1.0, 1.9, 2.7)
    subject.hang_up(4.0)
    subject.finalized(math.inf, 4.1)
    assert [turn.reason for turn in subject.take_events()] == ["silence"]


def test_speech_in_which_nothing_was_recognised_is_no_turn() -> None:
    subject = turns()
    subject.speech(1.0, 1.3, 2.0)
    subject.finalized(1.3, 2.1)
    assert told(subject, 10.0) == []
    assert subject.deadline() is None


def test_a_final_where_nothing_was_heard_makes_a_turn_that_ends_by_its_own_silence() -> None:
    subject = turns()
    name = subject.final("hm", 1.0, 1.4, 1.6)
    assert told(subject, 2.1) == []
    assert [turn.turn for turn in told(subject, 2.2)] == [name]


def test_times_are_call_time_whatever_the_clock_says() -> None:
    subject = Turns(turn_end=0.8, wait=3.0, zero=1000.0)
    subject.begins(1.0, 1001.1)
    subject.speech(1.0, 3.0, 1003.65)
    subject.final("yes", 1.0, 3.0, 1003.7)
    assert subject.deadline() == pytest.approx(1003.8)
    assert [turn.latency_ms for turn in told(subject, 1003.8)] == [700]


def test_another_turn_end_holds_for_the_turn_that_runs() -> None:
    subject = Turns(turn_end=2.0, wait=3.0)
    subject.begins(1.0, 1.0)
    subject.speech(1.0, 2.0, 2.1)
    subject.final("hello", 1.0, 2.0, 2.2)
    subject.finalized(2.0, 2.2)
    assert subject.deadline() == pytest.approx(4.0)
    subject.adjust(turn_end=0.5, now=2.3)
    assert subject.deadline() == pytest.approx(2.5)
    subject.adjust(turn_end=0.25, now=2.4)
    assert [turn.text for turn in subject.take_events()] == ["hello"]


def silent() -> tuple[Turns, str]:
    """A turn whose speech ended at 3.0 and whose last final is there: due at 3.8."""
    subject = turns()
    subject.begins(1.0, 1.1)
    subject.speech(1.0, 3.0, 3.65)
    name = subject.final("good", 1.1, 2.9, 3.7)
    subject.finalized(3.0, 3.7)
    return subject, name


def test_a_turn_is_not_told_while_what_may_be_its_next_word_stirs() -> None:
    subject, name = silent()
    subject.stirs(3.77)
    assert told(subject, 3.8) == []
    subject.begins(3.72, 3.84)
    assert told(subject, 4.5) == []
    subject.speech(3.72, 4.4, 5.0)
    assert subject.final("morning", 3.8, 4.3, 5.1) == name
    subject.finalized(4.4, 5.1)
    assert [turn.text for turn in told(subject, 5.2)] == ["good morning"]


def test_what_stirred_and_became_no_word_holds_a_turn_up_for_a_moment_only() -> None:
    subject, _ = silent()
    subject.stirs(3.77)
    assert subject.deadline() == pytest.approx(3.92)
    assert [turn.reason for turn in told(subject, 3.92)] == ["silence"]


def test_what_stirred_well_before_the_turn_was_due_does_not_hold_it_up() -> None:
    subject, _ = silent()
    subject.stirs(3.7)
    assert subject.deadline() == pytest.approx(3.85)
    subject, _ = silent()
    subject.stirs(3.64)
    assert subject.deadline() == pytest.approx(3.8)


def test_what_stirs_on_and_on_holds_a_turn_up_for_six_tenths_of_a_second() -> None:
    subject, _ = silent()
    for n in range(20):
        subject.stirs(3.75 + n * 0.032)
    assert subject.take_events() == []
    assert subject.deadline() == pytest.approx(4.4)
    subject.stirs(4.41)
    assert len(subject.take_events()) == 1


def test_no_stir_holds_a_turn_up_for_longer_than_its_wait() -> None:
    subject = Turns(turn_end=0.8, wait=0.0)
    subject.speech(1.0, 3.0, 3.65)
    subject.final("good", 1.1, 2.9, 3.7)
    subject.stirs(3.77)
    assert len(told(subject, 3.8)) == 1


def test_a_turn_that_something_else_ends_while_it_is_held_up_is_told_at_once() -> None:
    for end in (
        lambda subject: subject.other_speaks(3.85),
        lambda subject: subject.closed(Cause.HOLD, 3.85, 3.85),
        lambda subject: subject.hang_up(3.85),
    ):
        subject, _ = silent()
        subject.stirs(3.78)
        end(subject)
        assert [turn.reason for turn in subject.take_events()] == ["silence"]


def test_a_new_turn_does_not_hold_up_the_one_before() -> None:
    subject, name = silent()
    subject.stirs(3.79)
    subject.begins(3.9, 3.92)
    assert [turn.turn for turn in told(subject, 3.92)] == [name]


def test_a_turn_whose_finals_are_late_does_not_go_on_in_speech_that_came_when_it_was_over() -> None:
    subject = turns()
    subject.begins(1.5, 1.6)
    subject.speech(1.5, 3.2, 3.9)
    subject.begins(3.5, 4.8)  # the voice is at 4.6; the audio that is sent begins where the gate had closed
    first = subject.final("one", 1.5, 3.0, 5.9)
    subject.finalized(3.5, 5.9)
    assert subject.take_events() == [TurnEnded(first, "one", 1.5, 3.0, "silence", 2700)]
    second = subject.final("two", 4.7, 7.9, 8.6)
    assert second != first
    subject.speech(3.5, 8.6, 9.3)
    subject.finalized(8.9, 11.3)
    assert [(turn.turn, turn.text) for turn in subject.take_events()] == [(second, "two")]


def test_speech_that_is_heard_a_moment_late_goes_on_with_a_turn_that_waits_for_its_finals() -> None:
    subject = turns()
    subject.begins(1.5, 1.6)
    subject.speech(1.5, 3.2, 3.9)
    subject.begins(3.8, 4.2)
    assert subject.final("one", 1.5, 3.0, 4.5) == subject.final("two", 4.0, 5.0, 5.5)
