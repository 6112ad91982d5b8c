"""What was withheld and why: settled once no pre-roll can reach it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.media.history import HISTORY
from bridge.media.track import Withheld
from bridge.model import Cause

CAUSES = (Cause.HOLD, Cause.MUSIC, Cause.SILENCE)


@given(st.lists(st.tuples(st.integers(0, HISTORY), st.sampled_from(CAUSES)), min_size=1), st.integers(0, HISTORY))
def test_every_position_of_a_closed_gate_counts_for_the_cause_of_its_time_but_what_was_sent_after_all(
    steps: list[tuple[int, Cause]], preroll: int
) -> None:
    withheld, expected, at = Withheld(), dict.fromkeys(Cause, 0), 0
    stretches: list[tuple[int, int, Cause]] = []
    for length, cause in steps:
        withheld.closed(at, cause)
        stretches.append((at, at + length, cause))
        at += length
    opened = max(at - preroll, 0)
    withheld.opened(opened)
    for start, end, cause in stretches:
        expected[cause] += max(min(end, opened) - start, 0)
    assert withheld.until(at + 1) == expected


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(CAUSES)), min_size=1))
def test_what_is_told_of_an_earlier_position_overrides_what_was_told_of_later_ones(
    steps: list[tuple[int, Cause]],
) -> None:
    withheld, painted = Withheld(), [""] * 1001
    for position, cause in steps:
        withheld.closed(position, cause)
        painted[position:] = [cause] * (1001 - position)
    assert {cause: n for cause, n in withheld.until(1001).items() if n} == {
        cause: painted.count(cause) for cause in CAUSES if cause in painted
    }


def test_a_gate_whose_cause_changes_for_a_day_without_opening_remembers_a_few_seconds_of_it() -> None:
    withheld = Withheld()
    for n in range(86400):
        withheld.closed(n * 8000, CAUSES[n % 3])
    assert len(withheld._open_ended) < 10
    assert sum(withheld.until(86400 * 8000).values()) == 86400 * 8000
