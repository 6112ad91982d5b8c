"""One call and its legs on the real plane and real ports: what is told in which order, and what stays behind."""

from __future__ import annotations

import gc
import socket
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import rtpcodecs
from bridge.call import Call
from bridge.config import GateSettings, ServiceSettings, Settings, SttSettings
from bridge.errors import CapacityError, PeerError
from bridge.ingress.contract import CallOffer, LegOffer, MediaOffer, PayloadFormat
from bridge.leg import Leg
from bridge.media.plane import Plane
from bridge.metrics import Metrics
from bridge.model import AudioFormat
from bridge.net.datagrams import MediaSockets
from bridge.net.rtcp_reports import RtcpReports
from bridge.publish.events import Event, Published
from bridge.rtp.packet import RtpPacket
from bridge.rtp.srtp import SrtpSender, fresh_keys
from bridge.service import Health, Service
from bridge.stt.events import Finished, SttEvent
from bridge.stt.ledger import SttLedger
from bridge.tick import Tick
from bridge.timers import Timers
from bridge.web.feed import Feeds
from bridge.wiring import Wiring

PCMU = PayloadFormat(0, rtpcodecs.CODECS["PCMU"])
AUDIO = AudioFormat("mulaw", 8000)
PORTS = (45740, 45747)  # four pairs


@dataclass
class Stt:
    """`bridge.wiring.Stt` and its transcriber in one: a provider that says what the test makes it say."""

    on_events: Callable[[list[SttEvent]], None]
    told: list[str] = field(default_factory=list)
    is_broken: bool = False

    @property
    def transcriber(self) -> Any:
        return self

    def wake(self) -> None:
        """Nothing waits."""

    def start(self, now: float) -> None:
        self.told.append("start")

    def send_audio(self, data: bytes, call_time: float, now: float) -> None:
        self.told.append("audio")

    def retime(self, by: float, since: float) -> None:
        """Nothing is kept."""

    def finalize(self, now: float) -> None:
        self.told.append("finalize")

    def purge(self, now: float) -> None:
        self.told.append("purge")

    def finish(self, now: float) -> None:
        self.told.append("finish")
        if self.is_broken:
            raise RuntimeError("a bug in one leg")

    def ledger(self, now: float) -> SttLedger:
        return SttLedger()


class Store:
    """`bridge.service.Store` of nothing."""

    async def history(self, call: str, after: str) -> AsyncIterator[Published]:
        return
        yield

    async def recent(self, limit: int) -> Sequence[dict[str, Any]]:
        return []


class Outbox(list[Event]):
    """`bridge.service.Outbox` that keeps all."""

    def publish(self, event: Event) -> int:
        self.append(event)
        return len(self)


class Control:
    """`CallControl` that counts."""

    hung_up = 0

    def hang_up(self) -> None:
        self.hung_up += 1


class House:
    """A service whose clock is a number."""

    def __init__(self) -> None:
        settings = Settings(service=ServiceSettings(max_legs=8), stt=SttSettings(provider="deepgram"))
        metrics = Metrics()
        self.now = 100.0
        self.events = Outbox()
        self.control = Control()
        self.transcriptions: list[Stt] = []
        self.plane = Plane(capacity=10, chunk_ms=100, rtp=settings.rtp)
        self.sockets = MediaSockets(bind="127.0.0.1", first=PORTS[0], last=PORTS[1], capacity=20)
        self.service = Service(settings, metrics=metrics, outbox=self.events, store=Store(), feeds=Feeds())
        self.timers = Timers(lambda: self.now)
        wiring = Wiring(
            plane=self.plane,
            sockets=self.sockets,
            reports=RtcpReports(self.plane.lanes, cname="callbridge", random=lambda: 0.5),
            publish=self.service.publish,
            open_stt=self._open_stt,
            arm=self.timers.arm,
            after_read=self.timers.after_read,
            seats=[None] * self.plane.capacity,
            unix_ms=lambda: round(self.now * 1000),
            now=lambda: self.now,
            metrics=metrics,
            advertise=lambda peer: "127.0.0.1",
        )
        self.seats = wiring.seats
        self.service.wire(wiring, Health(lambda: True, lambda: True, "test"))
        self.tick = Tick(
            wiring,
            self.timers,
            load=self.service.load,
            readers=self.service.readers,
            each_second=self.service.look_after,
        )

    def _open_stt(
        self,
        audio: AudioFormat,
        settings: SttSettings,
        on_events: Callable[[list[SttEvent]], None],
        *,
        call: str,
        leg: str,
    ) -> Stt:
        self.transcriptions.append(Stt(on_events))
        return self.transcriptions[-1]

    def open(self, n_legs: int = 1, **leg: Any) -> Call:
        offer = LegOffer(media=MediaOffer((PCMU,)), **leg)
        return self.service.open_call(CallOffer("sip", (offer,) * n_legs), self.control, self.now)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.02)):
            self.now += 0.02
            self.tick.beat(self.now)

    def types(self) -> list[str]:
        return [event.type for event in self.events if event.type != "leg.gate"]

    def left_behind(self) -> tuple[int, int, int]:
        """Ports, seats in the plane, calls."""
        return self.sockets.in_use, sum(seat is not None for seat in self.seats), len(self.service.list())


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.sockets.close()


