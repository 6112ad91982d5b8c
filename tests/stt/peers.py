"""Providers for tests on a virtual clock: a small deterministic recogniser behind each wire protocol.

Audio in these tests is its own transcript: every sample of word number n has the byte n, silence is 0xFF. So a peer
knows the words from nothing but the audio that it really received, at their true stream times.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from bridge.model import AudioFormat
from bridge.stt.wire import converter

RATE = 8000
SILENCE = 0xFF
SHORTEST = 0.05  # s; what is left of a word that was cut shorter than this is not recognised
ENDPOINT = 0.3  # s of silence that closes a segment


@dataclass
class Heard:
    number: int
    start: float
    end: float


class Recogniser:
    """Finds the words in one stream."""

    def __init__(self) -> None:
        self.samples = 0
        self.words: list[Heard] = []
        self._last = SILENCE

    @property
    def seconds(self) -> float:
        return self.samples / RATE

    def feed(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            code = data[start]
            end = start
            while end < len(data) and data[end] == code:
                end += 1
            self._run(code, self.samples + start, self.samples + end)
            start = end
        self.samples += len(data)

    def _run(self, code: int, start: int, end: int) -> None:
        if code != SILENCE:
            if self._last == code and self.words and self.words[-1].number == code:
                self.words[-1].end = end / RATE
            else:
                self.words.append(Heard(code, start / RATE, end / RATE))
        self._last = code

    def between(self, start: float, end: float) -> list[Heard]:
        return [w for w in self.words if w.end > start and w.start < end and w.end - w.start >= SHORTEST]


@dataclass
class Peer:
    """One session's other end: takes messages, gives (delay, message) or a close."""

    recogniser: Recogniser = field(default_factory=Recogniser)
    received: list[tuple[float, str | bytes]] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    close: tuple[int, str] | None = None
    answers_flush: bool = True
    closed_to: float = 0.0
    told_to: float = 0.0

    @property
    def seconds(self) -> float:
        return self.recogniser.seconds

    def texts(self) -> list[tuple[float, str]]:
        return [(at, m) for at, m in self.received if isinstance(m, str)]

    def receive(self, message: str | bytes, now: float) -> None:
        self.received.append((now, message))
        if isinstance(message, bytes):
            assert message, "an empty binary frame"
            self.recogniser.feed(message)
            self.hear()
        else:
            self.obey(message)

    def hear(self) -> None: ...

    def obey(self, message: str) -> None: ...

    def _is_endpoint(self) -> bool:
        words = self.recogniser.between(self.closed_to, self.seconds)
        return bool(words) and self.seconds - words[-1].end >= ENDPOINT


class DeepgramPeer(Peer):
    def hear(self) -> None:
        if self._is_endpoint():
            self._results(is_final=True, speech_final=True)
        elif self.seconds - self.closed_to >= 5.0:
            self._close_at_a_word()
        elif self.seconds - self.told_to >= 1.0:
            self._results(is_final=False)

    def _close_at_a_word(self) -> None:
        """By length: a final ends where its last whole word does."""
        whole = [w for w in self.recogniser.between(self.closed_to, self.seconds) if self.seconds - w.end > 0.02]
        if whole or not self.recogniser.between(self.closed_to, self.seconds):
            self._results(is_final=True, end=whole[-1].end if whole else self.seconds)

    def obey(self, message: str) -> None:
        kind = json.loads(message)["type"]
        if kind == "Finalize" and self.answers_flush and self.seconds > self.closed_to:
            self._results(is_final=True, speech_final=True, from_finalize=True)
        elif kind == "CloseStream":
            if self.seconds > self.closed_to:
                self._results(is_final=True, from_finalize=False)
            self.replies.append(json.dumps({"type": "Metadata", "duration": self.seconds, "request_id": "r"}))
            self.close = (1000, "")

    def _results(
        self, *, is_final: bool, speech_final: bool = False, from_finalize: bool = False, end: float | None = None
    ) -> None:
        start, end = self.closed_to, self.seconds if end is None else end
        words = [
            {"word": f"w{w.number}", "start": w.start, "end": w.end, "confidence": 0.9}
            for w in self._words(start, end, is_final=is_final)
        ]
        self.replies.append(
            json.dumps(
                {
                    "type": "Results",
                    "channel_index": [0, 1],
                    "start": start,
                    "duration": end - start,
                    "is_final": is_final,
                    "speech_final": speech_final,
                    "from_finalize": from_finalize,
                    "channel": {
                        "alternatives": [
                            {"transcript": " ".join(str(w["word"]) for w in words), "confidence": 0.9, "words": words}
                        ]
                    },
                }
            )
        )
        self.told_to = self.seconds
        if is_final:
            self.closed_to = end

    def _words(self, start: float, end: float, *, is_final: bool) -> list[Heard]:
        return self.recogniser.between(start, end)


