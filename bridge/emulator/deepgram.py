"""One stream of Deepgram's live v1, from the upgrade to the close, as a client sees it. Sans-IO.

Told what arrived and when (`now`, monotonic seconds), answers with `take_outputs(now)` and `deadline()`.
Timers, texts and shapes follow the project's provider notes, parts A and D; `EmulatorOptions` has the switches.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from bridge.emulator.audio import WIDTHS, Decoder, wav_format
from bridge.emulator.deepgram_messages import DeepgramMessages
from bridge.emulator.deepgram_query import DeepgramQuery
from bridge.emulator.options import EmulatorOptions, Faults
from bridge.emulator.recogniser import RecogniserFactory
from bridge.emulator.segments import Segment, Segmenter, SegmentEvent, UtteranceEnd
from bridge.emulator.wire import Abort, Close, Freeze, Output, Schedule, SendText, Throttle

INACTIVITY = 12.0  # s; measured after the last client frame in six captures (documented: 10 s)
STRICT_INACTIVITY = 10.0  # s; documented
FIRST_AUDIO = 10.0  # s; documented, only with `strict`
FIRST_RESPONSE = 30.0  # s; dotnet-sdk issues 131 and 133: NET-0000 while no result was ever sent
CLOSE_AFTER_METADATA = 0.025  # s; captured between Metadata and the 1011
SLICE = 0.1  # s of audio per step of the segmenter
FINALIZE_BUFFERED = 0.1  # s; with finalize="buffered" less than this is not answered
NET0000 = "Deepgram did not provide a response message within the timeout window. See https://dpgr.am/net0000"
NET0001 = "Deepgram did not receive audio data or a text message within the timeout window. See https://dpgr.am/net0001"
CLIENT_MESSAGES = ("KeepAlive", "Finalize", "CloseStream", "Configure")


class DeepgramStream:
    """Created when the upgrade was answered with 101; nothing is sent before audio was processed."""

    def __init__(
        self,
        query: DeepgramQuery,
        make_recogniser: RecogniserFactory,
        *,
        request_id: str,
        created: str,
        options: EmulatorOptions,
        faults: Faults,
        now: float,
    ) -> None:
        """`created`: RFC 3339 with milliseconds, for Metadata."""
        self._query, self._options, self._faults = query, options, faults
        self._make_recogniser = make_recogniser
        self.messages = DeepgramMessages(query, request_id, created)
        self.throttle = Throttle(faults.seconds("slow") or options.throttle)
        self._schedule = Schedule()
        self._decoder: Decoder | None = None
        self._segmenters: list[Segmenter] = []
        self._digest = hashlib.sha256()
        self._last_frame_at = self._opened_at = now
        self._keepalives = 0
        self._has_answered = False
        self._is_ended = False
        if query.encoding is not None:
            self._open_decoder(query.encoding, query.sample_rate, query.channels)

    @property
    def seconds(self) -> float:
        """The audio clock."""
        return self._decoder.seconds if self._decoder else 0.0

    def receive_audio(self, data: bytes, now: float) -> None:
        if self._is_ended:
            return
        if not data:  # once the way to close, now "avoid": it still ends the stream
            self._finish(now)
            return
        self._last_frame_at = now
        self._digest.update(data)
        if self._decoder is None:
            data = self._open_container(data)
        if self._decoder is None or "undecodable" in self._faults:
            self._end_undecodable(now)
            return
        before = self.seconds
        step = max(1, int(self._decoder.rate_hz * SLICE)) * WIDTHS[self._decoder.encoding] * self._decoder.channels
        for at in range(0, len(data), step):
            self._process(data[at : at + step], now)
        self.throttle.spend(self.seconds - before, now)
        self._faults_by_audio(now)

    def receive_text(self, text: str, now: float) -> None:
        if self._is_ended:
            return
        message, problem = parse_client_message(text)
        if problem is not None:
            self._send(self.messages.schema_error(problem, text), now)
            return
        self._last_frame_at = now
        kind = {"Finalize": "finalize", "CloseStream": "close", "KeepAlive": "keepalive"}.get(message["type"], "")
        self._keepalives += kind == "keepalive"
        if kind and self._faults.drops_at(kind, count=self._keepalives):
            self._end(Abort(), now)
        elif message["type"] == "Finalize":
            self._finalize(message.get("channel"), now)
        elif message["type"] == "CloseStream":
            self._finish(now)
        elif message["type"] == "Configure":
            self._configure(message, now)

    def deadline(self) -> float | None:
        due = [] if self._is_ended else [at for at, _ in self._timers()]
        scheduled = self._schedule.deadline()
        if scheduled is not None:
            due.append(scheduled)
        return min(due, default=None)

    def handle_timer(self, now: float) -> None:
        if self._is_ended:
            return
        for at, reason in self._timers():
            if at <= now:
                self._time_out(reason, now)
                return

    def take_outputs(self, now: float) -> list[Output]:
        return self._schedule.take(now)

    def _timers(self) -> list[tuple[float, str]]:
        window = STRICT_INACTIVITY if self._options.strict else INACTIVITY
        timers = [(self._last_frame_at + window, NET0001)]
        if not self._has_answered:
            timers.append((self._opened_at + FIRST_RESPONSE, NET0000))
        if self._options.strict and not self.seconds:
            timers.append((self._opened_at + FIRST_AUDIO, NET0001))
        return sorted(timers)

    def _time_out(self, reason: str, now: float) -> None:
        if reason == NET0001:
            self._send(self.messages.metadata(self.seconds, self._channels, "incomplete"), now)
        self._end(Close(1011, reason), now, delay=CLOSE_AFTER_METADATA)

    @property
    def _channels(self) -> int:
        return self._decoder.channels if self._decoder else self._query.channels

    def _open_decoder(self, encoding: str, rate_hz: int, channels: int) -> None:
        separate = self._query.is_multichannel
        self._decoder = Decoder(encoding, rate_hz, channels=channels, mixed=not separate)
        self._segmenters = [
            Segmenter(self._make_recogniser(), self._query.rules) for _ in range(channels if separate else 1)
        ]

    def _open_container(self, data: bytes) -> bytes:
        found = wav_format(data)
        if found is None:
            return b""
        self._open_decoder(*found[:3])
        return data[found[3] :]

    def _process(self, data: bytes, now: float) -> None:
        assert self._decoder is not None
        for channel, samples in enumerate(self._decoder.push(data)):
            for event in self._segmenters[channel].push(samples, self.seconds):
                self._tell(event, channel, now)

    def _tell(self, event: SegmentEvent, channel: int, now: float) -> None:
        index = (channel, len(self._segmenters))
        if isinstance(event, UtteranceEnd) and "utterance_end_minus_one" in self._faults:
            event = UtteranceEnd(-1)
        finals = event.words if isinstance(event, Segment) and event.is_final else None
        late = (self._faults.seconds("late") or 0.0) if finals is not None else 0.0
        self._schedule.put(SendText(self.messages.event(event, index), finals or ()), now, delay=late)
        if isinstance(event, Segment) and not self._has_answered:
            self._has_answered = True
            if "unknown_message" in self._faults:
                self._send({"type": "FutureMessage", "request_id": self.messages.request_id}, now)
        if finals and "late_utterance_end" in self._faults:
            self._send(self.messages.event(UtteranceEnd(finals[-1].end), index), now)

    def _flush_decoder(self, now: float) -> None:
        """The resampler's last 1.5 ms, so that a final covers all audio received."""
        for channel, samples in enumerate(self._decoder.flush() if self._decoder else []):
            for event in self._segmenters[channel].push(samples, self.seconds) if len(samples) else []:
                self._tell(event, channel, now)

    def _finalize(self, channel: Any, now: float) -> None:
        self._flush_decoder(now)
        for number, segmenter in enumerate(self._segmenters):
            if channel is not None and channel != number:
                continue
            buffered = segmenter.buffered
            mode = "never" if "no_finalize" in self._faults else self._options.finalize
            answers = mode == "always" or (mode == "buffered" and buffered >= FINALIZE_BUFFERED)
            if answers or buffered > 0:
                self._tell(segmenter.finish(from_finalize=answers), number, now)

    def _finish(self, now: float) -> None:
        """CloseStream: last finals, Metadata, 1000."""
        if "no_close" in self._faults:
            self._is_ended = True
            return
        self._flush_decoder(now)
        for number, segmenter in enumerate(self._segmenters):
            if segmenter.buffered > 0:
                self._tell(segmenter.finish(), number, now)
        channels = self._channels if self.seconds else 0  # close-stream page: 0 where no audio came
        metadata = self.messages.metadata(self.seconds, channels, self._digest.hexdigest())
        self._schedule.put(SendText(metadata), now, behind_all=True)
        self._end(Close(1000), now)

    def _end_undecodable(self, now: float) -> None:
        """As seen with broken containers: Metadata with duration 0 and 0 channels, 1000, no error."""
        self._send(self.messages.metadata(0.0, 0, self._digest.hexdigest()), now)
        self._end(Close(1000), now)

    def _configure(self, message: dict[str, Any], now: float) -> None:
        keyterms = message.get("keyterms")
        if keyterms and self._query.arch != "nova-3":
            failure = ("CONFIGURE_KEYTERMS_NOT_SUPPORTED", "`keyterms` are only supported for Nova-3 and Flux.")
            self._send(self.messages.configure_failure(*failure, new_form=self._options.configure_replies), now)
        elif keyterms and sum(len(str(term).split()) for term in keyterms) > 500:
            failure = ("CONFIGURE_KEYTERM_LIMIT_EXCEEDED", "Keyterm limit exceeded: 500 tokens.")
            self._send(self.messages.configure_failure(*failure, new_form=self._options.configure_replies), now)
        elif self._options.configure_replies:
            self._send(self.messages.configure_success(keyterms), now)

    def _faults_by_audio(self, now: float) -> None:
        if self._faults.reached("drop", self.seconds):
            self._end(Abort(), now)
        elif self._faults.reached("half_open", self.seconds):
            self._end(Freeze(), now)
        elif self._faults.reached("net0000", self.seconds):
            self._end(Close(1011, NET0000), now)
        elif self._faults.reached("error", self.seconds):
            code = self._faults.code("error") or 1011
            self._end(Close(code, {1008: "DATA-0000", 1011: NET0000}.get(code, "")), now)

    def _send(self, message: dict[str, Any], now: float) -> None:
        self._schedule.put(SendText(message), now)

    def _end(self, output: Output, now: float, *, delay: float = 0.0) -> None:
        self._is_ended = True
        if isinstance(output, Abort | Freeze):
            self._schedule = Schedule()  # what was late is lost with the connection
        self._schedule.put(output, now, delay=delay, behind_all=True)


