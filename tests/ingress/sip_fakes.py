"""A Host that only remembers, and a SIP client made of the same endpoint and driver."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from bridge.config import ServiceSettings, Settings, SipSettings, TrunkSettings
from bridge.errors import CapacityError, InvalidState
from bridge.ingress.contract import CallControl, CallOffer, LegOffer, MediaOffer
from bridge.ingress.sip import SipIngress, make_sip_ingress
from bridge.metrics import Metrics
from bridge.net.sip_transports import SipDriver
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Answered, Ended, Event, Refused


@dataclass
class FakeLeg:
    id: str
    role: str
    offer: LegOffer
    port: int
    holds: list[bool] = field(default_factory=list)
    media: list[MediaOffer] = field(default_factory=list)
    speakers: list[tuple[str, str]] = field(default_factory=list)
    sent: list[bool] = field(default_factory=list)
    keys: list[tuple[str, int]] = field(default_factory=list)
    is_over: bool = False
    held_at: float | None = None

    @property
    def local(self) -> tuple[str, int]:
        if self.offer.media is None:
            raise InvalidState("no media")
        return ("127.0.0.1", self.port)

    @property
    def on_hold(self) -> bool:
        return self.holds[-1] if self.holds else self.offer.on_hold

    def hold(self, on: bool, now: float) -> None:
        self.holds.append(on)
        self.held_at = now

    def media_changed(self, media: MediaOffer, now: float) -> None:
        self.media.append(media)

    def speaker_changed(self, *, role: str, participant: str, now: float) -> None:
        self.speakers.append((role, participant))

    def key_pressed(self, digit: str, *, duration_ms: int, now: float) -> None:
        self.keys.append((digit, duration_ms))

    def sends(self, on: bool) -> None:
        self.sent.append(on)

    def push_pcm(self, samples: object, *, start: float, now: float) -> None:
        raise InvalidState("SIP brings RTP")

    def ended(self, now: float) -> None:
        self.is_over = True


@dataclass
class FakeCall:
    id: str
    offer: CallOffer
    control: CallControl
    legs: list[FakeLeg]
    answers: list[float] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def answered(self, now: float) -> None:
        self.answers.append(now)

    def add_leg(self, offer: LegOffer, now: float) -> FakeLeg:
        leg = make_leg(offer, len(self.legs))
        self.legs.append(leg)
        return leg

    def ended(self, reason: str, now: float) -> None:
        if not self.reasons:
            self.reasons.append(reason)


def make_leg(offer: LegOffer, n: int) -> FakeLeg:
    role = offer.role or ("caller", "agent")[n] if n < 2 else offer.role or f"party{n + 1}"
    return FakeLeg(str(n), role, offer, 20000 + 2 * n)


class FakeHost:
    """Admits `room` calls and remembers them."""

    def __init__(self, room: int = 1000) -> None:
        self.calls: list[FakeCall] = []
        self.is_accepting = True
        self.room = room
        self.trunk_settings = TrunkSettings()

    def open_call(self, offer: CallOffer, control: CallControl, now: float) -> FakeCall:
        if len(self.calls) >= self.room:
            raise CapacityError("full", retry_after=7)
        legs = [make_leg(leg, n) for n, leg in enumerate(offer.legs)]
        self.calls.append(FakeCall(str(len(self.calls)), offer, control, legs))
        return self.calls[-1]

    def trunk(self, offer: CallOffer) -> TrunkSettings:
        return self.trunk_settings

    def find_call(self, correlation: str, value: str) -> FakeCall | None:
        return next((c for c in self.calls if c.offer.correlation.get(correlation) == value and not c.reasons), None)


def settings(**sip: object) -> Settings:
    values: dict[str, object] = {"listen": ("udp:127.0.0.1:0", "tcp:127.0.0.1:0"), **sip}
    return Settings(service=ServiceSettings(), sip=SipSettings(**values))  # type: ignore[arg-type]


class Client:
    """Places calls over real sockets and remembers what came of them."""

    def __init__(self, **kwargs: object) -> None:
        self.endpoint = Endpoint(Identity(), make_token=lambda: secrets.token_hex(8))
        self.driver = SipDriver(self.endpoint, self._on_event, **kwargs)  # type: ignore[arg-type]
        self.events: list[Event] = []
        self._changed = asyncio.Event()

    def _on_event(self, event: Event, now: float) -> None:
        self.events.append(event)
        self._changed.set()

    async def wait_for(self, *kinds: type, n: int = 1) -> Event:
        """The n-th event of those kinds."""
        async with asyncio.timeout(10):
            while len(found := [event for event in self.events if isinstance(event, kinds)]) < n:
                self._changed.clear()
                await self._changed.wait()
        return found[n - 1]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Polls what the other side has to reach without telling us."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - the other side has no event for us
                await asyncio.sleep(0.005)


@asynccontextmanager
async def served(
    host: FakeHost, *, metrics: Metrics | None = None, **sip: object
) -> AsyncIterator[tuple[SipIngress, Client]]:
    """A listening ingress and a client."""
    ingress = make_sip_ingress(settings(**sip), host, metrics)  # type: ignore[arg-type]
    client = Client()
    await ingress.open()
    try:
        yield ingress, client
    finally:
        await client.driver.close()
        await ingress.driver.close()


def port_of(ingress: SipIngress, transport: str) -> int:
    return next(address.port for address in ingress.driver.bound if address.transport == transport)


def sdp(*streams: str, version: int = 1, address: str = "127.0.0.1", session: Sequence[str] = ()) -> bytes:
    lines = ["v=0", f"o=- 7 {version} IN IP4 127.0.0.1", "s=-", f"c=IN IP4 {address}", "t=0 0", *session]
    return ("\r\n".join([*lines, *streams]) + "\r\n").encode()


AUDIO = "m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000"

__all__ = ["AUDIO", "Answered", "Client", "Ended", "FakeCall", "FakeHost", "Refused", "port_of", "sdp", "served"]
