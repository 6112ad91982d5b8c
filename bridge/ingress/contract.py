"""How calls come in. An ingress speaks a protocol outwards and these few calls inwards; the service is the `Host`.

Everything here is synchronous: an ingress asks, is answered at once, and tells its peer. `now` is monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bridge.config import Settings, TrunkSettings
from bridge.rtp.srtp import SrtpKeys
from rtpcodecs.contract import Codec


@dataclass(frozen=True, slots=True)
class PayloadFormat:
    """One payload type that we agreed to receive."""

    payload_type: int
    codec: Codec
    fmtp: str = ""


@dataclass(frozen=True, slots=True)
class MediaOffer:
    """RTP of one m-line as agreed: what will be sent to us."""

    formats: tuple[PayloadFormat, ...]
    "Every accepted audio format; the peer may change between them at any packet. The first is the expected one."
    remote: tuple[str, int] | None = None
    "Where the peer says its RTP comes from and RTCP goes to (SDP c= and m=); None while unknown or 0.0.0.0."
    telephone_events: Mapping[int, int] = field(default_factory=dict)
    "Payload types of telephone events, and the clock in Hz that each counts: it may be another than the audio's."
    comfort_noise: frozenset[int] = frozenset({13, 19})
    srtp: SrtpKeys | None = None
    "Keys that the *peer* protects its packets with; None for plain RTP."
    srtp_own: SrtpKeys | None = None
    "Keys that we protect our RTCP with, as told in our answer."
    rtcp_mux: bool = False
    rtcp: tuple[str, int] | None = None
    "Where RTCP goes, if the peer said so (RFC 3605); None: one port above `remote`, or the same with `rtcp_mux`."


@dataclass(frozen=True, slots=True)
class LegOffer:
    """One party's audio that is to be received."""

    role: str = ""
    "Empty: given by position, as the contract says (caller, agent, party3 ...)."
    participant: str = ""
    "Name or AOR of the speaker, for subscribers."
    on_hold: bool = False
    media: MediaOffer | None = None
    "None: the ingress pushes decoded audio itself (WebRTC)."


@dataclass(frozen=True, slots=True)
class CallOffer:
    """A call that wants in."""

    ingress: str
    "sip, siprec, webrtc or external."
    legs: tuple[LegOffer, ...]
    from_: str = ""
    to: str = ""
    source: str = ""
    "Peer's IP address."
    headers: dict[str, str] = field(default_factory=dict)
    "Lower-case header names, for routes."
    aors: tuple[str, ...] = ()
    correlation: dict[str, str] = field(default_factory=dict)
    "For `call.started`: sip_call_id, siprec_session_id, and what the configuration names."


class CallControl(Protocol):
    """What the service asks of an ingress."""

    def hang_up(self) -> None:
        """The call was ended on our side (API, drain): tell the peer. `IngressCall.ended` was already called."""
        ...


class IngressLeg(Protocol):
    """A leg as an ingress sees it."""

    @property
    def id(self) -> str: ...

    @property
    def role(self) -> str: ...

    @property
    def local(self) -> tuple[str, int]:
        """Address and port to advertise: RTP arrives there, RTCP one above. Raises InvalidState without `media`."""
        ...

    def hold(self, on: bool, now: float) -> None:
        """Signalled hold (SDP direction, c=0.0.0.0, SIPREC metadata). Idempotent. `now`: when the signal arrived, which
        may be earlier: it is in force behind the audio that arrived before."""
        ...

    def media_changed(self, media: MediaOffer, now: float) -> None:
        """After a re-offer: new port, address, codecs or keys. A new source may be latched to from now on."""
        ...

    def sends(self, on: bool) -> None:
        """Whether the peer was told that we send (`sendrecv`, `sendonly`): silence then leaves now and then."""
        ...

    def speaker_changed(self, *, role: str, participant: str, now: float) -> None:
        """Another party speaks on this leg from now on (SIPREC transfer)."""
        ...

    def key_pressed(self, digit: str, *, duration_ms: int, now: float) -> None:
        """A key press that was signalled (INFO). RFC 4733 events are taken from the RTP; of a peer that sends both only
        one counts."""
        ...

    def push_pcm(self, samples: NDArray[np.int16], *, start: float, now: float) -> None:
        """Decoded mono 16 kHz audio whose first sample was captured at monotonic `start`. WebRTC only."""
        ...

    def count_packets(self, packets: Mapping[str, int]) -> None:
        """What became of this leg's packets so far: received, lost, late, duplicate and malformed. For those who push
        decoded audio: the plane sees none of their packets. Told again as the numbers grow, last before the end."""
        ...

    def ended(self, now: float) -> None:
        """The leg is gone, the call goes on."""
        ...


class IngressCall(Protocol):
    """A call as an ingress sees it."""

    @property
    def id(self) -> str: ...

    @property
    def legs(self) -> Sequence[IngressLeg]: ...

    def answered(self, now: float) -> None:
        """The first 2xx was sent: call time 0. Before it nothing is transcribed."""
        ...

    def add_leg(self, offer: LegOffer, now: float) -> IngressLeg:
        """A further party. Raises CapacityError."""
        ...

    def ended(self, reason: str, now: float) -> None:
        """hangup, cancelled, timeout or refused. Idempotent; last words are still waited for."""
        ...


class Host(Protocol):
    """The service, as an ingress sees it."""

    @property
    def is_accepting(self) -> bool:
        """False while draining or full: OPTIONS is answered 503."""
        ...

    def trunk(self, offer: CallOffer) -> TrunkSettings:
        """How a call like this is to be answered: `[sip]`, changed by its route. `offer` needs no legs yet."""
        ...

    def open_call(self, offer: CallOffer, control: CallControl, now: float) -> IngressCall:
        """Admits a call and reserves its ports. Raises CapacityError; nothing is left behind then."""
        ...

    def each_tick(self, read: Callable[[float], None]) -> Callable[[], None]:
        """Has `read` called with `now` at the beginning of every tick, so that what an ingress reads itself is heard
        before what was signalled behind it is in force. Answers what ends that."""
        ...

    def find_call(self, correlation: str, value: str) -> IngressCall | None:
        """A running call by one of its correlation values (CUCM's two INVITEs of one call, WHIP's second leg)."""
        ...


class Ingress(Protocol):
    """A way in. Made by its factory in `bridge.ingress.INGRESSES`, opened and closed by the composition root."""

    async def open(self) -> None:
        """Binds. Raises ConfigError naming each address that cannot be bound. Serves from then on."""
        ...

    def reload(self, settings: Settings) -> None:
        """The configuration was read again and found good: what can change for new calls does."""
        ...

    async def close(self) -> None:
        """Stops listening, after the calls have ended: last BYEs and responses are given a moment to leave."""
        ...
