"""What a telephone sends and when, sans-IO: one leg's audio as RTP packets with their due times.

*Stream time* here is seconds since the stream began. Sample 0 of the audio is spoken at stream time 0, so the packet
that carries [t, t + ptime) is due at t + ptime: nobody can send what has not been said yet. The audio is the leg's
timeline: what lies under a hold or a mute is passed over, not put off, so that a word's place in the file is its place
in the call.
"""

from __future__ import annotations

import heapq
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
MuteKind = Literal["silence", "stop", "comfort_noise"]
Kind = Literal["audio", "silence", "music", "comfort_noise"]

COMFORT_NOISE_TYPE = 13  # RFC 3551 section 6
COMFORT_NOISE_EVERY = 1.0  # s; Unify phones send one a second
COMFORT_NOISE_LEVEL = 70  # -dBov, RFC 3389 section 3.1


@dataclass(frozen=True, slots=True)
class Mute:
    """A stretch of stream time in which the phone's microphone is off."""

    start: float
    end: float
    how: MuteKind = "silence"
    "What the phone then does: sends digital silence, stops sending (DTX), or sends comfort noise (RFC 3389)."


@dataclass(frozen=True, slots=True)
class Faults:
    """What network and phone do wrong. Fractions are 0 to 1, times are stream time. The same seed does the same."""

    seed: int = 0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    "Fraction of packets that leave right after their successor."
    jitter_ms: float = 0.0
    "Each packet leaves up to so much late, evenly spread; the order is kept."
    late_start: tuple[float, float] = (0.0, 0.0)
    "(seconds, until when): the first packet leaves so much late, those behind it less and less."
    ssrc_changes: tuple[float, ...] = ()
    "At each the stream goes on under a new SSRC, with new sequence numbers and timestamps."
    timestamp_jumps: tuple[tuple[float, int], ...] = ()
    "(when, clock units): the timestamp skips by so much though no audio is missing."
    frozen_clock: bool = False
    "The timestamp stands still while nothing is sent (PJSIP on hold), instead of counting on."


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """How the audio is carried."""

    payload_type: int = 0
    clock_rate_hz: int = 8000
    sample_rate_hz: int = 8000
    ptime_ms: int = 20

    @property
    def ptime(self) -> float:
        return self.ptime_ms / 1000

    @property
    def frame_samples(self) -> int:
        return self.sample_rate_hz * self.ptime_ms // 1000

    @property
    def frame_units(self) -> int:
        return self.clock_rate_hz * self.ptime_ms // 1000


class Packet(NamedTuple):
    """One datagram to be sent."""

    due: float
    "Stream time at which it leaves."
    start: float
    "Stream time of its first sample."
    sequence: int
    ssrc: int
    timestamp: int
    kind: Kind
    data: bytes


def rtp_packet(payload: bytes, *, payload_type: int, sequence: int, timestamp: int, ssrc: int, marker: bool) -> bytes:
    """RFC 3550 section 5.1, version 2, nothing optional."""
    return struct.pack("!BBHII", 0x80, payload_type | marker << 7, sequence, timestamp, ssrc) + payload


