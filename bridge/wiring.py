"""What all legs of a process share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from bridge.config import SttSettings
from bridge.media.arrivals import Arrivals
from bridge.media.outputs import Output
from bridge.media.plane import Plane
from bridge.metrics import Metrics
from bridge.model import AudioFormat
from bridge.net.datagrams import MediaPort
from bridge.net.rtcp_reports import RtcpReports
from bridge.publish.events import Event
from bridge.stt.events import SttEvent
from bridge.stt.transcriber import Transcriber
from bridge.timers import Timed


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


class AfterRead(Protocol):
    """`Timers.after_read`: calls back in the next tick, or a later one, with `now`."""

    def __call__(self, then: Callable[[float], None], *, row: int = -1, at: float | None = None) -> None: ...


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
    after_read: AfterRead
    seats: list[Seat | None]
    "Who sits in which row of the plane."
    unix_ms: Callable[[], int]
    now: Callable[[], float]
    metrics: Metrics
    advertise: Callable[[str], str]
    "Our media address that faces a peer's IP address; empty: not known."


class Seat(Protocol):
    """The leg that sits in a row of the plane, as the tick sees it."""

    id: str

    def on_output(self, output: Output, now: float) -> None:
        """One output of the plane for this row."""
        ...

    def failed(self) -> None:
        """A bug of ours: the leg is ended, the others go on."""
        ...
