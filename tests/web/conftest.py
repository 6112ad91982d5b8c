"""A real server on a loopback port, over fakes named after the Protocols of bridge.web.contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from bridge.config import HttpSettings
from bridge.errors import CapacityError, PeerError, SdpError, SinkError
from bridge.metrics import Metrics
from bridge.publish.events import Event, Published
from bridge.web.contract import CallWish, Verb, Whip
from bridge.web.feed import Feeds, QueueFeed
from bridge.web.server import WebServer


def published(event: Event, seq: int) -> Published:
    names = ("type", "call", "at_ms", "leg", "role", "text", "start", "end", "data")
    return Published(**{name: getattr(event, name) for name in names}, seq=seq)


class FakeCalls:
    """Two calls, and a store that may lag behind or be away."""

    def __init__(self) -> None:
        gate = {"state": "open", "cause": None, "since": 0.0}
        leg = {"leg": "a", "role": "caller", "codec": "PCMU", "gate": gate}
        self.live = {call: {"id": call, "ingress": "sip", "legs": [dict(leg)]} for call in ("one", "two")}
        self.done: list[tuple[Any, ...]] = []
        self.feeds = Feeds()
        self.stored: list[Published] = []
        self.is_store_away = False
        self.state: dict[str, Any] = {"is_draining": False, "sip_bound": True, "sink_writable": True, "legs": 2}

    def list(self) -> list[dict[str, Any]]:
        return list(self.live.values())

    def get(self, call: str) -> dict[str, Any] | None:
        return self.live.get(call)

    def adjust(self, call: str, leg: str, changes: Mapping[str, Any]) -> bool:
        if changes.get("hangover_ms", 100) < 100:
            raise PeerError("gate.hangover_ms: must be at least 100")
        if call not in self.live or leg != "a":
            return False
        self.done.append((call, leg, dict(changes)))
        return True

    def act(self, call: str, leg: str, verb: Verb, at: float) -> bool:
        if call not in self.live or leg != "a":
            return False
        self.done.append((call, leg, verb))
        return True

    def end(self, call: str) -> bool:
        return self.live.pop(call, None) is not None

    def status(self) -> dict[str, Any]:
        return self.state

    def subscribe(self, call: str = "") -> QueueFeed:
        return self.feeds.subscribe(call)

    async def history(self, call: str, after: str) -> AsyncIterator[Published]:
        if self.is_store_away:
            raise SinkError("no connection")
        for event in list(self.stored):
            if call and event.call == call and event.seq > int(after or 0):
                yield event
            if not call and event.at_ms >= int(after):
                yield event

    async def recent(self, limit: int) -> list[dict[str, Any]]:
        if self.is_store_away:
            raise SinkError("no connection")
        calls = dict.fromkeys(event.call for event in self.stored)
        return [{"id": call, "since": "2026-11-21T12:00:00.000Z"} for call in calls][:limit]

    def happen(self, event: Published, *, is_stored: bool = True) -> None:
        if is_stored:
            self.stored.append(event)
        self.feeds.offer(event)


class FakeExternalMedia:
    def __init__(self) -> None:
        self.wishes: list[CallWish] = []
        self.is_full = False

    def open(self, wish: CallWish, *, source: str, now: float) -> dict[str, Any]:
        if self.is_full:
            raise CapacityError("No legs left.", retry_after=7)
        unknown = [codec for leg in wish.legs for codec in leg.codecs if codec not in ("PCMU", "PCMA")]
        if unknown:
            raise PeerError(f"No such codec: {unknown[0]}")
        self.wishes.append(wish)
        where = {"address": "127.0.0.1", "port": 20000}
        return {"id": "new", "legs": [{"leg": str(n), "role": leg.role} | where for n, leg in enumerate(wish.legs)]}


@dataclass
class FakeAnswer:
    session: str
    call: str
    leg: str
    sdp: str


class FakeWhip:
    def __init__(self) -> None:
        self.sessions: dict[str, tuple[str, str]] = {}
        self.candidates: list[str] = []

    async def offer(self, sdp: str, *, call: str, role: str, source: str) -> FakeAnswer:
        if not sdp.startswith("v=0"):
            raise PeerError("not a session description")
        if "m=audio" not in sdp:
            raise SdpError("no audio")
        if call == "gone":
            raise LookupError(call)
        self.sessions["secret"] = (call, role)
        return FakeAnswer(session="secret", call=call or "new", leg="b", sdp="v=0\r\n")

    def has(self, session: str) -> bool:
        return session in self.sessions

    async def trickle(self, session: str, fragment: str) -> None:
        if session not in self.sessions:
            raise LookupError(session)
        if "a=ice-ufrag:new" in fragment:
            raise SdpError("no ICE restarts")
        self.candidates.append(fragment)

    async def end(self, session: str) -> bool:
        return self.sessions.pop(session, None) is not None


class Site:
    """A running server and a client for it."""

    def __init__(self, settings: HttpSettings, whip: Whip | None = None) -> None:
        self.calls, self.external, self.whip = FakeCalls(), FakeExternalMedia(), FakeWhip()
        self.metrics = Metrics()
        self.server = WebServer(
            settings, self.calls, metrics=self.metrics, external=self.external, whip=whip or self.whip
        )
        self.client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.server.address)

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Status and body, the body as JSON where it is."""
        async with self.client.request(method, self.url + path, **more) as response:
            is_json = "json" in response.content_type
            return response.status, await (response.json(content_type=None) if is_json else response.text())


Serve = Callable[..., AbstractAsyncContextManager[Site]]


@asynccontextmanager
async def serving(**settings: Any) -> AsyncIterator[Site]:
    site = Site(replace(HttpSettings(listen="127.0.0.1:0"), **settings))
    await site.server.open()
    try:
        async with aiohttp.ClientSession() as site.client:
            yield site
    finally:
        await site.server.close()


@pytest.fixture
def serve() -> Serve:
    return serving


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with serving() as one:
        yield one