class RtpStream:
    """One leg's packets: `take_due` them, then sleep until `deadline`."""

    def __init__(
        self,
        samples: Samples,
        encode: Callable[[Samples], bytes],
        format_: StreamFormat,
        *,
        mutes: tuple[Mute, ...] = (),
        faults: Faults | None = None,
        hold_music: Samples | None = None,
        seed: int = 0,
    ) -> None:
        """`samples` at the format's sample rate. `hold_music` is what is sent while on hold, again and again; None
        sends nothing then. SSRC, first sequence number and timestamp come from `seed` (RFC 3550 wants them random)."""
        self.format = format_
        self.lost = 0
        "Packets that were not sent because of `Faults.loss`."
        self._samples, self._encode, self._music = samples, encode, hold_music
        self._mutes, self._faults = mutes, faults or Faults()
        self._random = random.Random(f"{self._faults.seed} {seed}")
        self._n_frames = -(-len(samples) // format_.frame_samples)
        self._next_frame = 0
        self._is_held = False
        self._marker = True
        self._last_comfort_noise: float | None = None
        self._last_due = 0.0
        self._made = 0
        self._changes = sorted(self._faults.ssrc_changes)
        self._jumps = sorted(self._faults.timestamp_jumps)
        self._waiting: list[tuple[float, int, Packet]] = []
        self._new_source()

    def _new_source(self) -> None:
        self.ssrc = self._random.getrandbits(32)
        self._sequence = self._random.getrandbits(16)
        self._timestamp = self._random.getrandbits(32)
        self._marker = True

    @property
    def seconds(self) -> float:
        """Length of the stream."""
        return self._n_frames * self.format.ptime

    @property
    def is_finished(self) -> bool:
        return self._next_frame >= self._n_frames and not self._waiting

    def hold(self, on: bool) -> None:
        """From the next frame on: no speech leaves, only hold music if there is any. Idempotent."""
        self._is_held = on

    def deadline(self) -> float | None:
        """Stream time at which `take_due` has something to do; None when all was sent."""
        times = [self._waiting[0][0]] if self._waiting else []
        if self._next_frame < self._n_frames:
            times.append(self._frame_due(self._next_frame))
        return min(times, default=None)

    def take_due(self, elapsed: float) -> list[Packet]:
        """Packets that are due by stream time `elapsed`, in the order in which they leave."""
        while self._next_frame < self._n_frames and self._frame_due(self._next_frame) <= elapsed + 1e-9:
            self._speak(self._next_frame)
            self._next_frame += 1
        packets: list[Packet] = []
        while self._waiting and self._waiting[0][0] <= elapsed + 1e-9:
            packets.append(heapq.heappop(self._waiting)[2])
        return packets

    def _frame_due(self, frame: int) -> float:
        return (frame + 1) * self.format.ptime

    def _speak(self, frame: int) -> None:
        start = frame * self.format.ptime
        while self._changes and self._changes[0] <= start + 1e-9:
            self._changes.pop(0)
            self._new_source()
        while self._jumps and self._jumps[0][0] <= start + 1e-9:
            self._timestamp = (self._timestamp + self._jumps.pop(0)[1]) & 0xFFFFFFFF
        kind, payload = self._payload(frame, start)
        if kind is not None:
            self._queue(kind, payload, start)
        else:
            self._marker = True
        if kind is not None or not self._faults.frozen_clock:
            self._timestamp = (self._timestamp + self.format.frame_units) & 0xFFFFFFFF

    def _payload(self, frame: int, start: float) -> tuple[Kind | None, bytes]:
        if self._is_held:
            if self._music is None or not len(self._music):
                return None, b""
            return "music", self._encode(self._cut(self._music, frame, loop=True))
        mute = next((m for m in self._mutes if m.start <= start + 1e-9 < m.end), None)
        if mute is None:
            self._last_comfort_noise = None
            return "audio", self._encode(self._cut(self._samples, frame, loop=False))
        if mute.how == "silence":
            return "silence", self._encode(np.zeros(self.format.frame_samples, np.int16))
        if mute.how == "comfort_noise" and self._is_comfort_noise_due(start):
            self._last_comfort_noise = start
            return "comfort_noise", bytes([COMFORT_NOISE_LEVEL])
        return None, b""

    def _is_comfort_noise_due(self, start: float) -> bool:
        last = self._last_comfort_noise
        return last is None or start - last >= COMFORT_NOISE_EVERY - 1e-9

    def _cut(self, samples: Samples, frame: int, *, loop: bool) -> Samples:
        n = self.format.frame_samples
        if loop:
            return np.take(samples, np.arange(frame * n, (frame + 1) * n), mode="wrap")
        cut = samples[frame * n : (frame + 1) * n]
        return cut if len(cut) == n else np.concatenate([cut, np.zeros(n - len(cut), np.int16)])

    def _queue(self, kind: Kind, payload: bytes, start: float) -> None:
        sequence, marker = self._sequence, self._marker
        self._sequence = (sequence + 1) & 0xFFFF
        self._marker = kind == "comfort_noise"  # the next audio begins a talkspurt, RFC 3551 section 4.1
        data = rtp_packet(
            payload,
            payload_type=COMFORT_NOISE_TYPE if kind == "comfort_noise" else self.format.payload_type,
            sequence=sequence,
            timestamp=self._timestamp,
            ssrc=self.ssrc,
            marker=marker and kind != "comfort_noise",
        )
        due = self._leaves_at(start + self.format.ptime)
        packet = Packet(due, start, sequence, self.ssrc, self._timestamp, kind, data)
        faults = self._faults
        if self._random.random() < faults.loss:
            self.lost += 1
            return
        heapq.heappush(self._waiting, (due, self._order(), packet))
        if self._random.random() < faults.duplicate:
            heapq.heappush(self._waiting, (due, self._order(), packet))

    def _leaves_at(self, due: float) -> float:
        faults = self._faults
        late, until = faults.late_start
        jittered = due + self._random.uniform(0, faults.jitter_ms / 1000)
        if due < until:
            jittered += late * (1 - due / until)
        if self._random.random() < faults.reorder:
            return jittered + 1.5 * self.format.ptime  # behind its successor, whose own order is not touched
        self._last_due = max(jittered, self._last_due)
        return self._last_due

    def _order(self) -> int:
        """Ties in time leave in the order in which they were made."""
        self._made += 1
        return self._made
