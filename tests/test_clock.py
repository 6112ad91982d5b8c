"""Clocks, read together."""

from __future__ import annotations

import time

import pytest

from bridge.clock import StampClock, unix_offset


class Clocks:
    """Unix time 1000 s ahead of the monotonic clock, and pauses that fall between two readings."""

    def __init__(self, *pauses: float) -> None:
        self._pauses = [*pauses]
        self.now = 5.0

    def _pass(self) -> None:
        self.now += 1e-7 + (self._pauses.pop(0) if self._pauses else 0.0)

    def monotonic(self) -> float:
        at = self.now
        self._pass()
        return at

    def unix_ns(self) -> int:
        at = self.now + 1000.0
        self._pass()
        return round(at * 1e9)


@pytest.mark.parametrize("pauses", [(0.05,), (0.0, 0.05), (0.05, 0.0, 0.0, 0.03), (0.01, 0.01, 0.0, 0.02, 0.02)])
def test_a_pause_between_two_readings_is_no_part_of_the_offset(pauses: tuple[float, ...]) -> None:
    clocks = Clocks(*pauses)
    assert unix_offset(clocks.unix_ns, clocks.monotonic) == pytest.approx(1000.0, abs=1e-5)


def test_where_every_reading_is_interrupted_the_least_interrupted_one_counts() -> None:
    clocks = Clocks(0.05, 0.0, 0.0, 0.03, 0.0, 0.0, 0.004, 0.0, 0.0, 0.02, 0.0, 0.0)
    assert unix_offset(clocks.unix_ns, clocks.monotonic) == pytest.approx(1000.0, abs=0.003)


def test_the_real_clocks_agree_with_their_offset() -> None:
    assert time.monotonic() + unix_offset() == pytest.approx(time.time_ns() / 1e9, abs=0.5)


@pytest.mark.parametrize("step", [3600.0, 1.0, 0.1, -0.1, -1.0])
def test_what_waited_while_the_wall_clock_stepped_came_when_it_came(step: float) -> None:
    offsets = [1000.0, 1000.0 + step, 1000.0 + step]
    stamps = StampClock(lambda: offsets.pop(0))
    stamps.begin()
    assert stamps.has_stepped
    before, after = 1049.985 - stamps.offset, 1049.995 + step - stamps.offset  # came at 49.985 and at 49.995
    assert stamps.corrected(before, 50.0) == pytest.approx(49.985)
    assert stamps.corrected(after, 50.0) == pytest.approx(49.995)
    stamps.end()
    stamps.begin()
    assert not stamps.has_stepped
    assert stamps.corrected(49.9, 50.0) == 49.9


@pytest.mark.parametrize("step", [0.012, -0.012])
def test_a_step_smaller_than_what_was_waited_makes_nothing_seem_earlier_nor_in_the_future(step: float) -> None:
    offsets = [1000.0, 1000.0 + step]
    stamps = StampClock(lambda: offsets.pop(0))
    stamps.begin()
    for came, stamp in ((49.982, 1049.982), (49.985, 1049.985 + step)):
        assert came - 1e-9 <= stamps.corrected(stamp - stamps.offset, 50.0) <= 50.0


def test_clocks_that_are_slewed_have_not_stepped() -> None:
    offsets = [1000.0, 1000.0005, 1000.001]
    stamps = StampClock(lambda: offsets.pop(0))
    stamps.begin()
    stamps.begin()
    assert (stamps.has_stepped, stamps.offset) == (False, 1000.001)
