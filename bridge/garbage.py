"""When the interpreter collects garbage: at moments of our choosing, because a collection stops every call.

A full collection takes 100 ms at a thousand legs, and the interpreter would run one every few seconds. What a call
leaves behind is freed by reference counts but for a few cycles; those wait for a quiet moment, but not for ever: a
process that is always busy would grow.
"""

from __future__ import annotations

import gc

THRESHOLDS = (2_000, 1_000_000, 1_000_000)  # objects: only the youngest, often, in 0.5 ms; full ones are ours
COLLECT_EVERY = 60.0  # s between full garbage collections when there is little to do
COLLECT_AT_LATEST = 1800.0  # s
COLLECT_AFTER = 2000  # calls: each still leaves a few small objects in cycles, and a process may always be busy
COLLECT_BELOW = 0.25  # share of the core: about 200 legs, a collection of some 20 ms


def freeze() -> None:
    """Once, when everything that lives as long as the process is made: the collector never looks at that again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


class Garbage:
    """Decides when the next full collection is due, and runs it. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._collected_at = 0.0
        self._calls_over = 0
        "Since then."

    def call_over(self) -> None:
        """A call has left its cycles behind."""
        self._calls_over += 1

    def collect_if_due(self, now: float, *, busy: float) -> None:
        """`busy` is the share of its core that the process spends."""
        waited = now - self._collected_at
        is_overdue = waited > COLLECT_AT_LATEST or self._calls_over >= COLLECT_AFTER
        if is_overdue or (waited > COLLECT_EVERY and busy < COLLECT_BELOW):
            self._collected_at, self._calls_over = now, 0
            gc.collect()
