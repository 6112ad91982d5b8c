"""What the legs and calls of a process wait for: a time, or that everything which has arrived is read. Sans-IO; the
tick asks what is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import NamedTuple, Protocol


class Timed(Protocol):
    """Something with a deadline."""

    def handle_timer(self, now: float) -> None: ...


class _Reader(NamedTuple):
    """Somebody who waits until something is read."""

    at: float
    "Arrival of what is to be read first."
    row: int
    then: Callable[[float], None]


class Timers:
    """`now` answers monotonic seconds. What was armed cannot be disarmed: whoever no longer waits ignores the call."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._heap: list[tuple[float, int, Timed]] = []
        self._armed = 0
        "So far: first armed, first served, where two are due at the same time."
        self._after_read: list[_Reader] = []

    def arm(self, target: Timed, at: float) -> None:
        """Has `handle_timer` of `target` called in the first tick after `at`."""
        self._armed += 1
        heapq.heappush(self._heap, (at, self._armed, target))

    def after_read(self, then: Callable[[float], None], *, row: int = -1, at: float | None = None) -> None:
        """Has `then` called, with `now`, once everything is read that has arrived by `at` (now): in `row` of the plane,
        or in all. A time to come is not waited for; only what came before it is read first, if it is read now."""
        self._after_read.append(_Reader(self._now() if at is None else at, row, then))

    def take_due(self, now: float) -> Iterator[Timed]:
        """What is due, earliest first, with what is armed for a time that has passed while this goes on."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def take_read(self, heads: Callable[[], Mapping[int, float]] = dict) -> list[Callable[[float], None]]:
        """Whoever waits for no more than what is read. `heads`: by row, when the next arrived that is not read."""
        if not self._after_read:
            return []
        unread = heads()
        first = min(unread.values(), default=inf)
        waiting, self._after_read = self._after_read, []
        due: list[Callable[[float], None]] = []
        for each in waiting:
            if each.at <= (first if each.row < 0 else unread.get(each.row, inf)):
                due.append(each.then)
            else:
                self._after_read.append(each)
        return due
