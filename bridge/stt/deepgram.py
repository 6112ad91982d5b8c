"""Deepgram live v1. Sources: Deepgram's keepalive, close-stream, finalize and audio-keep-alive pages, its AsyncAPI.

Cost: audio sent is charged, a connection is not. So a session is held by `KeepAlive` for as long as a hold lasts.
It is opened at the first audio: a stream that never had any is closed (NET-0001, NET-0000) however often it is kept
alive, and silence sent only to prevent that would be charged. What the handshake takes (0.13 to 0.3 s) is buffered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from bridge.model import AudioFormat
from bridge.stt.repeats import Repeats
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
    wire_format,
)
from bridge.stt.session_core import CoreSession, SessionCore, State
from bridge.stt.shapes import as_dict, as_list, as_share, as_text, as_time, parse_object

FLUSH_TIMEOUT = 2.0
"""s; replies to Finalize come within some 0.3 s, and none at all is legal (finalize page)."""
FLUSH_TOLERANCE = 0.3
"""s; a flush's last segment may end this far before the audio did (model frames)."""


@dataclass(frozen=True, slots=True)
class DeepgramSettings:
    """[stt.deepgram]"""

    url: str = "wss://api.deepgram.com/v1/listen"
    api_key: str = field(default="", repr=False)
    model: str = "nova-3"
    encoding: str = "auto"
    "auto (as it arrives: mulaw, alaw, linear16), mulaw, alaw or linear16."
    keepalive_s: float = 4.0
    "Deepgram closes after 10 s without audio or text and advises 3 to 5."
    close_timeout_s: float = 10.0
    prime_s: float = 0.0
    "Above 0: connect when the call is answered and send so much silence, which is charged; 0: at the first audio."
    query: dict[str, Any] = field(default_factory=dict)
    "Passed through, and stronger than our own: any parameter; a list repeats it."


def endpoint(settings: DeepgramSettings, wire: AudioFormat, options: SttOptions) -> Endpoint:
    """URL with every parameter, and the key as a header. `endpointing` is 300 ms unless the query says otherwise:
    Deepgram's own 10 ms cuts a segment at every breath."""
    ours: dict[str, Any] = {
        "model": settings.model,
        "language": options.language,
        "encoding": wire.encoding,
        "sample_rate": wire.rate_hz,
        "channels": 1,
        "interim_results": options.interim,
        "punctuate": True,
        "endpointing": 300,
    }
    parts = urlsplit(settings.url)
    given: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        given.setdefault(name, []).append(value)
    query = urlencode(list(_spelled(ours | given | settings.query)))
    headers = (("Authorization", f"Token {settings.api_key}"),) if settings.api_key else ()
    return Endpoint(urlunsplit(parts._replace(query=query)), headers)


