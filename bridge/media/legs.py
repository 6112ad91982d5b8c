"""Who is in which row: what both directions of the plane work on."""

from __future__ import annotations

from math import inf

import numpy as np

from bridge.errors import CapacityError
from bridge.media.history import History
from bridge.media.outputs import Failure, Output, Retimed
from bridge.media.track import Track
from bridge.model import POSITION_HZ, AudioFormat
from bridge.rtp.lanes import Lanes

RETIMED = 0.0005  # s; what a clock is earlier by is not worth telling below, and is more than it drifts in a second


class Legs:
    """Rows 0 to `capacity` - 1. Positions are in 1/8000 s of a leg's received audio."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.lanes = Lanes(capacity)
        self.tracks: list[Track | None] = [None] * capacity
        self.histories: dict[tuple[int, int], History] = {}
        "By rate in Hz and bytes per sample."
        self.is_live = np.zeros(capacity, bool)
        self.is_settled = np.ones(capacity, bool)
        "Whether it is known when the leg's audio was captured: see `Settling`."
        self.origin = np.full(capacity, np.nan)
        "Of each row's clock (`Lanes.origin`), as the outputs so far tell times by it."
        self.heard_to = np.zeros(capacity, np.int64)
        "Position up to which each row was heard, a multiple of the detectors' frame."
        self.sent_to = np.zeros(capacity, np.int64)
        "Position up to which each row's audio has left, or never will."
        self.outputs: list[Output] = []
        "What the plane answers next."
        self._free = list(range(capacity - 1, -1, -1))

    def open(self, audio: AudioFormat, now: float) -> Track:
        """A row for a new leg. Raises CapacityError."""
        if not self._free:
            raise CapacityError("no free leg")
        row = self._free.pop()
        self.lanes.clear(row)
        self.lanes.last_arrival[row] = now
        self.heard_to[row] = self.sent_to[row] = 0
        self.origin[row] = np.nan
        track = self.tracks[row] = Track(row, history=self._history(audio), audio=audio)
        self.is_live[row] = True
        return track

    def _history(self, audio: AudioFormat) -> History:
        key = (audio.rate_hz, audio.bytes_per_sample)
        if key not in self.histories:
            dtype = np.int16 if audio.bytes_per_sample == 2 else np.uint8
            self.histories[key] = History(self.capacity, rate_hz=audio.rate_hz, dtype=dtype)
        return self.histories[key]

    def stop(self, row: int) -> None:
        """Nothing comes in any more."""
        self.is_live[row] = self.lanes.is_plain[row] = False

    def fail(self, row: int, error: Exception) -> None:
        """A bug met this leg: it is left alone from now on."""
        self.stop(row)
        self.outputs.append(Failure(row, error))

    def free(self, row: int) -> None:
        """Whatever is still to be answered for the row is forgotten with it."""
        self.stop(row)
        self.take_outputs_of(row)
        self.tracks[row] = None
        self._free.append(row)

    def track(self, row: int) -> Track:
        """Of a row that is in use."""
        track = self.tracks[row]
        assert track is not None, f"row {row} holds no leg"
        return track

    def capture_time(self, row: int, position: int) -> float:
        """Monotonic time at which the audio at `position` was captured; NaN before any audio came."""
        return float(self.origin[row]) + position / POSITION_HZ + self.track(row).shift_at(position)

    def learn_clocks(self, *, is_new_second: bool = False) -> None:
        """Has times told by what the lanes know by now. A clock that turns out to be earlier tells that what was told
        by it was late: all since it last leapt. What it drifts in a second was right when it was told."""
        known, origin = self.origin, self.lanes.origin
        learnt = np.flatnonzero((known - origin > RETIMED) | np.isnan(known))
        for row, by in zip(learnt.tolist(), (known[learnt] - origin[learnt]).tolist(), strict=True):
            if by == by and self.is_live[row]:
                self.outputs.append(Retimed(row, by, self._leapt_at(row)))
        known[learnt] = origin[learnt]
        if is_new_second:
            np.copyto(known, origin)

    def _leapt_at(self, row: int) -> float:
        """When the row's clock leapt, in the midst of what was not received there: what was told as of the first audio
        behind it was told by the clock of that time, which has drifted since."""
        track = self.track(row)
        at = track.leapt_at
        return self.capture_time(row, at) - max(track.leap, 0.0) / 2 if at else -inf

    def take_outputs(self) -> list[Output]:
        """All that was to be answered."""
        outputs, self.outputs = self.outputs, []
        return outputs

    def take_outputs_of(self, row: int) -> list[Output]:
        """What was to be answered for one leg."""
        mine = [output for output in self.outputs if output.row == row]
        if mine:
            self.outputs = [output for output in self.outputs if output.row != row]
        return mine
