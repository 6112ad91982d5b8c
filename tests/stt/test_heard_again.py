"""What a replay says again is known for as long as a session may still say it, though the tape has let go of it."""

from __future__ import annotations

import json

import pytest

from bridge.model import AudioFormat
from bridge.stt import PROVIDERS
from bridge.stt.events import Connect, Final
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber

WHOLE, ITS_TAIL, NEXT = (9.5, 10.1), (10.0, 10.15), (10.4, 10.8)  # s


def results(start: float, duration: float, *words: tuple[str, float, float]) -> str:
    said = [{"word": text, "start": begin, "end": end, "confidence": 1.0} for text, begin, end in words]
    alternative = {"transcript": " ".join(text for text, _, _ in words), "confidence": 1.0, "words": said}
    message = {"type": "Results", "start": start, "duration": duration, "is_final": True}
    return json.dumps(message | {"channel": {"alternatives": [alternative]}})


class Line:
    """One leg over Deepgram; the first session is lost after 12 s, with a word of its last final told to 10.1 s."""

    def __init__(self, replay_s: float = 60.0) -> None:
        deepgram = PROVIDERS["deepgram"]
        route = Route(deepgram, deepgram.settings_type(api_key="k"))
        self.leg = Transcriber(
            routes=[route], audio=AudioFormat("mulaw", 8000), options=SttOptions(replay_s=replay_s),
            breakers=Breakers(lambda: 0.5), random=lambda: 0.5,
        )  # fmt: skip
        self.leg.start(0.0)
        self.speak(0.0, 0.1)
        first = self.session()
        self.leg.opened(first, 0.1)
        self.speak(0.1, 12.0)
        self.leg.received(first, results(0.0, 10.0, ("hello", *WHOLE)), 12.0)
        self.leg.closed(first, code=1006, reason="", now=12.0)
        self.leg.handle_timer(14.0)
        self.second = self.session()
        self.leg.opened(self.second, 14.0)

    def speak(self, start: float, end: float) -> None:
        for n in range(round(start * 10), round(end * 10)):
            self.leg.send_audio(bytes(800), n / 10, n / 10 + 0.1)
            self.leg.handle_timer(n / 10 + 0.1)

    def session(self) -> int:
        return [c.session for c in self.leg.take_commands() if isinstance(c, Connect)][-1]

    def hear_again(self, now: float) -> list[str]:
        """What is told, in all, once the second session has said the tail and what follows it."""
        words = [("lo", *ITS_TAIL), ("world", *NEXT)]
        from_10 = [(text, start - 10.0, end - 10.0) for text, start, end in words]
        self.leg.received(self.second, results(0.0, 1.0, *from_10), now)
        finals = [event for event in self.leg.take_events() if isinstance(event, Final)]
        return [word.text for final in finals for word in final.words]


def test_while_the_tape_holds_what_is_replayed() -> None:
    line = Line()
    line.speak(14.0, 16.0)
    assert line.hear_again(16.0) == ["hello", "world"]


def test_behind_a_pause_that_has_forgotten_the_audio() -> None:
    line = Line()
    line.speak(14.0, 16.0)
    line.leg.purge(16.0)
    assert line.hear_again(16.1) == ["hello", "world"]


@pytest.mark.parametrize("replay_s", [4.0])
def test_behind_a_tape_that_has_overflowed(replay_s: float) -> None:
    line = Line(replay_s)
    line.speak(14.0, 24.0)
    assert line.hear_again(24.0) == ["hello", "world"]
