from __future__ import annotations

import pytest

from bridge.garbage import COLLECT_AFTER, COLLECT_AT_LATEST, COLLECT_EVERY, Garbage


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    times: list[float] = []
    monkeypatch.setattr("bridge.garbage.gc.collect", lambda: times.append(1))
    return times


def test_a_process_that_is_always_busy_collects_its_garbage_after_so_many_calls(collected: list[float]) -> None:
    garbage = Garbage()
    garbage.collect_if_due(1.0, busy=1.0)
    for _ in range(COLLECT_AFTER):
        garbage.call_over()
    garbage.collect_if_due(2.0, busy=1.0)
    garbage.collect_if_due(3.0, busy=1.0)
    assert len(collected) == 1


def test_a_quiet_process_collects_once_a_minute_and_a_busy_one_after_half_an_hour(collected: list[float]) -> None:
    garbage = Garbage()
    for now in (COLLECT_EVERY, COLLECT_EVERY + 1, COLLECT_EVERY + 2):
        garbage.collect_if_due(now, busy=0.0)
    assert len(collected) == 1
    for now in (3 * COLLECT_EVERY, COLLECT_EVERY + COLLECT_AT_LATEST + 2):
        garbage.collect_if_due(now, busy=1.0)
    assert len(collected) == 2
