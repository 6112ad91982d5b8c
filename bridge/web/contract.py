"""What the web server sees of the rest: calls, events and two ways in, each through a Protocol.

The composition root hands in the real ones. `web` and `ingress` are siblings and never import each other: what HTTP has
to say to an ingress goes through `ExternalMedia` and `Whip` below, which `bridge.ingress` implements.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

from bridge.publish.events import Published

Verb = Literal["hold", "resume", "mute", "unmute", "pause"]
VERBS: tuple[Verb, ...] = get_args(Verb)


class Feed(Protocol):
    """Live events for one listener, bounded: what a slow listener does not take is dropped and counted.

    `Published.seq` is the outbox's number, 0 where it has none (an interim that is only shown)."""

    @property
    def dropped(self) -> int:
        """Entries that this listener missed so far."""
        ...

    def __aiter__(self) -> AsyncIterator[Published]: ...

    async def __anext__(self) -> Published:
        """Loses nothing when it is cancelled while it waits. Raises StopAsyncIteration after `close`, and after
        `call.ended` where the feed is of one call."""
        ...

    def close(self) -> None:
        """The listener is gone. Idempotent."""
        ...


class Calls(Protocol):
    """Every call of this process, as an operator may see and steer it. Only `history` and `recent` wait."""

    def list(self) -> Sequence[dict[str, Any]]:
        """JSON-ready: `id`, `ingress`, `since` (RFC 3339, UTC), `from`, `to`, and `legs` `[{leg, role, codec,
        participant, gate: {state, cause, since}, gate_settings, ledger}]`, the ledger as far as it goes. `call_s` is
        call time now."""
        ...

    def get(self, call: str) -> dict[str, Any] | None:
        """One entry of `list`, or None."""
        ...

    def act(self, call: str, leg: str, verb: Verb, at: float) -> bool:
        """In force at the next tick, behind the audio that arrived before `at`, when the request did (monotonic);
        idempotent. False: no such call or leg."""
        ...

    def adjust(self, call: str, leg: str, changes: Mapping[str, Any]) -> bool:
        """Changes some of a leg's `[gate]` settings, in force at the next tick; idempotent. False: no such call or
        leg. Raises PeerError for a value that the configuration would refuse too."""
        ...

    def end(self, call: str) -> bool:
        """Hangs up with reason `api`. False: no such call."""
        ...

    def status(self) -> dict[str, Any]:
        """`is_accepting`, `is_draining`, `sip_bound`, `sink_writable` (Redis or spool), `legs`, `max_legs`, `calls`,
        `instance`."""
        ...

    def subscribe(self, call: str = "") -> Feed:
        """Live events of one call, or of all. `bridge.web.feed.Feeds` is the ready-made half of it."""
        ...

    def history(self, call: str, after: str) -> AsyncIterator[Published]:
        """Stored events, in order, until the last one that is stored now. With `call`: of that call, behind the `seq`
        in `after` (empty: from the start). Without: of all calls, from the millisecond in `after` on (unix ms,
        inclusive). Raises SinkError while the store cannot be reached."""
        ...

    async def recent(self, limit: int) -> Sequence[dict[str, Any]]:
        """Stored calls, newest first: `{id, since}`. Raises SinkError."""
        ...


@dataclass(frozen=True, slots=True)
class LegWish:
    """A leg that somebody asks for over HTTP: RTP will be sent to us in one of `codecs`."""

    codecs: tuple[str, ...]
    "Upper-case SDP names; the first is the expected one."
    role: str = ""
    participant: str = ""
    payload_type: int | None = None
    "Of the first codec, where its static one (or the next free from 96 on) does not fit."
    telephone_event: int | None = None
    remote: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True)
class CallWish:
    """A call that somebody asks for over HTTP."""

    legs: tuple[LegWish, ...]
    from_: str = ""
    to: str = ""
    correlation: dict[str, str] = field(default_factory=dict)


class ExternalMedia(Protocol):
    """Plain RTP set up over HTTP."""

    def open(self, wish: CallWish, *, source: str, now: float) -> dict[str, Any]:
        """Opens a call that is answered at once. JSON-ready: `id` and `legs` `[{leg, role, address, port, codecs
        [{codec, payload_type}]}]`. Raises PeerError for a codec that we do not have, CapacityError."""
        ...


class WhipAnswer(Protocol):
    """A WebRTC session that was opened."""

    @property
    def session(self) -> str:
        """Unguessable; the last part of the session's URL."""
        ...

    @property
    def call(self) -> str: ...

    @property
    def leg(self) -> str: ...

    @property
    def sdp(self) -> str: ...


class Whip(Protocol):
    """WebRTC sessions. `role` and `call` come from the endpoint's URL."""

    async def offer(self, sdp: str, *, call: str, role: str, source: str) -> WhipAnswer:
        """A new session: a call of its own, or with `call` a further leg of that one. Raises PeerError for what is no
        SDP, SdpError for what cannot be answered, CapacityError, LookupError for an unknown `call`."""
        ...

    def has(self, session: str) -> bool: ...

    async def trickle(self, session: str, fragment: str) -> None:
        """Further ICE candidates (RFC 8840). Raises PeerError for what is no fragment, SdpError for an ICE restart,
        LookupError for an unknown session."""
        ...

    async def end(self, session: str) -> bool:
        """The client is done. False: no such session."""
        ...