def _spelled(query: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in query.items():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            yield name, str(one).lower() if isinstance(one, bool) else str(one)


def refusal(status: int) -> Cure:
    """400 parameters, 401 key, 402 credit, 403 permission, 404 and 405 address: only another route helps. 429 and
    5xx pass."""
    return Cure.ELSEWHERE if status in (400, 401, 402, 403, 404, 405) else Cure.RETRY


class DeepgramSession(CoreSession):
    """One stream. The upgrade has checked key and parameters, so an open one is accepted; nothing greets us."""

    def __init__(self, settings: DeepgramSettings, wire: AudioFormat, options: SttOptions) -> None:
        super().__init__(SessionCore(wire=wire, keepalive_s=settings.keepalive_s, flush_timeout=FLUSH_TIMEOUT))
        self._language = options.language
        self._flushed_channel: int | None = None
        self._repeats = Repeats()

    def connected(self, now: float) -> None:
        if self._core.state is not State.CONNECTING:
            return
        self._core.go(State.OPEN)
        self._core.last_sent = now
        self._core.events.append(Accepted())

    def finalize(self, now: float, *, channel: int | None = None) -> None:
        """`channel` counts from 0; None flushes all. We send one channel, so the bridge never names it."""
        self._core.require_open("finalize")
        message = '{"type":"Finalize"}' if channel is None else f'{{"type":"Finalize","channel":{channel}}}'
        self._core.say(message, now)
        self._core.expect_flush(now)
        self._flushed_channel = channel

    def finish(self, now: float) -> None:
        """CloseStream. It stands behind all audio, because everything goes through one queue."""
        self._core.go(State.FINISHING)
        self._core.say('{"type":"CloseStream"}', now)

    def handle_timer(self, now: float) -> None:
        if self._core.state is State.OPEN:
            self._core.expire_flushes(now)
            self._core.keep_alive('{"type":"KeepAlive"}', now)  # TEXT: a binary one would be taken for audio

    def receive_message(self, message: str | bytes, now: float) -> None:
        if self._core.state in (State.CONNECTING, State.ENDED):
            return
        found = parse_object(message)
        if found is None:
            self._core.malformed += 1
            return
        kind = found.get("type")
        if kind == "Results":
            self._receive_results(found)
        elif kind == "Metadata":
            self._receive_metadata(found)
        # UtteranceEnd may be late or -1, SpeechStarted may repeat or be missing: our gate ends turns, so both are
        # only heard. Error is not terminal, nor is any reply to Configure. Unknown types are the future.

    def _receive_results(self, found: dict[str, Any]) -> None:
        start, duration = as_time(found.get("start")), as_time(found.get("duration"))
        if start is None or duration is None:
            self._core.malformed += 1
            return
        end = start + duration
        alternative = as_dict(next(iter(as_list(as_dict(found.get("channel")).get("alternatives"))), None))
        text = as_text(alternative.get("transcript")).strip()
        words = _words(alternative, text, start, end)
        self._provider_s = max(self._provider_s, end)
        if not found.get("is_final"):
            self._core.events.append(Partial(text, words))
            return
        self._repeats.begin_message()
        new = tuple(word for word in words if not self._repeats.holds(word.text, word.start, word.end))
        if len(new) < len(words):
            words, text = new, " ".join(word.text for word in new)
        self._core.events.append(
            Segment(
                text=text,
                words=words,
                end=end,
                language=_language(alternative) or self._language,
                confidence=as_share(alternative.get("confidence")),
                speech_final=bool(found.get("speech_final")),
            )
        )
        is_ours = self._flushed_channel is None or as_list(found.get("channel_index"))[:1] == [self._flushed_channel]
        if found.get("from_finalize") and is_ours:
            self._core.answer_flush(end + FLUSH_TOLERANCE)

    def _receive_metadata(self, found: dict[str, Any]) -> None:
        """The last message, before a good close and before NET-0001 alike: only the first ends the stream well."""
        duration = as_time(found.get("duration"))
        if duration is None:
            self._core.malformed += 1
            return
        self._provider_s = duration
        if self._core.state is State.FINISHING:
            self._core.end(Ended())

    def connection_lost(self, code: int, reason: str, now: float) -> None:
        if self._core.state is State.ENDED:
            return
        if self._core.state is State.FINISHING and code == 1000:
            self._core.end(Ended())
            return
        # 1008: the payload is not what the parameters say (DATA-0000). A new session would fail the same way, unless
        # this one was understood until now.
        cure = Cure.ELSEWHERE if code == 1008 and not self._provider_s else Cure.RETRY
        self._core.end(Failed(_short(code, reason), cure))


def _short(code: int, reason: str) -> str:
    """`1011 net0001` rather than the sentence: reasons are keys in logs and dashboards."""
    for known in ("net0000", "net0001"):
        if known in reason:
            return f"{code} {known}"
    return f"{code} {reason[:60]}".strip()


def _language(alternative: dict[str, Any]) -> str:
    """Where `language=multi` was asked for."""
    return as_text(next(iter(as_list(alternative.get("languages"))), ""))


def _words(alternative: dict[str, Any], text: str, start: float, end: float) -> tuple[StreamWord, ...]:
    words: list[StreamWord] = []
    for found in map(as_dict, as_list(alternative.get("words"))):
        begin, until = as_time(found.get("start")), as_time(found.get("end"))
        spelled = as_text(found.get("punctuated_word")) or as_text(found.get("word"))
        if begin is not None and until is not None and spelled:
            words.append(StreamWord(spelled, begin, max(begin, until), as_share(found.get("confidence"))))
    if text and not words:
        # Not seen in the wild, but text without times must not be lost: it is spread over its segment.
        parts = text.split()
        step = (end - start) / len(parts)
        share = as_share(alternative.get("confidence"))
        words = [StreamWord(p, start + n * step, start + (n + 1) * step, share) for n, p in enumerate(parts)]
    return tuple(words)


def policy(settings: DeepgramSettings) -> Policy:
    """Held for as long as a hold lasts; but one that has not answered yet would die of NET-0000 in a pause."""
    return Policy(
        billed="audio",
        close_timeout_s=settings.close_timeout_s,
        holds_unheard=False,
        prime_s=settings.prime_s,
    )


def check(settings: DeepgramSettings) -> list[str]:
    problems = common_problems("deepgram", url=settings.url, encoding=settings.encoding)
    if not settings.api_key and "api.deepgram.com" in settings.url:
        problems.append("stt.deepgram.api_key: missing (or set DEEPGRAM_API_KEY)")
    if not 1 <= settings.keepalive_s <= 9:
        problems.append("stt.deepgram.keepalive_s: must be 1 to 9, Deepgram closes after 10 s")
    if settings.close_timeout_s <= 0 or settings.prime_s < 0:
        problems.append("stt.deepgram: close_timeout_s must be above 0, prime_s not below")
    return problems


DEEPGRAM = Provider(
    name="deepgram",
    settings_type=DeepgramSettings,
    policy=policy,
    wire=lambda settings, leg: wire_format(settings.encoding, leg),
    endpoint=endpoint,
    make_session=DeepgramSession,
    refusal=refusal,
    check=check,
)
