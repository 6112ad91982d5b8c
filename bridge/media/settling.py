"""When audio was captured is known by the packet that met the least delay. The first packets of a stream may all have
met more of it: queued behind a door that opened late, they come in one burst. Until that is over, nothing of the stream
is heard or sent; it would be heard as of a time up to seconds late."""

from __future__ import annotations

import numpy as np

from bridge.media.legs import Legs

STEADY = 0.01  # s; what falls by less between two ticks is jitter
SETTLED_AFTER = 0.06  # s without a fall: three packets that agree
SETTLED_ANYHOW = 0.5  # s from the first packet


class Settling:
    """Sets `legs.is_settled`. Times are monotonic, as those of arrivals."""

    def __init__(self, legs: Legs) -> None:
        self._legs = legs
        self._began = np.zeros(legs.capacity)
        self._steady_since = np.zeros(legs.capacity)
        self._origin = np.zeros(legs.capacity)

    def begin(self, row: int) -> None:
        """A new leg, of which nothing has come."""
        self._legs.is_settled[row] = False
        self._origin[row] = np.nan

    def tick(self, now: float) -> None:
        """After the passes of `push`; `now` not later than what they have brought."""
        legs = self._legs
        rows = np.flatnonzero(legs.is_live & ~legs.is_settled)
        if not rows.size:
            return
        origin, before = legs.lanes.origin[rows], self._origin[rows]
        self._began[rows[np.isnan(before)]] = now
        self._steady_since[rows[~(origin > before - STEADY)]] = now  # also where either is not known yet
        self._origin[rows] = origin
        steady, running = now - self._steady_since[rows], now - self._began[rows]
        legs.is_settled[rows] = (steady >= SETTLED_AFTER) | (running >= SETTLED_ANYHOW)
