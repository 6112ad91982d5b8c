"""The tick goes on, whatever a part of it does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time

import pytest

from bridge.load import Load
from bridge.tick import Tick
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


async def test_ticks_longer_than_their_period_leave_the_loop_turns_for_what_else_there_is(
    house: House,
) -> None:
    turns_before: list[int] = []
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    def read(_: float) -> None:
        turns_before.append(turns)
        time.sleep(0.004)

    loop = asyncio.get_running_loop()
    loop.call_soon(turn)
    wiring = dataclasses.replace(house.wiring, now=time.monotonic)
    ticking = Tick(wiring, house.timers, load=Load(), readers=[read], each_second=lambda _: None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            await ticking.run(0.002)
    assert len(turns_before) > 10
    assert min(after - before for before, after in itertools.pairwise(turns_before)) >= 4