def parse_client_message(text: str) -> tuple[dict[str, Any], str | None]:
    """(message, None) or ({}, what is wrong with it, in the words of a Rust deserialiser)."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}, "expected value at line 1 column 1"
    if not isinstance(message, dict) or "type" not in message:
        return {}, "missing field `type`"
    kind = message["type"]
    if kind not in CLIENT_MESSAGES:
        variants = ", ".join(f"`{name}`" for name in CLIENT_MESSAGES)
        return {}, f"unknown variant `{kind}`, expected one of {variants}"
    problem = _configure_problem(message) if kind == "Configure" else _channel_problem(message)
    return (message, None) if problem is None else ({}, problem)


def _configure_problem(message: dict[str, Any]) -> str | None:
    allowed = ("features", "processors", "keyterms", "language_hints")
    for key in message:
        if key != "type" and key not in allowed:
            return f"unknown field `{key}`, expected one of " + ", ".join(f"`{name}`" for name in allowed)
    keyterms = message.get("keyterms")
    is_list = isinstance(keyterms, list) and all(isinstance(term, str) for term in keyterms)
    return None if keyterms is None or is_list else "invalid type: expected a sequence of strings"


def _channel_problem(message: dict[str, Any]) -> str | None:
    channel = message.get("channel")
    is_number = isinstance(channel, int) and not isinstance(channel, bool) and channel >= 0
    return None if channel is None or is_number else "invalid type: expected u8"
