"""Soniox real-time. Sources: Soniox' WebSocket API, authentication, keepalive, finalization and errors pages.

Cost: the length of the stream is charged, kept alive or not. So a pause longer than `park_after_s` ends the stream,
and the next speech, whose onset waits on the tape, starts another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
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
    SttOptions,
    common_problems,
    wire_format,
)
from bridge.stt.session_core import CoreSession, SessionCore, State
from bridge.stt.shapes import as_dict, as_list, as_text, as_time, parse_object
from bridge.stt.tokens import TokenWords

FLUSH_TIMEOUT = 3.0
"""s; `<fin>` always comes, so this is a provider in trouble."""
ACCEPTED_AFTER = 1.5
"""s without an error: a bad key is told about 1 s after the upgrade, which always succeeds (authentication page)."""
SEGMENT_MAX = 12.0
"""s of final words without an endpoint, after which a segment is closed all the same: finals must flow."""
ROTATE_AFTER = 270 * 60.0
"""s; streams end at 300 min (413), so a pause from 270 on is used to begin a new one."""
AUDIO_FORMATS = {"mulaw": "mulaw", "alaw": "alaw", "linear16": "pcm_s16le"}


@dataclass(frozen=True, slots=True)
class SonioxSettings:
    """[stt.soniox]"""

    url: str = "wss://stt-rt.soniox.com/transcribe-websocket"
    api_key: str = field(default="", repr=False)
    model: str = "stt-rt-v5"
    encoding: str = "auto"
    keepalive_s: float = 8.0
    "Soniox wants one at least every 20 s."
    park_after_s: float = 15.0
    "A pause that lasts longer ends the stream, which is charged by its length."
    close_timeout_s: float = 10.0
    trailing_silence_ms: int = 0
    "Told with a finalize: silence that was already sent at the end. 0: not told."
    key_in_start: bool = False
    "The key in the start request instead of a header: the old way, refused by Soniox from 2027-01-15."
    start: dict[str, Any] = field(default_factory=dict)
    "Fields of the start request, stronger than our own."


def endpoint(settings: SonioxSettings, wire: AudioFormat, options: SttOptions) -> Endpoint:
    with_header = bool(settings.api_key) and not settings.key_in_start
    headers = (("Authorization", f"Bearer {settings.api_key}"),) if with_header else ()
    return Endpoint(settings.url, headers)


def start_request(settings: SonioxSettings, wire: AudioFormat, options: SttOptions) -> str:
    """The first message. There is no answer to it but an error or the first tokens."""
    request: dict[str, Any] = {
        "model": settings.model,
        "audio_format": AUDIO_FORMATS[wire.encoding],
        "sample_rate": wire.rate_hz,
        "num_channels": 1,
        "enable_endpoint_detection": True,
    }
    if options.language not in ("", "multi"):
        request["language_hints"] = [options.language.split("-")[0]]
    if settings.key_in_start:
        request["api_key"] = settings.api_key
    return json.dumps(request | settings.start)


def cure_for(error_code: int) -> Cure:
    """By number, never by text, which has changed over time: 400 request, 401 key, 402 balance, 403 permission.
    What is left passes: 408, 413 (too long: a new stream), 429, 500, 503."""
    return Cure.ELSEWHERE if error_code in (400, 401, 402, 403, 404, 405) else Cure.RETRY


class SonioxSession(CoreSession):
    """One stream. The upgrade proves nothing: errors, a wrong key among them, are messages."""

    def __init__(self, settings: SonioxSettings, wire: AudioFormat, options: SttOptions) -> None:
        super().__init__(SessionCore(wire=wire, keepalive_s=settings.keepalive_s, flush_timeout=FLUSH_TIMEOUT))
        self._start = start_request(settings, wire, options)
        self._trailing_silence_ms = settings.trailing_silence_ms
        self._words = TokenWords(options.language)
        self._settled_to = 0.0
        self._accept_at: float | None = None
        self._unanswered: list[float] = []
        "Stream time of every finalize that has no `<fin>` yet, given up on or not: the answers come in order."

    def connected(self, now: float) -> None:
        if self._core.state is State.CONNECTING:
            self._core.go(State.OPEN)
            self._core.say(self._start, now)
            self._accept_at = now + ACCEPTED_AFTER

    def finalize(self, now: float) -> None:
        self._core.require_open("finalize")
        request: dict[str, Any] = {"type": "finalize"}
        if self._trailing_silence_ms:
            request["trailing_silence_ms"] = self._trailing_silence_ms
        self._core.say(json.dumps(request), now)
        self._core.expect_flush(now)
        self._unanswered.append(self._core.sent_s)

    def finish(self, now: float) -> None:
        """An empty TEXT frame; an empty binary one is only an empty chunk."""
        self._core.go(State.FINISHING)
        self._core.say("", now)

    def deadline(self) -> float | None:
        times = (super().deadline(), self._accept_at)
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        if self._accept_at is not None and self._accept_at <= now:
            self._accept()
        if self._core.state is State.OPEN:
            self._core.expire_flushes(now)
            self._core.keep_alive('{"type":"keepalive"}', now)

    def _accept(self) -> None:
        if self._accept_at is not None:
            self._accept_at = None
            self._core.events.append(Accepted())

    def receive_message(self, message: str | bytes, now: float) -> None:
        if self._core.state in (State.CONNECTING, State.ENDED):
            return
        found = parse_object(message)
        if found is None:
            self._core.malformed += 1
            return
        code = found.get("error_code")
        if isinstance(code, int) and not isinstance(code, bool):
            self._fail(code, as_text(found.get("error_type")))
            return
        self._accept()
        self._receive_tokens(found)
        if found.get("finished") is True:
            self._close_segment(self._heard_to(found), is_endpoint=True)
            if self._core.state is State.FINISHING:
                self._core.end(Ended())
            else:
                self._core.end(Failed("finished unasked", Cure.RETRY))
            self._accept_at = None

    def _receive_tokens(self, found: dict[str, Any]) -> None:
        self._provider_s = max(self._provider_s, (as_time(found.get("total_audio_proc_ms")) or 0.0) / 1000)
        self._words.begin_message()
        for token in map(as_dict, as_list(found.get("tokens"))):
            text = as_text(token.get("text"))
            is_told = token.get("translation_status") != "translation"
            if text == "<end>":
                self._close_segment(0.0, is_endpoint=True)
            elif text == "<fin>":
                self._answer_finalize()
            elif text and is_told and not self._words.add(text, token):
                self._core.malformed += 1
        if self._words.final_length > SEGMENT_MAX:
            self._close_segment(0.0, is_endpoint=False)
        text, words = self._words.all_words()
        if words:
            self._core.events.append(Partial(text, words))
        elif self._heard_to(found) > self._settled_to:
            self._close_segment(self._heard_to(found), is_endpoint=False)  # nothing but silence up to there

    def _heard_to(self, found: dict[str, Any]) -> float:
        return (as_time(found.get("final_audio_proc_ms")) or 0.0) / 1000

    def _answer_finalize(self) -> None:
        through = self._unanswered.pop(0) if self._unanswered else 0.0
        self._close_segment(through, is_endpoint=True)
        self._core.answer_flush(through)

    def _close_segment(self, heard_to: float, *, is_endpoint: bool) -> None:
        """At an endpoint every final word is whole; elsewhere the last may still grow, and waits."""
        segment = self._words.take_final(with_last=is_endpoint)
        if segment.words or heard_to:
            self._settled_to = max(self._settled_to, heard_to, segment.end)
            self._core.events.append(
                Segment(
                    text=segment.text,
                    words=segment.words,
                    end=max(heard_to, segment.end),
                    language=segment.language,
                    confidence=segment.confidence,
                    speech_final=is_endpoint,
                )
            )

    def _fail(self, code: int, kind: str) -> None:
        """`limit_exceeded` and its kin are safe to show; messages may quote what was sent."""
        self._give_what_is_final()
        self._accept_at = None
        # What a request or a permission lacks shows at its start: a session that has worked until now is tried again.
        is_late = code in (400, 403) and self._provider_s > 0
        self._core.end(Failed(f"{code} {kind[:60]}".strip(), Cure.RETRY if is_late else cure_for(code)))

    def _give_what_is_final(self) -> None:
        if self._words.final_length:
            self._close_segment(0.0, is_endpoint=False)

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        if self._core.state is State.ENDED:
            return
        self._give_what_is_final()
        self._accept_at = None
        self._core.end(Failed(f"{code} {reason[:60]}".strip(), Cure.RETRY))


def policy(settings: SonioxSettings) -> Policy:
    return Policy(
        billed="stream",
        close_timeout_s=settings.close_timeout_s,
        park_after_s=settings.park_after_s,
        rotate_after_s=ROTATE_AFTER,
    )


def check(settings: SonioxSettings) -> list[str]:
    problems = common_problems("soniox", url=settings.url, encoding=settings.encoding)
    if not settings.api_key and "soniox.com" in settings.url:
        problems.append("stt.soniox.api_key: missing (or set SONIOX_API_KEY)")
    if not 1 <= settings.keepalive_s <= 18:
        problems.append("stt.soniox.keepalive_s: must be 1 to 18, Soniox closes after 20 s")
    if settings.park_after_s < 1 or settings.close_timeout_s <= 0:
        problems.append("stt.soniox: park_after_s must be at least 1, close_timeout_s above 0")
    return problems


SONIOX = Provider(
    name="soniox",
    settings_type=SonioxSettings,
    policy=policy,
    wire=lambda settings, leg: wire_format(settings.encoding, leg),
    endpoint=endpoint,
    make_session=SonioxSession,
    refusal=cure_for,
    check=check,
)
