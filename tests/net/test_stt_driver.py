"""Transcribers on real sockets, against the tests' small recognisers behind a real WebSocket server."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import structlog
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from bridge.net.stt_driver import SttDriver, SttDrivers
from bridge.stt import PROVIDERS
from bridge.stt.events import Final, Finished, Lost, Restored, SttEvent
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber
from tests.stt.peers import MULAW, RATE, Peer
from tests.stt.rig import PEERS, Rig, Spoken, speech

CHUNK = 0.1


@dataclass
class Service:
    """One provider, served: a peer for each connection."""

    kind: type[Peer]
    peers: list[Peer] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    drop_after: list[float] = field(default_factory=list)
    port: int = 0

    def greet(self, ws: ServerConnection, request: Request) -> Response | None:
        self.paths.append(request.path)
        if not self.refusals:
            return None
        headers = Headers({"dg-error": "no for Token k-123", "dg-request-id": "r", "Content-Length": "0"})
        return Response(self.refusals.pop(0), "No", headers, b"")

    async def serve(self, ws: ServerConnection) -> None:
        peer = self.kind()
        self.peers.append(peer)
        drop_after = self.drop_after.pop(0) if self.drop_after else None
        try:
            async for message in ws:
                peer.receive(message, time.monotonic())
                if drop_after is not None and peer.seconds >= drop_after:
                    ws.transport.abort()
                    return
                for reply in peer.replies:
                    await ws.send(reply)
                peer.replies.clear()
                if peer.close is not None:
                    await ws.close(*peer.close)
                    return
        except ConnectionClosed:
            return


@asynccontextmanager
async def service(provider: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    made = Service(PEERS[provider])
    async with serve(made.serve, "127.0.0.1", 0, process_request=made.greet, ssl=tls) as server:
        made.port = next(iter(server.sockets)).getsockname()[1]
        yield made


class Leg:
    """One leg that speaks `words` much faster than life: pace is the transcriber's own affair."""

    def __init__(
        self,
        drivers: SttDrivers,
        routes: list[tuple[str, int]],
        words: list[Spoken],
        breakers: Breakers,
        host: str = "ws://127.0.0.1",
    ) -> None:
        made = [Route(PROVIDERS[name], settings(name, port, host)) for name, port in routes]
        self.transcriber = Transcriber(
            routes=made, audio=MULAW, options=SttOptions(), breakers=breakers, random=random.random
        )
        self.events: list[SttEvent] = []
        self.finished = asyncio.Event()
        self.lost = asyncio.Event()
        self.driver: SttDriver = drivers.attach(self.transcriber, self._on_events, call="c", leg="l")
        self.words = words
        self._script = Rig(["deepgram"], words, [])

    def _on_events(self, events: list[SttEvent]) -> None:
        self.events += events
        if any(isinstance(event, Lost) for event in events):
            self.lost.set()
        if isinstance(events[-1], Finished):
            self.finished.set()

    def tell(self, what: Callable[[Transcriber, float], None]) -> None:
        what(self.transcriber, time.monotonic())
        self.driver.wake()

    def speak(self, start: float, end: float) -> None:
        samples = round(CHUNK * RATE)
        for n in range(round(start / CHUNK), round(end / CHUNK)):
            data = self._script.audio(n * CHUNK, samples)
            self.tell(lambda leg, now, data=data, at=n * CHUNK: leg.send_audio(data, at, now))  # type: ignore[misc]

    async def hang_up(self) -> None:
        self.tell(lambda leg, now: leg.finish(now))
        async with asyncio.timeout(30):
            await self.finished.wait()

    def transcript(self) -> list[tuple[str, float, float]]:
        finals = [event for event in self.events if isinstance(event, Final)]
        return [(w.text, round(w.start, 2), round(w.end, 2)) for final in finals for w in final.words]

    def expected(self) -> list[tuple[str, float, float]]:
        return [(f"w{w.number}", round(w.start, 2), round(w.end, 2)) for w in self.words]


def settings(name: str, port: int, host: str = "ws://127.0.0.1") -> object:
    path = {"deepgram": "/v1/listen", "soniox": "/transcribe-websocket"}.get(name, "/")
    values = {"url": f"{host}:{port}{path}"}
    if name in ("deepgram", "soniox"):
        values["api_key"] = "k-123"
    return PROVIDERS[name].settings_type(**values)


