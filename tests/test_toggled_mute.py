"""Mute on, mute off, every 100 ms: what is heard has its place in the call, through plane and provider."""

from __future__ import annotations

import pytest

from bridge.config import GateSettings
from bridge.media.outputs import Output
from bridge.model import AudioFormat, Cause
from bridge.stt import PROVIDERS
from bridge.stt.events import Connect, Final, SttEvent, Transmit
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber
from tests.media.sender import Sender, arrivals, audio
from tests.media.test_plane import plane_with_leg
from tests.stt.peers import SILENCE, DeepgramPeer, Heard

ORIGIN = 100.0  # monotonic: the call's zero
SECONDS = 6.0
"Words are of 0.2 s at most: constant bytes for any longer are a tone to the ears."
MUTED = [(0.5 + 0.2 * n, 0.6 + 0.2 * n) for n in range(8)] + [(2.1, 2.6), (3.5, 3.6)]


class CoarsePeer(DeepgramPeer):
    """Places a word `early` seconds before its first sound, as a model with frames of its own does."""

    early = 0.0

    def _words(self, start: float, end: float, *, is_final: bool) -> list[Heard]:
        words = super()._words(start, end, is_final=is_final)
        return [Heard(word.number, max(word.start - self.early, 0.0), word.end) for word in words]


class Ear:
    """A transcription whose provider answers at once."""

    def __init__(self, early: float) -> None:
        route = Route(PROVIDERS["deepgram"], PROVIDERS["deepgram"].settings_type(api_key="k"))
        self.leg = Transcriber(
            routes=[route], audio=AudioFormat("mulaw", 8000), options=SttOptions(), breakers=Breakers(lambda: 0.5),
            random=lambda: 0.5,
        )  # fmt: skip
        self.peer = CoarsePeer()
        self.peer.early = early
        self.events: list[SttEvent] = []

    def take(self, outputs: list[Output], now: float) -> None:
        for chunk in audio(outputs):
            self.leg.send_audio(chunk.data, chunk.start - ORIGIN, now)
        while commands := self.leg.take_commands():
            for command in commands:
                if isinstance(command, Connect):
                    self.leg.opened(command.session, now)
                elif isinstance(command, Transmit):
                    self.peer.receive(command.message, now)
                    for reply in self.peer.replies:
                        self.leg.received(command.session, reply, now)
                    self.peer.replies = []
        self.events += self.leg.take_events()


def heard(spoken: list[tuple[float, float]], early: float) -> list[tuple[float, float]]:
    """Start and end of each word of a call whose mute is toggled as `MUTED` says."""
    track = bytearray([SILENCE]) * round(SECONDS * 8000)
    for number, (start, end) in enumerate(spoken, 1):
        track[round(start * 8000) : round(end * 8000)] = bytes([number]) * (round(end * 8000) - round(start * 8000))
    (plane, row), sender, ear = plane_with_leg(GateSettings(mode="hold")), Sender(), Ear(early)
    toggles = sorted((at, on) for start, end in MUTED for at, on in ((start, True), (end, False)))
    for n in range(round(SECONDS * 50)):
        now = ORIGIN + 0.02 * (n + 1)
        plane.incoming.push(arrivals([(row, sender.packet(bytes(track[160 * n : 160 * n + 160])), now)]))
        while toggles and toggles[0][0] <= now - ORIGIN + 1e-6:
            plane.signal(row, Cause.MUTE, toggles.pop(0)[1], now)
        ear.take(plane.tick(now), now)
    ear.take(plane.close_leg(row, now), now)
    ear.leg.finish(now)
    ear.take([], now)
    words = [word for event in ear.events if isinstance(event, Final) for word in event.words]
    return [(word.start, word.end) for word in words]


@pytest.mark.parametrize("early", [0.0, 0.001, 0.015, 0.08])
def test_a_word_that_began_muted_is_told_as_of_its_first_sound_that_was_heard(early: float) -> None:
    spoken = [(1.02, 1.1), (2.5, 2.78), (3.52, 3.78), (4.5, 4.68)]
    audible = [(1.02, 1.1), (2.6, 2.78), (3.6, 3.78), (4.5, 4.68)]
    told = heard(spoken, early)
    assert len(told) == len(audible)
    for (start, end), (began, ended) in zip(told, audible, strict=True):
        assert start == pytest.approx(began - early, abs=0.02)
        assert end == pytest.approx(ended, abs=0.02)


def test_a_word_that_was_muted_in_its_middle_keeps_both_its_ends() -> None:
    ((start, end),) = heard([(3.38, 3.74)], 0.0)
    assert (start, end) == (pytest.approx(3.38, abs=0.02), pytest.approx(3.74, abs=0.02))
