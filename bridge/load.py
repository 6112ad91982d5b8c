"""How much this process can still take on: what admission goes by. Sans-IO."""

from __future__ import annotations

BUSY_LIMIT = 0.95  # of a core; where that leaves too little, ticks are late, and the next limit holds
LATE_LIMIT = 0.05  # s by which ticks are late on average, and words with them: the core is not ours alone
WEIGHT = 0.02  # of one tick in the averages: 50 ticks, about a second


class Load:
    """Averages over about a second. Shares are of one core: one process is one thread's worth of work."""

    def __init__(self) -> None:
        self.busy = 0.0
        "Share of a core that the loop's thread spends."
        self.late = 0.0
        "Seconds by which ticks begin late."

    def note(self, *, cpu: float, wall: float, late: float) -> None:
        """One tick: seconds of CPU that the thread has spent since the last one, seconds that have passed since, and
        by how many this one is late. CPU rather than the tick's duration: a neighbour's work is not ours, and what the
        loop does between ticks is."""
        self.busy += WEIGHT * (min(cpu / wall, 1.0) - self.busy) if wall > 0 else 0.0
        self.late += WEIGHT * (late - self.late)

    @property
    def is_too_much(self) -> bool:
        """Another call would be paid for by those that run."""
        return self.busy >= BUSY_LIMIT or self.late >= LATE_LIMIT
