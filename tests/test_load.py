from __future__ import annotations

import pytest

from bridge.load import Load

TICK = 0.02


def after(load: Load, *, seconds: float, cpu: float, late: float = 0.0) -> Load:
    for _ in range(round(seconds / TICK)):
        load.note(cpu=cpu * TICK, wall=TICK, late=late)
    return load


@pytest.mark.parametrize(("share", "is_too_much"), [(0.9, False), (0.98, True)])
def test_what_the_thread_spends_decides(share: float, is_too_much: bool) -> None:
    assert after(Load(), seconds=10, cpu=share).is_too_much is is_too_much


def test_one_long_tick_refuses_nobody() -> None:
    load = after(Load(), seconds=10, cpu=0.5)
    load.note(cpu=0.2, wall=0.2, late=0.0)
    load.note(cpu=0.02, wall=0.02, late=0.9)
    assert not load.is_too_much


def test_ticks_that_are_always_late_refuse_calls_though_the_thread_spends_little() -> None:
    assert not after(Load(), seconds=10, cpu=0.3, late=0.04).is_too_much
    assert after(Load(), seconds=10, cpu=0.3, late=0.06).is_too_much


def test_it_recovers_within_seconds() -> None:
    load = after(Load(), seconds=10, cpu=1.0, late=0.3)
    assert not after(load, seconds=3, cpu=0.5).is_too_much
