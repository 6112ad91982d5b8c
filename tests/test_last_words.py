"""How a call ends: behind its last words, however late they come, and without them when they are given up."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from bridge.config import GateSettings, RtpSettings, Settings, SttSettings
from bridge.ingress.contract import CallOffer, LegOffer
from bridge.media.plane import Plane
from bridge.metrics import Metrics
from bridge.model import AudioFormat
from bridge.net.datagrams import MediaSockets
from bridge.net.rtcp_reports import RtcpReports
from bridge.publish.events import Event
from bridge.service import Service
from bridge.stt import PROVIDERS
from bridge.stt.events import Connect, SttEvent
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber
from bridge.tick import Tick
from bridge.timers import Timers
from bridge.web.feed import Feeds
from bridge.wiring import Wiring

TICK = 0.02
RATE = 16000


class Line:
    """A leg's transcription whose provider is this test: it says words when it is told to."""

    def __init__(self, audio: AudioFormat, settings: SttSettings, on_events: Callable[[list[SttEvent]], None]) -> None:
        route = Route(PROVIDERS["deepgram"], PROVIDERS["deepgram"].settings_type(api_key="k", close_timeout_s=15.0))
        options = SttOptions(replay_s=settings.replay_s)
        self.transcriber = Transcriber(
            routes=[route], audio=audio, options=options, breakers=Breakers(lambda: 0.5), random=lambda: 0.5
        )
        self.sessions: list[int] = []
        self._on_events = on_events

    def wake(self) -> None:
        self.sessions += [c.session for c in self.transcriber.take_commands() if isinstance(c, Connect)]
        events = self.transcriber.take_events()
        if events:
            self._on_events(events)

    def say(self, text: str, now: float) -> None:
        """A final result, then the end of the stream."""
        words = [{"word": text, "punctuated_word": text, "start": 0.1, "end": 0.4, "confidence": 0.9}]
        alternative = {"transcript": text, "confidence": 0.9, "words": words}
        channel = {"alternatives": [alternative]}
        result = {
            "type": "Results", "channel_index": [0, 1], "start": 0.0, "duration": 1.0, "is_final": True,
            "speech_final": True, "from_finalize": True, "channel": channel,
        }  # fmt: skip
        for message in (result, {"type": "Metadata", "duration": 1.0, "channels": 1}):
            self.transcriber.received(self.sessions[-1], json.dumps(message), now)
            self.wake()


class Phone:
    """`CallControl`."""

    def hang_up(self) -> None:
        """Nobody is told."""


