"""A batch of datagrams as the sockets hand it to the plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DATAGRAM_BYTES = 2048  # longer than any Ethernet datagram; longer ones are cut by the kernel and dropped by us


@dataclass(slots=True)
class Arrivals:
    """Datagrams 0..n-1; each leg's row occurs at most once per kind (RTP, RTCP)."""

    data: NDArray[np.uint8]
    "[at least n, DATAGRAM_BYTES]; valid until the next batch is read."
    rows: list[int]
    lengths: list[int]
    times: list[float]
    "Monotonic seconds at which the kernel got each."
    sources: list[tuple[str, int]]
    rtcp: list[int]
    "Indices that came in on an RTCP port."

    def heads(self) -> dict[int, float]:
        """When the RTP of each row arrived: nothing of that row which arrived earlier is still to be read."""
        rtcp = frozenset(self.rtcp)
        return {row: at for n, (row, at) in enumerate(zip(self.rows, self.times, strict=True)) if n not in rtcp}
