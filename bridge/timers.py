"""What the legs and calls of a process wait for: a time, or that everything which has arrived is read. Sans-IO; the
tick asks what is due."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Protocol


class Timed(Protocol):
    """Something with a deadline."""

    def handle_timer(self, now: float) -> None: ...


class Timers:
    """`now` answers monotonic seconds. What was armed cannot be disarmed: whoever no longer waits ignores the call."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._heap: list[tuple[float, int, Timed]] = []
        self._armed = 0
        "So far: first armed, first served, where two are due at the same time."
        self._after_read: list[tuple[float, Callable[[float], None]]] = []
        "Each with when it was asked for."

    def arm(self, target: Timed, at: float) -> None:
        """Has `handle_timer` of `target` called in the first tick after `at`."""
        self._armed += 1
        heapq.heappush(self._heap, (at, self._armed, target))

    def after_read(self, then: Callable[[float], None]) -> None:
        """Has `then` called, with `now`, once everything was read that has arrived by this moment."""
        self._after_read.append((self._now(), then))

    def take_due(self, now: float) -> Iterator[Timed]:
        """What is due, earliest first, with what is armed for a time that has passed while this goes on."""
        while self._heap and self._heap[0][0] <= now:
            yield heapq.heappop(self._heap)[2]

    def take_read(self, read_to: float) -> list[Callable[[float], None]]:
        """Whoever waits for no more than what is read: all that arrived before `read_to`."""
        waiting, self._after_read = self._after_read, []
        self._after_read = [each for each in waiting if each[0] > read_to]
        return [then for asked_at, then in waiting if asked_at <= read_to]