class House:
    """A service without sockets: the test is its clock, its caller and its provider. Its own `Outbox`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.events: list[Event] = []
        self.lines: list[Line] = []
        self.metrics = Metrics()
        settings = Settings(gate=GateSettings(mode="off"))
        self.plane = Plane(capacity=4, chunk_ms=100, rtp=RtpSettings())
        self.sockets = MediaSockets(bind="127.0.0.1", first=40000, last=40009, capacity=4)
        self.service = Service(settings, metrics=self.metrics, outbox=self, store=None, feeds=Feeds())  # type: ignore[arg-type]
        self.timers = Timers(lambda: self.now)
        self.wiring = self._wiring()
        self.service.wire(self.wiring, None)  # type: ignore[arg-type]
        self.tick = Tick(
            self.wiring,
            self.timers,
            load=self.service.load,
            readers=self.service.readers,
            each_second=self.service.look_after,
        )

    def _wiring(self) -> Wiring:
        service = self.service
        return Wiring(
            plane=self.plane, sockets=self.sockets,
            reports=RtcpReports(self.plane.lanes, cname="test", random=lambda: 0.5),
            publish=service.publish, open_stt=self._open_stt, arm=self.timers.arm, after_read=self.timers.after_read,
            seats=[None] * 4, unix_ms=lambda: round(self.now * 1000), now=lambda: self.now, metrics=self.metrics,
            advertise=lambda peer: "127.0.0.1",
        )  # fmt: skip

    def _open_stt(
        self, audio: AudioFormat, settings: SttSettings, on_events: Callable[[list[SttEvent]], None], **_: str
    ) -> Line:
        self.lines.append(Line(audio, settings, on_events))
        return self.lines[-1]

    def publish(self, event: Event) -> int:
        self.events.append(event)
        return len(self.events)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.tick.beat(self.now)
            for line in self.lines:
                deadline = line.transcriber.deadline()
                if deadline is not None and deadline <= self.now:
                    line.transcriber.handle_timer(self.now)
                line.wake()

    def types(self) -> list[str]:
        return [event.type for event in self.events if event.type not in ("call.started", "leg.gate")]


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.sockets.close()


def spoken_to(house: House) -> Line:
    """A call of a second of noise to a provider that took it all, and was hung up."""
    call = house.service.open_call(CallOffer("webrtc", (LegOffer(role="caller"),)), Phone(), house.now)
    call.answered(house.now)
    noise = np.random.default_rng(1).normal(0, 3000, RATE).astype(np.int16)
    for n in range(50):
        call.legs[0].push_pcm(noise[n * 320 : (n + 1) * 320], start=house.now, now=house.now)
        house.run(TICK)
        (line,) = house.lines
        if n == 10:
            line.transcriber.opened(line.sessions[0], house.now)
    call.ended("hangup", house.now)
    house.run(0.1)
    return line


def test_books_for_the_case_that_the_process_dies_count_as_lost_what_is_not_final_yet(house: House) -> None:
    call = house.service.open_call(CallOffer("webrtc", (LegOffer(role="caller"),)), Phone(), house.now)
    call.answered(house.now)
    house.service.adjust(call.id, "leg1", {"mode": "off"})
    noise = np.random.default_rng(1).normal(0, 3000, RATE).astype(np.int16)
    for n in range(50):
        call.legs[0].push_pcm(noise[n * 320 : (n + 1) * 320], start=house.now, now=house.now)
        house.run(TICK)
        if n == 10:
            house.lines[0].transcriber.opened(house.lines[0].sessions[0], house.now)
    (_, last), *_ = house.service.ledgers()
    assert last["leg1"]["sent_s"] > 0.8
    assert last["leg1"]["lost_s"] == pytest.approx(1.0, abs=0.002)
    assert call.ledgers(house.now)["leg1"]["lost_s"] < 0.2, "while it runs nothing of that is lost"


def test_words_that_a_provider_gives_22_seconds_after_the_hang_up_stand_before_call_ended(house: House) -> None:
    line = spoken_to(house)
    house.run(16.0)  # 15 s without an end of the stream: another session gets the tail
    assert len(line.sessions) == 2
    line.transcriber.opened(line.sessions[-1], house.now)
    line.wake()
    house.run(6.0)
    assert "call.ended" not in house.types()
    line.say("late", house.now)
    assert house.types()[-3:] == ["transcript.final", "turn.ended", "call.ended"]


def test_a_provider_that_never_answers_does_not_keep_a_call_for_ever(house: House) -> None:
    spoken_to(house)
    house.run(60.0)
    assert house.types()[-1] == "call.ended"
    assert house.events[-1].data["legs"]["leg1"]["lost_s"] == pytest.approx(1.0, abs=0.03)
    assert house.service.list() == []


def test_a_call_that_is_over_is_not_kept_by_its_timers(house: House) -> None:
    line = spoken_to(house)
    (call,) = house.service._calls.values()
    kept = weakref.ref(call)
    del call
    line.say("bye", house.now)
    house.lines.clear()
    del line
    house.run(1.0)
    gc.collect()
    assert house.types()[-1] == "call.ended"
    assert kept() is None


async def test_a_drain_that_cannot_wait_ends_every_call_and_its_turns(house: House) -> None:
    line = spoken_to(house)
    alternative = {"transcript": "so", "confidence": 0.9, "words": [{"word": "so", "start": 0.1, "end": 0.4}]}
    result = {
        "type": "Results", "channel_index": [0, 1], "start": 0.0, "duration": 0.5, "is_final": True,
        "speech_final": False, "channel": {"alternatives": [alternative]},
    }  # fmt: skip
    line.transcriber.received(line.sessions[0], json.dumps(result), house.now)
    line.wake()
    await house.service.end_all("drain", 0.01)
    assert house.types()[-2:] == ["turn.ended", "call.ended"]
    n_events = len(house.events)
    line.say("later", house.now)
    assert len(house.events) == n_events
    assert house.service.list() == []
