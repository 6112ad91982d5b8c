"""What a provider is, to the rest of this floor. A session is one WebSocket, told what happened, sans-IO.

Its times are *stream time*: seconds of audio that this session was given. They never leave `bridge.stt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Literal, Protocol

from bridge.model import AudioFormat, Encoding


@dataclass(frozen=True, slots=True)
class SttOptions:
    """What [stt] says for every provider; a route may change it for a call."""

    language: str = "en"
    interim: bool = True
    chunk_ms: int = 100
    "Audio is sent in frames of this length; providers like 20 to 250 ms."
    replay_s: float = 60.0
    "Audio kept for a replay, at most."


@dataclass(frozen=True, slots=True)
class Policy:
    """What a provider's pauses, closes and connections cost, and so what is done with them."""

    billed: Literal["audio", "stream", "nothing"]
    "audio: seconds sent. stream: seconds from the session's start to its end, kept alive or not."
    close_timeout_s: float = 10.0
    "For the last words after the end of the stream."
    park_after_s: float | None = None
    "A pause that lasts longer ends the session; the next speech opens another. None: held as long as it lasts."
    holds_unheard: bool = True
    "False: a session that has not answered anything yet dies in a pause, keepalive or not, so it is ended instead."
    prime_s: float = 0.0
    "Silence sent at once by a session that is opened at the call's start; 0: opened at the first audio."
    rotate_after_s: float | None = None
    "Age at which a session is replaced: in the next pause, and latest `ROTATION_GRACE_S` later."


@dataclass(frozen=True, slots=True)
class StreamWord:
    """A word in stream time."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider takes this session: key, credit and parameters are good."""


@dataclass(frozen=True, slots=True)
class Partial:
    """The open segment as a whole, so far. Replaces the one before."""

    text: str
    words: tuple[StreamWord, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """Closed: nothing of it changes any more, and no word before `end` is still to come. `words` may be empty."""

    text: str
    words: tuple[StreamWord, ...]
    end: float
    language: str
    confidence: float
    speech_final: bool


@dataclass(frozen=True, slots=True)
class Flushed:
    """Answer to the flush at `through`. `is_answered` False: none came in time, which is legal where little or
    no audio was buffered, and proves nothing about it; the answer may follow all the same."""

    through: float
    is_answered: bool


class Cure(Enum):
    """What helps against a failure."""

    RETRY = auto()
    "A new session, after a backoff."
    ELSEWHERE = auto()
    "Retrying cannot help (key, credit, permission, parameters): the next route, at once."


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider ended it with an error. `reason` is short and free of secrets."""

    reason: str
    cure: Cure


@dataclass(frozen=True, slots=True)
class Ended:
    """The provider has given everything for all audio that it got, and said so."""


SessionEvent = Accepted | Partial | Segment | Flushed | Failed | Ended


class SttSession(Protocol):
    """One session. What the world tells is accepted in every state and ignored after the end; what *we* ask in a
    wrong state raises InvalidState. One change, then drain `messages_to_send` and `take_events`."""

    @property
    def provider_s(self) -> float:
        """Seconds of audio that the provider has reported so far."""
        ...

    def connected(self, now: float) -> None: ...

    def send_audio(self, data: bytes, now: float) -> None:
        """`data` in the wire format, not empty."""
        ...

    def finalize(self, now: float) -> None:
        """Flush all audio sent so far; answered by `Flushed`, in order."""
        ...

    def finish(self, now: float) -> None:
        """End of audio; answered by `Ended`."""
        ...

    def receive_message(self, message: str | bytes, now: float) -> None:
        """Malformed messages are counted in `malformed` and otherwise ignored."""
        ...

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        """The socket is gone. Ends in `Ended` or `Failed`, after what was final already."""
        ...

    def deadline(self) -> float | None: ...

    def handle_timer(self, now: float) -> None: ...

    def messages_to_send(self) -> list[str | bytes]: ...

    def take_events(self) -> list[SessionEvent]: ...

    @property
    def keepalives(self) -> int: ...

    @property
    def malformed(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a session connects."""

    url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Provider:
    """One entry of `PROVIDERS`. `settings` below is always an instance of `settings_type`."""

    name: str
    settings_type: type[Any]
    "Frozen dataclass of `[stt.<name>]`: every field with a default."
    policy: Callable[[Any], Policy]
    wire: Callable[[Any, AudioFormat], AudioFormat]
    "Format to send, given the one that the leg arrives in. Always the same sample rate."
    endpoint: Callable[[Any, AudioFormat, SttOptions], Endpoint]
    make_session: Callable[[Any, AudioFormat, SttOptions], SttSession]
    refusal: Callable[[int], Cure]
    "What helps against an HTTP status at the upgrade; 0 is a connection that did not come about."
    check: Callable[[Any], list[str]]
    "What is missing or cannot work in the settings, one sentence each, for `callbridge check`."


ENCODINGS = ("auto", "mulaw", "alaw", "linear16")


def common_problems(name: str, *, url: str, encoding: str = "auto") -> list[str]:
    """What every provider's `check` asks: the address and, where there is a choice, the encoding of `[stt.<name>]`."""
    problems = []
    if encoding not in ENCODINGS:
        problems.append(f"stt.{name}.encoding: must be one of {', '.join(ENCODINGS)}")
    if not url.startswith(("ws://", "wss://")):
        problems.append(f"stt.{name}.url: must begin with wss:// or ws://")
    return problems


def wire_format(encoding: str, leg: AudioFormat) -> AudioFormat:
    """`auto` passes the leg's format through untouched: transcoding G.711 adds nothing and doubles the bytes."""
    if encoding == "auto":
        return leg
    chosen: Mapping[str, Encoding] = {"mulaw": "mulaw", "alaw": "alaw", "linear16": "linear16"}
    return AudioFormat(chosen[encoding], leg.rate_hz)
