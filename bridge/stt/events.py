"""What goes in and out of a leg's transcription. Commands go down to the driver, events up to the call.

Every time in an event is *call time*, in seconds. `session` in a command is the number of one connection to a
provider, 1, 2, 3 ... within the leg; the driver gives it back with everything that it tells.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.model import Word


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a WebSocket. Answered by `opened` or `refused`; after `opened`, `closed` comes exactly once."""

    session: int
    provider: str
    url: str = field(repr=False)
    "Without credentials, but it may carry the site's own `keyterm`s: not for logs."
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    "Carries the key: never logged, never in an exception's text."


@dataclass(frozen=True, slots=True)
class Transmit:
    """One WebSocket message: `str` is a TEXT frame, `bytes` a BINARY one (never empty)."""

    session: int
    message: str | bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Close:
    """All is said: closing handshake with 1000. `closed` may still be told, and is ignored."""

    session: int


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop the connection, or the attempt at one, at once. Nothing more of it is wanted."""

    session: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Is anybody there? Ping at once, and do not wait long: an answer that had to come did not."""

    session: int


Command = Connect | Transmit | Close | Abort | Probe


@dataclass(frozen=True, slots=True)
class Interim:
    """What an utterance looks like so far; replaces its earlier revisions. Empty `text` takes them back: the
    provider has changed its mind and hears nothing."""

    utterance: int
    revision: int
    text: str
    start: float
    end: float
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Final:
    """An utterance as it stays. `text` is never empty; exactly one per utterance."""

    utterance: int
    revision: int
    text: str
    start: float
    end: float
    words: tuple[Word, ...]
    language: str
    "As the provider names it, or the configured one."
    confidence: float
    provider: str
    speech_final: bool
    "The provider heard an endpoint here, or was told to flush."


@dataclass(frozen=True, slots=True)
class Finalized:
    """No more words from before `through` are to be waited for: the provider has answered the flush. Where it has not
    done so in time `through` lies before the flush: as far as its finals reach. What lies between may be silence, of
    which it says nothing, or be answered late."""

    through: float


@dataclass(frozen=True, slots=True)
class Lost:
    """No session any more, or a first connection that was refused. Once per outage, however often is tried."""

    provider: str
    reason: str


@dataclass(frozen=True, slots=True)
class Restored:
    """The end of an outage."""

    provider: str
    gap_s: float
    replayed_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: everything that could be had is in, and every connection is closed or being closed."""


SttEvent = Interim | Final | Finalized | Lost | Restored | Finished
