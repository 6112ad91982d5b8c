"""The tick goes on, whatever a part of it does."""

from __future__ import annotations

import pytest

from tests.test_last_words import House, house, spoken_to

__all__ = ["house"]  # the fixture


def test_reports_that_fail_do_not_stop_the_tick_of_every_call(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: float) -> None:
        raise OverflowError("port must be 0-65535")

    line = spoken_to(house)
    monkeypatch.setattr(house.wiring.reports, "run", fail)
    house.run(0.1)
    line.say("still here", house.now)
    assert house.types()[-3:] == ["transcript.final", "turn.ended", "call.ended"]
