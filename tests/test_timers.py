from __future__ import annotations

from math import inf

from bridge.timers import Timers


class Alarm:
    """`Timed` that notes when it rang."""

    def __init__(self) -> None:
        self.rang_at: list[float] = []

    def handle_timer(self, now: float) -> None:
        self.rang_at.append(now)


def test_what_is_due_comes_earliest_first_and_once() -> None:
    timers, early, late, far = Timers(lambda: 0.0), Alarm(), Alarm(), Alarm()
    timers.arm(late, 2.0)
    timers.arm(early, 1.0)
    timers.arm(far, 9.0)
    assert list(timers.take_due(2.0)) == [early, late]
    assert list(timers.take_due(8.9)) == []


def test_what_is_armed_for_the_past_while_others_are_served_is_served_with_them() -> None:
    timers, first, second = Timers(lambda: 0.0), Alarm(), Alarm()
    timers.arm(first, 1.0)
    served = []
    for alarm in timers.take_due(5.0):
        if alarm is first:
            timers.arm(second, 4.0)
        served.append(alarm)
    assert served == [first, second]


def test_whoever_waits_for_what_has_arrived_is_called_once_all_of_it_was_read() -> None:
    now = 1.0
    timers, called = Timers(lambda: now), []
    timers.after_read(called.append)
    now = 2.0
    timers.after_read(lambda at: called.append(-at))
    assert timers.take_read(lambda: {4: 0.9}) == []
    for then in timers.take_read(lambda: {4: 1.5, 7: inf}):
        then(1.5)
    assert called == [1.5]
    for then in timers.take_read():
        then(3.0)
    assert called == [1.5, -3.0]
    assert timers.take_read() == []


def test_who_waits_for_one_row_waits_for_no_other() -> None:
    timers, called = Timers(lambda: 5.0), []
    timers.after_read(called.append, row=4, at=1.0)
    assert timers.take_read(lambda: {4: 0.9, 7: 3.0}) == []
    assert timers.take_read(lambda: {4: 1.1, 7: 0.1}) == [called.append]


def test_a_time_to_come_is_not_waited_for_but_what_came_before_it_is_read_first() -> None:
    timers, called = Timers(lambda: 5.0), []
    timers.after_read(called.append, row=4, at=5.02)
    assert timers.take_read(lambda: {4: 5.01}) == []
    assert timers.take_read(lambda: {7: 5.01}) == [called.append]