def breakers() -> Breakers:
    return Breakers(random.random)


@pytest.mark.parametrize("provider", ["deepgram", "soniox", "vosk"])
async def test_words_come_through_a_real_socket(provider: str) -> None:
    async with service(provider) as served, SttDrivers() as drivers:
        leg = Leg(drivers, [(provider, served.port)], speech(0.1, 0.8, 1), breakers())
        leg.speak(0.0, 0.8)
        await leg.hang_up()
        assert leg.transcript() == leg.expected()
        assert leg.transcriber.ledger(time.monotonic()).sent_s == pytest.approx(0.8)
        assert served.peers[0].seconds == pytest.approx(0.8)


@pytest.mark.parametrize("provider", ["deepgram", "soniox"])
async def test_a_line_cut_in_speech_is_replayed_without_loss(provider: str) -> None:
    async with service(provider) as served, SttDrivers() as drivers:
        served.drop_after = [0.6]
        leg = Leg(drivers, [(provider, served.port)], speech(0.1, 1.2, 1), breakers())
        leg.speak(0.0, 1.2)
        await leg.hang_up()
        assert leg.transcript() == leg.expected()
        assert [type(e) for e in leg.events if isinstance(e, (Lost, Restored))] == [Lost, Restored]
        assert len(served.peers) == 2


async def test_a_wrong_key_fails_over_at_once_and_is_told_without_the_key() -> None:
    async with service("deepgram") as first, service("soniox") as second, SttDrivers() as drivers:
        first.refusals = [401]
        routes = [("deepgram", first.port), ("soniox", second.port)]
        with structlog.testing.capture_logs() as logs:
            leg = Leg(drivers, routes, speech(0.1, 0.8, 1), breakers())
            leg.speak(0.0, 0.8)
            await leg.hang_up()
        assert leg.transcript() == leg.expected()
        (lost,) = [e for e in leg.events if isinstance(e, Lost)]
        assert lost.provider == "deepgram"
        assert lost.reason.startswith("401")
        refused = next(line for line in logs if line["event"] == "stt refused")
        assert (refused["status"], refused["request_id"]) == (401, "r")
        assert "k-123" not in repr(logs) + repr(leg.events)


async def test_a_port_where_nobody_listens_is_tried_again() -> None:
    async with service("deepgram") as served:
        port = served.port
    async with SttDrivers() as drivers:
        leg = Leg(drivers, [("deepgram", port)], speech(0.1, 0.8, 1), breakers())
        leg.speak(0.0, 0.8)
        async with asyncio.timeout(10):
            await leg.lost.wait()
        served = Service(PEERS["deepgram"])
        async with serve(served.serve, "127.0.0.1", port):
            await leg.hang_up()
        assert leg.transcript() == leg.expected()


@pytest.mark.parametrize("provider", ["deepgram", "soniox"])
async def test_the_last_words_of_100_legs_hung_up_in_mid_word_are_all_there(provider: str) -> None:
    async with service(provider) as served, SttDrivers() as drivers:
        shared = breakers()
        words = [Spoken(1, 0.1, 0.3)]
        legs = [Leg(drivers, [(provider, served.port)], words, shared) for _ in range(100)]
        for leg in legs:
            leg.words = [Spoken(1, 0.1, 0.2)]  # what there is of it at the hang-up
            leg.speak(0.0, 0.2)
        await asyncio.gather(*(leg.hang_up() for leg in legs))
        assert [leg.transcript() for leg in legs] == [leg.expected() for leg in legs]


async def test_a_bug_in_one_leg_ends_it_and_leaves_the_others_alone() -> None:
    async with service("deepgram") as served, SttDrivers() as drivers:
        shared = breakers()
        good = Leg(drivers, [("deepgram", served.port)], speech(0.1, 0.8, 1), shared)
        bad = Leg(drivers, [("deepgram", served.port)], speech(0.1, 0.8, 1), shared)

        def broken(session: int, message: str | bytes, now: float) -> None:
            raise RuntimeError("a bug")

        bad.transcriber.received = broken  # type: ignore[method-assign]
        for leg in (good, bad):
            leg.speak(0.0, 0.8)
        await asyncio.gather(good.hang_up(), bad.hang_up())
        assert good.transcript() == good.expected()
        assert [type(event) for event in bad.events] == [Finished]
