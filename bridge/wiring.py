"""What all legs of a process share, and what a leg expects of the call that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bridge.config import SttSettings
from bridge.media.arrivals import Arrivals
from bridge.media.plane import Plane
from bridge.metrics import Metrics
from bridge.model import AudioFormat
from bridge.net.datagrams import MediaPort
from bridge.net.rtcp_reports import RtcpReports
from bridge.publish.events import Event
from bridge.stt.events import SttEvent
from bridge.stt.transcriber import Transcriber

if TYPE_CHECKING:
    from bridge.leg import Leg


class Stt(Protocol):
    """A leg's transcription with its driver; made by the composition root."""

    @property
    def transcriber(self) -> Transcriber: ...

    def wake(self) -> None:
        """The transcriber was told something: carry out its commands, deliver its events."""
        ...


class OpenStt(Protocol):
    """Makes a leg's transcription."""

    def __call__(
        self,
        audio: AudioFormat,
        settings: SttSettings,
        on_events: Callable[[list[SttEvent]], None],
        *,
        call: str,
        leg: str,
    ) -> Stt: ...


class MediaInput(Protocol):
    """Where datagrams come from: `bridge.net.datagrams.MediaSockets`, or recordings."""

    read_to: float
    "Monotonic arrival up to which the last `read` has read all; infinity where it left nothing behind."

    def open_pair(self) -> MediaPort: ...

    def attach(self, pair: MediaPort, row: int, since: float = 0.0) -> None: ...

    def release(self, pair: MediaPort) -> None: ...

    def read(self) -> Iterator[Arrivals]: ...


@dataclass(frozen=True, slots=True)
class Wiring:
    """What all legs of a process share."""

    plane: Plane
    sockets: MediaInput
    reports: RtcpReports
    publish: Callable[[Event], None]
    open_stt: OpenStt
    arm: Callable[[Timed, float], None]
    "Calls `handle_timer` of the object once `now` has passed the given time."
    after_read: Callable[[Callable[[float], None]], None]
    "Calls back in the next tick, with `now`, once everything that had arrived was read."
    seats: list[Leg | None]
    "Who sits in which row of the plane."
    unix_ms: Callable[[], int]
    now: Callable[[], float]
    metrics: Metrics
    advertise: Callable[[str], str]
    "Our media address that faces a peer's IP address; empty: not known."


class Timed(Protocol):
    """Something with a deadline."""

    def handle_timer(self, now: float) -> None: ...


class Party(Protocol):
    """The call, as its legs see it."""

    id: str

    @property
    def source(self) -> str:
        """IP address of whoever brought the call."""
        ...

    def spoke(self, leg: Leg, now: float) -> None:
        """The leg has spoken for long enough to have taken over."""
        ...

    def leg_done(self, leg: Leg, now: float) -> None:
        """The leg's last event is out."""
        ...

    def end_leg(self, leg: Leg, now: float) -> None:
        """The leg's audio has ended, the call may go on."""
        ...

    def fail_leg(self, leg: Leg, now: float) -> None:
        """A bug of ours has ended the leg; without another one the call is hung up."""
        ...