def test_a_call_that_gets_no_port_leaves_nothing_behind_and_says_nothing(house: House) -> None:
    with pytest.raises(CapacityError):
        house.open(n_legs=5)  # there are ports for four
    house.run(0.1)
    assert house.left_behind() == (0, 0, 0)
    assert house.events == []


def test_a_leg_that_left_before_the_answer_is_not_part_of_the_call(house: House) -> None:
    call = house.open(n_legs=2)
    call.legs[0].ended(house.now)
    house.run(0.1)
    call.answered(house.now)
    house.run(0.1)
    assert house.types() == ["call.started"]
    assert [leg["leg"] for leg in house.events[0].data["legs"]] == ["leg2"]
    assert house.left_behind() == (1, 1, 1)
    call.ended("hangup", house.now)
    house.run(0.1)
    house.transcriptions[0].on_events([Finished()])
    assert house.types() == ["call.started", "call.ended"]
    assert list(house.events[-1].data["legs"]) == ["leg2"]
    assert house.left_behind() == (0, 0, 0)


def test_a_call_that_ended_in_a_long_standstill_still_waits_for_its_last_words(house: House) -> None:
    call = house.open()
    call.answered(house.now)
    house.run(0.1)
    ended = house.now
    house.now += 200.0  # longer than last words are waited for
    call.ended("hangup", ended)
    house.run(0.1)
    assert house.types() == ["call.started"]
    house.transcriptions[0].on_events([Finished()])
    assert house.types() == ["call.started", "call.ended"]
    assert house.events[-1].data["duration_s"] == pytest.approx(0.1)


def test_a_leg_whose_end_fails_keeps_neither_its_port_nor_the_call_open(house: House) -> None:
    call = house.open(n_legs=2)
    call.answered(house.now)
    house.run(0.1)
    house.transcriptions[0].is_broken = True
    call.ended("hangup", house.now)
    house.run(0.1)
    assert house.transcriptions[1].told[-1] == "finish", "the other leg gets its last words"
    house.transcriptions[1].on_events([Finished()])
    house.run(200.0)
    assert house.types()[-1] == "call.ended"
    assert house.left_behind() == (0, 0, 0)


