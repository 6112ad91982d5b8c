"""What a tick answers, and what the plane knows for a leg's books."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.gate.gate import Change


@dataclass(frozen=True, slots=True)
class Audio:
    """Audio that a provider shall hear, contiguous, in the leg's format; `start` is when its first sample was captured
    (monotonic)."""

    row: int
    data: bytes
    start: float


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate moved; `at` is the capture time of the change's position (monotonic), `speech_end` of the last speech."""

    row: int
    change: Change
    at: float
    speech_end: float


@dataclass(frozen=True, slots=True)
class Speaking:
    """Somebody began to speak at `at`, or stopped (monotonic capture time)."""

    row: int
    is_speaking: bool
    at: float


@dataclass(frozen=True, slots=True)
class Stirring:
    """Something is heard, soon after speech, that may turn out to be speech. One a frame while it lasts."""

    row: int


@dataclass(frozen=True, slots=True)
class Retimed:
    """A packet has met less delay than any before: whatever outputs before this one told as captured at `since`
    (monotonic) or later was captured `by` seconds earlier."""

    row: int
    by: float
    since: float


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
    """RFC 4733 payload as received; the same event comes several times with the same timestamp."""

    row: int
    payload: bytes
    timestamp: int
    clock_hz: int
    "Unit of the payload's duration."


@dataclass(frozen=True, slots=True)
class Failure:
    """A bug of ours met this leg; it is left alone from now on, so that it cannot stop the tick of the others."""

    row: int
    error: Exception


Output = Audio | Gate | Speaking | Stirring | Retimed | TelephoneEvent | Failure


@dataclass(frozen=True, slots=True)
class Books:
    """What the plane knows for a leg's ledger. Seconds; `packets` as in the contract."""

    received_s: float
    sent_s: float
    withheld_s: dict[str, float]
    concealed_s: float
    packets: dict[str, int]
    foreign: int
    malformed: int
