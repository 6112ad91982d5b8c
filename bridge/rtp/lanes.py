"""What is expected next of every leg, in arrays, so that the ordinary packet of all legs is dealt with in one go.

A *lane* is a row of these arrays. `Receiver` is the whole truth about one leg's packets and keeps that truth here;
the media plane's batch path takes a packet itself only when it is exactly the expected one, and leaves all others to
the receiver. Both move the same numbers, so which of the two took a packet makes no difference.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FLOOR_BUCKETS = 8  # s: how far back the least delayed packet is looked for
VERSION_2 = 0x80000000
MARKER = 0x00800000
Rows = NDArray[np.int64]


class Lanes:
    """Arrays of `capacity` rows. Times are monotonic seconds, positions are 1/8000 s of received audio."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.is_plain = np.zeros(capacity, bool)
        "The next packet needs no receiver if it is the expected one: nothing waited for, nothing in doubt."
        self.first_word = np.zeros(capacity, np.int64)
        "First 32 bits of the expected header, marker bit clear: version, payload type, sequence number."
        self.timestamp = np.zeros(capacity, np.int64)
        self.ssrc = np.zeros(capacity, np.int64)
        self.units = np.zeros(capacity, np.int64)
        "That the expected packet lasts, as the last one did: of the RTP clock."
        self.length = np.zeros(capacity, np.int64)
        "The same in positions."
        self.cycles = np.zeros(capacity, np.int64)
        "Wraps of the sequence number (RFC 3550 A.1)."
        self.first_sequence = np.zeros(capacity, np.int64)
        "Of the present stream."
        self.received = np.zeros(capacity, np.int64)
        "Packets taken."
        self.received_before = np.zeros(capacity, np.int64)
        "Of them, before the present stream began."
        self.last_arrival = np.zeros(capacity)
        self.position = np.zeros(capacity, np.int64)
        self.shift = np.zeros(capacity)
        """Seconds between position and the sender's clock: grows by every stretch that was not received.
        Capture time of a position = origin + position / 8000 + shift."""
        self.offset = np.zeros(capacity)
        "Of the last packet: arrival - duration - position / 8000 - shift."
        self.origin = np.full(capacity, np.nan)
        "Least offset of the last seconds: the packet that met the least delay tells when the stream was captured."
        self.floor = np.full((capacity, FLOOR_BUCKETS), np.inf)
        self.jitter = np.zeros(capacity)
        "Interarrival jitter in seconds (RFC 3550 A.8)."
        self._bucket = 0
        self._bucket_end = 0.0

    def clear(self, row: int) -> None:
        """A fresh lane for a new leg."""
        for array in (
            self.is_plain,
            self.first_word,
            self.first_sequence,
            self.received_before,
            self.timestamp,
            self.ssrc,
            self.units,
            self.length,
            self.cycles,
            self.received,
            self.last_arrival,
            self.position,
            self.shift,
            self.offset,
            self.jitter,
        ):
            array[row] = 0
        self.origin[row] = np.nan
        self.floor[row] = np.inf

    def advance(self, now: float) -> bool:
        """Once per tick: starts a new bucket of the sliding minimum each second. True: it did."""
        if now < self._bucket_end:
            return False
        self._bucket_end = now + 1.0
        self._bucket = (self._bucket + 1) % FLOOR_BUCKETS
        self.floor[:, self._bucket] = np.inf
        least = self.floor.min(axis=1)
        self.origin = np.where(np.isfinite(least), least, self.origin)
        return True

    def note_offsets(self, rows: Rows, offsets: NDArray[np.float64]) -> None:
        """Arrival statistics of one packet for each of these distinct rows."""
        self.jitter[rows] += (np.abs(offsets - self.offset[rows]) - self.jitter[rows]) / 16
        self.offset[rows] = offsets
        bucket = self.floor[:, self._bucket]
        bucket[rows] = np.minimum(bucket[rows], offsets)
        self.origin[rows] = np.fmin(self.origin[rows], offsets)

    def note_offset(self, row: int, offset: float) -> None:
        """The same for a single packet."""
        self.jitter[row] += (abs(offset - self.offset[row]) - self.jitter[row]) / 16
        self.offset[row] = offset
        self.floor[row, self._bucket] = min(self.floor[row, self._bucket], offset)
        if not self.origin[row] <= offset:  # also where the origin is not known yet
            self.origin[row] = offset

    def anchor(self, row: int, offset: float) -> None:
        """Forgets what was known of the stream's clock: `offset` is its origin from now on."""
        self.floor[row] = np.inf
        self.floor[row, self._bucket] = offset
        self.origin[row] = self.offset[row] = offset
