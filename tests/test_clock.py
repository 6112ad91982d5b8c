"""Clocks, read together."""

from __future__ import annotations

import time

import pytest

from bridge.clock import unix_offset


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
