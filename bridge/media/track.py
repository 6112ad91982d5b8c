"""What one leg's media is: everything about it that is not an array of the plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.media.history import HISTORY, History
from bridge.media.outputs import Books
from bridge.model import POSITION_HZ, AudioFormat, Cause
from bridge.rtp.frames import Frame, PayloadType
from bridge.rtp.latch import Latch
from bridge.rtp.receiver import Receiver
from bridge.rtp.srtp import SrtpReceiver
from rtpcodecs.concealment import Concealment
from rtpcodecs.contract import Decoder, Samples
from rtpcodecs.g711 import ALAW_TO_LINEAR, ULAW_TO_LINEAR, linear_to_alaw, linear_to_ulaw

CONCEAL_FROM = POSITION_HZ // 20  # positions (50 ms) of good audio that a hole is filled from
COMPAND = {"mulaw": linear_to_ulaw, "alaw": linear_to_alaw}
EXPAND = {"mulaw": ULAW_TO_LINEAR, "alaw": ALAW_TO_LINEAR}


@dataclass(slots=True)
class Withheld:
    """Positions not sent, by cause. What may still be sent as pre-roll is not settled yet."""

    totals: dict[Cause, int] = field(default_factory=lambda: dict.fromkeys(Cause, 0))
    _open_ended: list[tuple[int, Cause]] = field(default_factory=list)

    def closed(self, position: int, cause: Cause) -> None:
        """From `position` on nothing is sent, because of `cause`, whatever was told of it before (a pause takes back
        what a hold was about to flush). What no pre-roll can reach any more is settled."""
        stretches = self._open_ended
        while stretches and stretches[-1][0] > position:
            stretches.pop()
        stretches.append((position, cause))
        while len(stretches) > 1 and stretches[1][0] <= position - HISTORY:
            start, settled = stretches.pop(0)
            self.totals[settled] += max(stretches[0][0] - start, 0)

    def opened(self, position: int) -> None:
        """From `position` on all is sent; what lies behind it (pre-roll) was not withheld after all."""
        for cause, n in self._settle(position).items():
            self.totals[cause] += n
        self._open_ended.clear()

    def until(self, position: int) -> dict[Cause, int]:
        """The totals as of `position`."""
        running = self._settle(position)
        return {cause: n + running.get(cause, 0) for cause, n in self.totals.items()}

    def _settle(self, position: int) -> dict[Cause, int]:
        sums: dict[Cause, int] = {}
        ends = [*(start for start, _ in self._open_ended[1:]), position]
        for (start, cause), end in zip(self._open_ended, ends, strict=False):
            sums[cause] = sums.get(cause, 0) + max(min(end, position) - start, 0)
        return sums


class Track:
    """One leg's codecs, clock marks and books. `row` is its lane and its place in every array."""

    def __init__(self, row: int, *, history: History, audio: AudioFormat) -> None:
        self.row = row
        self.history = history
        self.audio = audio
        "Format of the audio as it is kept and handed to speech-to-text."
        self.receiver: Receiver | None = None
        self.latch: Latch | None = None
        self.srtp: SrtpReceiver | None = None
        self.withheld = Withheld()
        self.concealed = 0
        "Positions."
        self.is_open = False
        "Whether the gate was open at the last change dealt with."
        self.malformed = 0
        self._marks: list[tuple[int, float]] = [(0, 0.0)]
        self.payload_type: PayloadType | None = None
        "Of the last audio."
        self._decoder: Decoder | None = None
        "Of the last audio; None: it is passed through."
        self._decoders: dict[PayloadType, Decoder] = {}
        self._hole: Concealment | None = None
        "While audio is being concealed: how it goes on."
        self._law = COMPAND.get(audio.encoding)

    # -- the leg's clock ----------------------------------------------------------------------------------------

    def mark(self, position: int, shift: float) -> None:
        """From `position` on the audio was captured at origin + position / 8000 + shift."""
        if abs(shift - self._marks[-1][1]) < 1e-6:
            return
        if self._marks[-1][0] >= position:
            self._marks.pop()
        self._marks.append((position, shift))
        while len(self._marks) > 1 and self._marks[1][0] <= position - HISTORY:
            del self._marks[0]

    @property
    def leapt_at(self) -> int:
        """Position at which the clock was last tied anew, or found to have gone on unheard; 0: never."""
        return self._marks[-1][0]

    @property
    def leap(self) -> float:
        """Seconds of the call that were not received before `leapt_at`; negative where the clock was put back."""
        return self._marks[-1][1] - self._marks[-2][1] if len(self._marks) > 1 else 0.0

    def shift_at(self, position: int) -> float:
        """Seconds between position and capture clock there."""
        return next((shift for start, shift in reversed(self._marks) if start <= position), self._marks[0][1])

    def runs(self, start: int, end: int) -> list[tuple[int, int, float]]:
        """[start, end) cut where the clock jumps: (start, end, shift)."""
        cuts = [at for at, _ in self._marks if start < at < end]
        edges = [start, *cuts, end]
        return [(a, b, self.shift_at(a)) for a, b in pairwise(edges)]

    # -- audio ----------------------------------------------------------------------------------------------------

    def read(self, start: int, end: int) -> bytes:
        """Audio of [start, end) in `audio` format: for G.711 the very bytes of the payloads."""
        data: bytes = self.history.read(self.row, start, end).tobytes()
        return data

    @property
    def is_passed_through(self) -> bool:
        """Payloads of the last audio's type are kept as they come."""
        return self.payload_type is not None and self._decoder is None

    def put_payload(self, frame: Frame) -> None:
        """Decodes one packet into the history. A payload that its codec refuses is concealed and counted."""
        if frame.payload_type is not self.payload_type:
            assert frame.payload_type is not None
            self._decoder = self._decoder_of(frame.payload_type)
            self.payload_type = frame.payload_type
        self.put_next(frame.position, frame.length, frame.payload)

    def _decoder_of(self, kind: PayloadType) -> Decoder | None:
        if kind.codec.wire_encoding == self.audio.encoding and kind.plain_bytes and self.audio.rate_hz == POSITION_HZ:
            return None
        if kind not in self._decoders:
            self._decoders[kind] = kind.codec.make_decoder(kind.fmtp)
        return self._decoders[kind]

    def put_next(self, position: int, length: int, payload: bytes) -> None:
        """The same for a packet that is of `payload_type`."""
        if self._decoder is None:
            self._hole = None  # passed through untouched: what was lost is filled, what came is not changed
            self.history.write(self.row, position, np.frombuffer(payload, np.uint8))
            return
        assert self.payload_type is not None
        try:
            samples = self._decoder.decode(payload)
        except ValueError:
            self.malformed += 1
            self.put_concealed(position, length)
            return
        rate_hz = self.payload_type.codec.sample_rate_hz
        if self._hole is not None:
            if rate_hz == self.audio.rate_hz:
                samples = self._hole.good(samples)  # cross-faded: the end of a hole does not click
            self._hole = None
        self.put_linear(position, length, samples, rate_hz)

    def put_concealed(self, position: int, length: int) -> None:
        """Fills a hole from the audio before it."""
        if self._hole is None:
            self._hole = Concealment(self.audio.rate_hz)
            self._hole.good(self.linear(max(position - CONCEAL_FROM, 0), position))
        self.concealed += length
        n = length * self.history.per_position
        self.put_linear(position, length, self._hole.lost(n), self.audio.rate_hz)

    def put_silence(self, frame: Frame) -> None:
        """Exact zeros."""
        n = frame.length * self.history.per_position
        self.put_linear(frame.position, frame.length, np.zeros(n, np.int16), self.audio.rate_hz)

    def put_linear(self, position: int, length: int, samples: Samples, rate_hz: int) -> None:
        """Linear audio that must fill exactly `length` positions, whatever the decoder gave."""
        if rate_hz != self.audio.rate_hz:
            samples = halve(samples) if rate_hz > self.audio.rate_hz else np.repeat(samples, 2)
        n = length * self.history.per_position
        if len(samples) != n:
            fitted = np.zeros(n, np.int16)
            fitted[: len(samples)] = samples[:n]
            samples = fitted
        self.history.write(self.row, position, self._law(samples) if self._law else samples)

    def linear(self, start: int, end: int) -> Samples:
        """Audio of [start, end) as int16 at the leg's own rate."""
        raw: NDArray[Any] = self.history.read(self.row, start, end)
        table = EXPAND.get(self.audio.encoding)
        if table is None:
            return raw.astype(np.int16, copy=False)
        expanded: Samples = table[raw]
        return expanded

    # -- books ----------------------------------------------------------------------------------------------------

    def books(self, position: int, received: int) -> Books:
        """The leg's figures as of `position`, when so many packets had come."""
        receiver, latch = self.receiver, self.latch
        withheld = self.withheld.until(position)
        packets = {"received": received, "lost": 0, "late": 0, "duplicate": 0}
        if receiver is not None:
            counts = receiver.counts
            packets |= {"lost": counts.lost, "late": counts.late, "duplicate": counts.duplicate}
            packets["received"] -= counts.duplicate + counts.late
        return Books(
            received_s=position / POSITION_HZ,
            sent_s=(position - sum(withheld.values())) / POSITION_HZ,
            withheld_s={str(cause): n / POSITION_HZ for cause, n in withheld.items()},
            concealed_s=self.concealed / POSITION_HZ,
            packets=packets,
            foreign=latch.foreign if latch else 0,
            malformed=self.malformed + (receiver.counts.malformed + receiver.counts.unknown if receiver else 0),
        )


def halve(samples: Samples) -> Samples:
    """16 kHz to 8 kHz by the mean of two: for a sender that changes to a wider codec in mid-call, where the leg keeps
    the rate that its provider session was opened with."""
    pairs = samples[: len(samples) // 2 * 2].astype(np.int32).reshape(-1, 2)
    mean: Samples = (pairs.sum(axis=1) >> 1).astype(np.int16)
    return mean