class SonioxPeer(Peer):
    started: bool = False
    finals_to: int = 0  # tokens given as final

    def hear(self) -> None:
        if self._is_endpoint():
            self._tokens(final_to=self.seconds, special="<end>")
            self.closed_to = self.seconds
        elif self.seconds - self.told_to >= 0.3:
            self._tokens(final_to=max(self.seconds - 1.0, 0.0))

    def obey(self, message: str) -> None:
        if message == "":
            self._tokens(final_to=self.seconds, finished=True)
            self.close = (1000, "")
            return
        found = json.loads(message)
        if not self.started:
            assert found["audio_format"] == "mulaw"
            self.started = True
        elif found["type"] == "finalize" and self.answers_flush:
            self._tokens(final_to=self.seconds, special="<fin>")
            self.closed_to = self.seconds

    def _tokens(self, *, final_to: float, special: str = "", finished: bool = False) -> None:
        """Two tokens a word, the second without a leading space."""
        tokens = []
        every = [
            (text, start, end)
            for w in self.recogniser.between(0, self.seconds)
            for text, start, end in (
                (" w", w.start, (w.start + w.end) / 2),
                (str(w.number), (w.start + w.end) / 2, w.end),
            )
        ]
        for n, (text, start, end) in enumerate(every):
            is_final = end <= final_to
            if n >= self.finals_to:
                token = {"text": text, "start_ms": round(start * 1000), "end_ms": round(end * 1000)}
                tokens.append(token | {"confidence": 0.9, "is_final": is_final})
        self.finals_to += sum(1 for token in tokens if token["is_final"])
        if special:
            tokens.append({"text": special, "is_final": True})
        body = {
            "tokens": tokens,
            "final_audio_proc_ms": round(final_to * 1000),
            "total_audio_proc_ms": round(self.seconds * 1000),
        }
        self.replies.append(json.dumps(body | ({"finished": True} if finished else {})))
        self.told_to = self.seconds


class VoskPeer(Peer):
    """asr_server.py: one reply to every message but the configuration; linear audio."""

    configured: bool = False

    def receive(self, message: str | bytes, now: float) -> None:
        self.received.append((now, message))
        if isinstance(message, bytes):
            values = memoryview(message).cast("h")
            self.recogniser.feed(bytes(CODE_OF[value] for value in values))
            if self._is_endpoint():
                self._result()
            else:
                words = self.recogniser.between(self.closed_to, self.seconds)
                self.replies.append(json.dumps({"partial": " ".join(f"w{w.number}" for w in words)}))
        elif message == '{"eof" : 1}':
            self._result()
            self.close = (1000, "")
        elif message == '{"reset" : 1}':
            self._result()
        else:
            assert json.loads(message)["config"]["sample_rate"] == RATE

    def _result(self) -> None:
        words = self.recogniser.between(self.closed_to, self.seconds)
        result = [{"word": f"w{w.number}", "start": w.start, "end": w.end, "conf": 1.0} for w in words]
        self.replies.append(json.dumps({"result": result, "text": " ".join(f"w{w.number}" for w in words)}))
        self.closed_to = self.seconds


MULAW = AudioFormat("mulaw", RATE)
_linear = converter(MULAW, AudioFormat("linear16", RATE))
assert _linear is not None
CODE_OF = {value: code for code, value in enumerate(memoryview(_linear(bytes(range(256)))).cast("h"))}


class ClockCutDeepgramPeer(DeepgramPeer):
    """Cuts its segments every second, be it within a word: that word comes with the next segment, though it began
    before it."""

    given: int = 0

    def hear(self) -> None:
        if self.seconds - self.closed_to >= 1.0:
            self._results(is_final=True, end=self.closed_to + 1.0)

    def _words(self, start: float, end: float, *, is_final: bool) -> list[Heard]:
        words = [w for w in self.recogniser.words[self.given :] if w.end < end and w.end - w.start >= SHORTEST]
        if is_final and words:
            self.given = self.recogniser.words.index(words[-1]) + 1
        return words
