"""alphacep/vosk-server over WebSocket: a recogniser that many sites run on their own machines. Nothing is charged.

Source: vosk-server's `websocket/asr_server.py`. It compares control messages as exact strings, spaces included. Every
message but the configuration gets exactly one reply, in order. There is no keepalive, and none is needed. Newer servers
flush on `reset` and go on; the published images do not know it, so by default a pause ends the session, which flushes.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Any

from bridge.model import AudioFormat
from bridge.stt.session import (
    Accepted,
    Cure,
    Ended,
    Endpoint,
    Failed,
    Partial,
    Policy,
    Provider,
    Segment,
    StreamWord,
    SttOptions,
    common_problems,
)
from bridge.stt.session_core import CoreSession, SessionCore, State
from bridge.stt.shapes import as_dict, as_list, as_share, as_text, as_time, parse_object

FLUSH_TIMEOUT = 5.0
"""s; one machine may serve many streams, and answers when it gets to it."""


@dataclass(frozen=True, slots=True)
class VoskSettings:
    """[stt.vosk]"""

    url: str = "ws://127.0.0.1:2700"
    close_timeout_s: float = 10.0
    reset: bool = False
    "The server understands `reset`: one session then lasts over pauses."


def policy(settings: VoskSettings) -> Policy:
    return Policy(
        billed="nothing",
        close_timeout_s=settings.close_timeout_s,
        park_after_s=None if settings.reset else 0.0,
    )


class VoskSession(CoreSession):
    """One stream. Replies are counted, for a reply says nothing about what it answers."""

    def __init__(self, settings: VoskSettings, wire: AudioFormat, options: SttOptions) -> None:
        super().__init__(SessionCore(wire=wire, keepalive_s=None, flush_timeout=FLUSH_TIMEOUT))
        self._language = options.language
        self._can_reset = settings.reset
        self._asked: deque[tuple[str, float]] = deque()
        "What waits for a reply: audio, flush or end, and the stream time then."

    def connected(self, now: float) -> None:
        if self._core.state is State.CONNECTING:
            self._core.go(State.OPEN)
            rate = self._core.wire.rate_hz
            self._core.say(json.dumps({"config": {"sample_rate": rate, "words": True}}), now)
            self._core.events.append(Accepted())

    def send_audio(self, data: bytes, now: float) -> None:
        super().send_audio(data, now)
        self._asked.append(("audio", self._core.sent_s))

    def finalize(self, now: float) -> None:
        self._core.require_open("finalize")
        if not self._can_reset:
            return  # the end of the session, which follows at once, flushes
        self._core.say('{"reset" : 1}', now)
        self._core.expect_flush(now)
        self._asked.append(("flush", self._core.sent_s))

    def finish(self, now: float) -> None:
        self._core.go(State.FINISHING)
        self._core.say('{"eof" : 1}', now)
        self._asked.append(("end", self._core.sent_s))

    def handle_timer(self, now: float) -> None:
        if self._core.state is State.OPEN:
            self._core.expire_flushes(now)

    def receive_message(self, message: str | bytes, now: float) -> None:
        if self._core.state in (State.CONNECTING, State.ENDED):
            return
        found = parse_object(message)
        if found is None or not self._asked:
            self._core.malformed += 1
            return
        kind, stream = self._asked.popleft()
        self._provider_s = stream
        if "partial" in found:
            self._receive_partial(as_text(found["partial"]).strip(), stream)
        else:
            self._receive_result(found, stream, is_flush=kind != "audio")
        if kind == "flush":
            self._core.answer_flush(stream)
        elif kind == "end":
            self._core.end(Ended())

    def _receive_partial(self, text: str, stream: float) -> None:
        """Partial words have no times: they are shown at the end of what was heard."""
        parts = text.split()
        self._core.events.append(Partial(text, tuple(StreamWord(part, stream, stream, 0.0) for part in parts)))

    def _receive_result(self, found: dict[str, Any], stream: float, *, is_flush: bool) -> None:
        words = []
        for word in map(as_dict, as_list(found.get("result"))):
            start, end, text = as_time(word.get("start")), as_time(word.get("end")), as_text(word.get("word"))
            if start is not None and end is not None and text:
                words.append(StreamWord(text, start, max(start, end), as_share(word.get("conf"))))
        self._core.events.append(
            Segment(
                text=as_text(found.get("text")).strip() if words else "",
                words=tuple(words),
                end=stream,
                language=self._language,
                confidence=sum(word.confidence for word in words) / len(words) if words else 0.0,
                speech_final=is_flush or bool(words),
            )
        )

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        if self._core.state is not State.ENDED:
            self._core.end(Failed(f"{code} {reason[:60]}".strip(), Cure.RETRY))


def check(settings: VoskSettings) -> list[str]:
    return common_problems("vosk", url=settings.url)


VOSK = Provider(
    name="vosk",
    settings_type=VoskSettings,
    policy=policy,
    wire=lambda settings, leg: AudioFormat("linear16", leg.rate_hz),
    endpoint=lambda settings, wire, options: Endpoint(settings.url),
    make_session=VoskSession,
    refusal=lambda status: Cure.ELSEWHERE if 400 <= status < 500 and status != 429 else Cure.RETRY,
    check=check,
)
