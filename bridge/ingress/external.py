"""External media: plain RTP set up over HTTP (Asterisk ARI externalMedia, rtpengine, FreeSWITCH).

The call is answered at once; the service ends it after `rtp.idle_end_s` without RTP, or on DELETE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bridge.errors import PeerError
from bridge.ingress.contract import CallOffer, Host, IngressLeg, LegOffer, MediaOffer, PayloadFormat
from rtpcodecs import CODECS

FIRST_DYNAMIC = 96  # RFC 3551 section 6
LAST = 127
RTCP_CONFLICT = range(72, 77)
"""With RTCP on the next port these types still look like RTCP packets 200-204 (RFC 5761 section 4)."""


class LegWish(Protocol):
    """A leg as somebody asked for it."""

    @property
    def codecs(self) -> tuple[str, ...]: ...
    @property
    def role(self) -> str: ...
    @property
    def participant(self) -> str: ...
    @property
    def payload_type(self) -> int | None: ...
    @property
    def telephone_event(self) -> int | None: ...
    @property
    def remote(self) -> tuple[str, int] | None: ...


class CallWish(Protocol):
    """A call as somebody asked for it."""

    @property
    def legs(self) -> Sequence[LegWish]: ...
    @property
    def from_(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def correlation(self) -> Mapping[str, str]: ...


class _Nobody:
    """`CallControl`: there is no signalling to hang up; whoever sends RTP learns it from `call.ended`."""

    def hang_up(self) -> None:
        """Nothing to do."""


class ExternalMedia:
    """Implements the web server's `ExternalMedia`."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def open(self, wish: CallWish, *, source: str, now: float) -> dict[str, Any]:
        """See `bridge.web.contract.ExternalMedia`."""
        legs = tuple(LegOffer(role=leg.role, participant=leg.participant, media=media_offer(leg)) for leg in wish.legs)
        offer = CallOffer(
            ingress="external",
            legs=legs,
            from_=wish.from_,
            to=wish.to,
            source=source,
            correlation=dict(wish.correlation),
        )
        if self._host.trunk(offer).srtp == "required":
            raise PeerError("SRTP is required here, and external media is plain RTP.")
        call = self._host.open_call(offer, _Nobody(), now)
        call.answered(now)
        told = [_describe(leg, opened) for leg, opened in zip(legs, call.legs, strict=True)]
        return {"id": call.id, "legs": told}


def media_offer(leg: LegWish) -> MediaOffer:
    """Codecs by name, static payload types where there are any, else the next free one from 96 on. Raises PeerError."""
    asked = {number for number in (leg.payload_type, leg.telephone_event) if number is not None}
    if len(asked) < (leg.payload_type is not None) + (leg.telephone_event is not None):
        raise PeerError("payload_type and telephone_event are the same number.")
    if any(number in RTCP_CONFLICT for number in asked):
        raise PeerError("Payload types 72 to 76 look like RTCP.")
    free = (number for number in range(FIRST_DYNAMIC, LAST + 1) if number not in asked)
    formats: list[PayloadFormat] = []
    for n, name in enumerate(dict.fromkeys(leg.codecs)):
        codec = CODECS.get(name)
        if codec is None:
            raise PeerError(f"No such codec: {name[:32]}. There are {', '.join(CODECS)}.")
        number = leg.payload_type if n == 0 else None
        if number is None:
            number = codec.static_payload_type
        formats.append(PayloadFormat(next(free) if number is None or number in _taken(formats) else number, codec))
    if leg.telephone_event in _taken(formats):
        raise PeerError("telephone_event is the number of a codec.")
    events = {} if leg.telephone_event is None else {leg.telephone_event: formats[0].codec.clock_rate_hz}
    return MediaOffer(tuple(formats), remote=leg.remote, telephone_events=events)


def _taken(formats: list[PayloadFormat]) -> set[int]:
    return {known.payload_type for known in formats}


def _describe(offer: LegOffer, leg: IngressLeg) -> dict[str, Any]:
    address, port = leg.local
    formats = offer.media.formats if offer.media else ()
    codecs = [
        {"codec": known.codec.name, "payload_type": known.payload_type, "clock_rate_hz": known.codec.clock_rate_hz}
        for known in formats  # L16 is taken at 16 kHz here, and nothing in plain RTP would tell the sender
    ]
    return {"leg": leg.id, "role": leg.role, "address": address, "port": port, "codecs": codecs}
