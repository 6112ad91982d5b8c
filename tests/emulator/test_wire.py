from __future__ import annotations

from bridge.emulator.wire import Close, Schedule, SendText, Throttle


def test_outputs_are_taken_when_they_are_due_and_in_that_order() -> None:
    schedule = Schedule()
    late, soon = SendText({"n": 1}), SendText({"n": 2})
    schedule.put(late, 10.0, delay=2.0)
    schedule.put(soon, 10.5)
    assert schedule.deadline() == 10.5
    assert schedule.take(11.0) == [soon]
    assert schedule.take(12.0) == [late]
    assert schedule.deadline() is None


def test_what_is_put_behind_all_never_overtakes() -> None:
    schedule = Schedule()
    schedule.put(SendText({"n": 1}), 10.0, delay=2.0)
    schedule.put(Close(1000), 10.0, behind_all=True)
    assert schedule.take(11.9) == []
    assert schedule.take(12.0) == [SendText({"n": 1}), Close(1000)]


def test_live_audio_never_waits_and_a_backlog_is_read_at_the_factor() -> None:
    throttle = Throttle(1.25)
    for n in range(100):
        now = n * 0.1
        assert throttle.ready_at() <= now
        throttle.spend(0.1, now)
    throttle.spend(10.0, 20.0)  # ten seconds at once
    assert throttle.ready_at() == 20.0 + 10.0 / 1.25 - Throttle.SLACK


def test_a_throttle_of_zero_reads_as_fast_as_it_comes() -> None:
    throttle = Throttle(0)
    throttle.spend(1000.0, 0.0)
    assert throttle.ready_at() < 0