def test_a_leg_whose_books_cannot_be_read_at_its_end_keeps_neither_its_row_nor_the_call_open(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = house.open(n_legs=2)
    call.answered(house.now)
    house.run(0.1)
    read, broken = house.plane.books, call.legs[0].row
    monkeypatch.setattr(house.plane, "books", lambda row: _fail() if row == broken else read(row))
    call.ended("hangup", house.now)
    house.run(0.1)
    for transcription in house.transcriptions:
        transcription.on_events([Finished()])
    assert house.types()[-1] == "call.ended"
    ledgers = house.events[-1].data["legs"]
    assert [ledgers[leg]["role"] for leg in ("leg1", "leg2")] == ["caller", "agent"]
    assert house.left_behind() == (0, 0, 0)
    monkeypatch.undo()
    assert len([house.plane.open_leg(AUDIO, GateSettings(), house.now) for _ in range(10)]) == 10, "all rows"


def test_a_speaker_who_is_named_before_the_answer_stands_in_its_first_event(house: House) -> None:
    call = house.open()
    call.legs[0].speaker_changed(role="agent", participant="sip:a@example.org", now=house.now)
    call.answered(house.now)
    assert house.types() == ["call.started"]
    assert house.events[0].data["legs"] == [
        {"leg": "leg1", "role": "agent", "codec": "PCMU", "participant": "sip:a@example.org"}
    ]


def test_a_call_that_starts_on_hold_says_so_in_its_first_gate_event(house: House) -> None:
    call = house.open(on_hold=True)
    call.answered(house.now)
    house.run(0.1)
    gates = [(event.data["state"], event.data.get("cause")) for event in house.events if event.type == "leg.gate"]
    assert gates == [("closed", "hold")]


def test_a_leg_that_fails_in_the_tick_takes_its_peer_off_the_line_when_it_was_the_last(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = house.open(n_legs=2)
    call.answered(house.now)
    for n, transcription in enumerate(house.transcriptions):
        transcription.is_broken = True
        call.act(call.legs[n].id, "pause", house.now)  # a gate that moves, so that the leg has something to do
    monkeypatch.setattr(Leg, "_on_gate", _fail)
    house.run(0.1)
    assert house.control.hung_up == 1
    assert house.types()[-1] == "call.ended"
    assert house.left_behind() == (0, 0, 0)


def test_a_hold_that_fails_when_it_comes_into_force_ends_its_leg_and_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = house.open(n_legs=2)
    call.answered(house.now)
    house.run(0.1)
    monkeypatch.setattr(house.plane, "signal", _fail)
    call.legs[0].hold(True, house.now)
    house.run(0.1)
    house.transcriptions[0].on_events([Finished()])
    assert [leg.is_closed for leg in call.legs] == [True, False]
    assert house.types() == ["call.started", "leg.ended"]


def _fail(*_: object) -> None:
    raise RuntimeError("a bug in one leg")


def test_a_repeated_offer_does_not_make_a_secure_leg_deaf_once_its_sequence_numbers_have_wrapped(house: House) -> None:
    keys = fresh_keys("AES_CM_128_HMAC_SHA1_80", lambda n: bytes(range(n)))
    media = MediaOffer((PCMU,), srtp=keys)
    call = house.service.open_call(CallOffer("sip", (LegOffer(media=media),)), house.control, house.now)
    call.answered(house.now)
    sender = SrtpSender(keys)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for n in range(60):
            if n == 40:
                call.legs[0].media_changed(replace(media), house.now)  # a session refresh, say
            packet = RtpPacket(0, (65520 + n) & 0xFFFF, n * 160, 7, bytes(160))
            peer.sendto(sender.protect(packet.build()), call.legs[0].local)
            house.run(0.02)
    assert call.ledgers(house.now)["leg1"]["packets"] == {"received": 60, "lost": 0, "late": 0, "duplicate": 0}


def test_a_legs_gate_settings_change_at_the_next_tick_and_wrong_ones_change_nothing(house: House) -> None:
    call = house.open(2)
    call.answered(house.now)
    house.run(0.1)
    assert house.service.adjust(call.id, "leg1", {"mode": "off"})
    house.run(0.02)
    gates = [(e.leg, e.data["state"], e.data["reason"]) for e in house.events if e.type == "leg.gate"]
    assert gates == [("leg1", "closed", "start"), ("leg2", "closed", "start"), ("leg1", "open", "settings")]
    with pytest.raises(PeerError, match=r"gate\.hangover_ms: must be at least 100"):
        house.service.adjust(call.id, "leg1", {"mode": "speech", "hangover_ms": 5})
    told = [leg["gate_settings"] for leg in house.service.list()[0]["legs"]]
    assert [settings["mode"] for settings in told] == ["off", "speech"]
    assert not house.service.adjust(call.id, "leg9", {})
    assert not house.service.adjust("nobody", "leg1", {})


def test_a_call_that_is_over_is_freed_at_once_and_not_by_the_garbage_collector(house: House) -> None:
    call = house.open(2)
    call.answered(house.now)
    left = [weakref.ref(thing) for thing in (call, *call.legs, *(leg._speech for leg in call.legs))]
    house.run(1.0)
    gc.disable()
    try:
        call.ended("hangup", house.now)
        house.run(0.1)
        for transcription in house.transcriptions:
            transcription.on_events([Finished()])
            transcription.on_events = lambda _: None  # as the driver does
        assert house.events[-1].type == "call.ended"
        house.run(5.0)  # whatever timers are armed
        del call, transcription
        assert [thing() for thing in left] == [None] * len(left)
    finally:
        gc.enable()
