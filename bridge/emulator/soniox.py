"""One stream of Soniox's real-time API, from the 101 to the close, as a client sees it. Sans-IO.

Told what arrived and when (`now`, monotonic seconds), answers with `take_outputs(now)` and `deadline()`.
Timers, texts and shapes follow the project's provider notes, parts B and D; `EmulatorOptions` has the switches.
"""

from __future__ import annotations

import base64
import json
from enum import Enum, auto
from typing import Any

from bridge.emulator.audio import WIDTHS, Decoder, wav_format
from bridge.emulator.options import EmulatorOptions, Faults
from bridge.emulator.recogniser import RecogniserFactory
from bridge.emulator.soniox_start import (
    KEYS_DIFFER,
    MISSING_KEY,
    Offer,
    SonioxError,
    StartRequest,
    connection_key,
)
from bridge.emulator.tokens import Tokens, TokenUpdate
from bridge.emulator.wire import Abort, Close, Freeze, Output, Schedule, SendText, Throttle

AUTH_ANSWER = 1.0  # s after the connect; an auth error is told then, or at the start message if that is sooner
PRESTART_IDLE = 40.0  # s without keepalive, key sent with the connection: close 1001
LEGACY_START = 10.0  # s; own choice, the service's number is not known
IDLE = 20.0  # s without audio or control message
UNDECODABLE = 20.0  # s; seen in the field with audio_format auto and headerless audio
SLICE = 0.1  # s of audio per step


class State(Enum):
    OPEN = auto()
    "Connected, no start request yet."
    STARTED = auto()
    ENDED = auto()


class SonioxStream:
    """Created when the upgrade was answered with 101, which it always is."""

    def __init__(
        self,
        make_recogniser: RecogniserFactory,
        offer: Offer,
        *,
        request_id: str,
        options: EmulatorOptions,
        faults: Faults,
        now: float,
        is_full: bool = False,
    ) -> None:
        """`is_full`: the concurrency limit is reached; the start request is answered with 429."""
        self._options, self._faults, self._request_id = options, faults, request_id
        self._make_recogniser, self._is_full = make_recogniser, is_full
        self.throttle = Throttle(faults.seconds("slow") or 0.0)
        self._schedule = Schedule()
        self._state = State.OPEN
        self._opened_at = self._last_frame_at = now
        self._started_at = now
        self._start: StartRequest | None = None
        self._decoder: Decoder | None = None
        self._undecoded_since: float | None = None
        self._keepalives = 0
        self._tokens: Tokens | None = None
        self._next_message = options.cadence
        self._auth_error: SonioxError | None = None
        self._key: str | None = None
        try:
            self._key = connection_key(offer)
            if self._key is not None:
                self._check_key(self._key)
        except SonioxError as error:
            self._auth_error = error

    @property
    def seconds(self) -> float:
        """The audio clock."""
        return self._decoder.seconds if self._decoder else 0.0

    def receive_audio(self, data: bytes, now: float) -> None:
        try:
            if self._state is State.OPEN:
                raise SonioxError(400, "Start request must be a text message.")
            if self._state is State.STARTED:
                self._hear(data, now)
        except SonioxError as error:
            self._fail(error, now)

    def receive_text(self, text: str, now: float) -> None:
        try:
            if self._state is State.OPEN:
                self._before_start(text, now)
            elif self._state is State.STARTED:
                self._control(text, now)
        except SonioxError as error:
            self._fail(error, now)

    def deadline(self) -> float | None:
        due = [at for at, _ in self._timers()]
        scheduled = self._schedule.deadline()
        return min(due if scheduled is None else [*due, scheduled], default=None)

    def handle_timer(self, now: float) -> None:
        for at, outcome in self._timers():
            if at <= now:
                if isinstance(outcome, SonioxError):
                    self._fail(outcome, now)
                else:
                    self._end(outcome, now)
                return

    def take_outputs(self, now: float) -> list[Output]:
        return self._schedule.take(now)

    def _timers(self) -> list[tuple[float, SonioxError | Close]]:
        timers: list[tuple[float, SonioxError | Close]] = []
        if self._state is State.OPEN:
            if self._auth_error is not None:
                timers.append((self._opened_at + AUTH_ANSWER, self._auth_error))
            if self._key is not None:
                timers.append((self._last_frame_at + PRESTART_IDLE, Close(1001)))
            else:
                timers.append((self._opened_at + LEGACY_START, SonioxError(408, "Start request timeout")))
        elif self._state is State.STARTED:
            timers.append((self._last_frame_at + IDLE, SonioxError(408)))
            timers.append((self._started_at + self._options.max_stream_s, SonioxError(413)))
            if self._undecoded_since is not None:
                late = SonioxError(408, "Audio data decode timeout")
                timers.append((self._undecoded_since + UNDECODABLE, late))
        return sorted(timers, key=lambda timer: timer[0])

    def _check_key(self, key: str) -> None:
        if self._options.keys and key not in self._options.keys:
            raise SonioxError(401)

    def _before_start(self, text: str, now: float) -> None:
        if self._auth_error is not None:
            raise self._auth_error
        if self._key is not None and _control_type(text) == "keepalive":
            self._last_frame_at = now
            return
        start = StartRequest.parse(text)
        if self._key is None and not start.api_key:
            raise SonioxError(401, MISSING_KEY)
        if self._key is not None and start.api_key not in (None, self._key):
            raise SonioxError(400, KEYS_DIFFER)
        if start.api_key:
            self._check_key(start.api_key)
        if self._is_full:
            raise SonioxError(429)
        if (code := self._faults.seconds("refuse")) is not None:
            raise SonioxError(int(code))
        self._start, self._state = start, State.STARTED
        self._started_at = self._last_frame_at = now
        if start.encoding is not None:
            self._open_decoder(start.encoding, start.sample_rate, start.num_channels)
        if "initial_empty" in self._faults:
            self._schedule.put(SendText({"tokens": []}), now)

    def _open_decoder(self, encoding: str, rate_hz: int, channels: int) -> None:
        assert self._start is not None
        self._decoder = Decoder(encoding, rate_hz, channels=channels)
        self._tokens = Tokens(self._make_recogniser(), self._start)

    def _control(self, text: str, now: float) -> None:
        kind = _control_type(text) if text else "close"
        self._keepalives += kind == "keepalive"
        if kind and self._faults.drops_at(kind, count=self._keepalives):
            self._end(Abort(), now)
            return
        if not text:
            self._finish(now)
            return
        if kind is None:  # a text frame that is no control message is audio in base64
            try:
                audio = base64.b64decode(text, validate=True)
            except ValueError:  # not base64, or not even ASCII
                raise SonioxError(400, "Audio frame is not valid base64.") from None
            self._hear(audio, now)
            return
        self._last_frame_at = now
        if kind == "finalize":
            self._finalize(now)
        elif kind != "keepalive":
            raise SonioxError(400, 'Control request type is invalid. Valid values: "finalize", "keepalive".')

    def _hear(self, data: bytes, now: float) -> None:
        self._last_frame_at = now
        if not data:
            if self._options.empty_binary_ends:
                self._finish(now)
            return
        if self._decoder is None:
            data = self._open_container(data, now)
        if self._decoder is None or self._tokens is None:
            return
        before = self.seconds
        step = max(1, int(self._decoder.rate_hz * SLICE)) * WIDTHS[self._decoder.encoding] * self._decoder.channels
        for at in range(0, len(data), step):
            samples = self._decoder.push(data[at : at + step])[0]
            self._say(self._tokens.push(samples, self.seconds), now)
        self.throttle.spend(self.seconds - before, now)
        self._faults_by_audio(now)

    def _open_container(self, data: bytes, now: float) -> bytes:
        found = wav_format(data)
        if found is None:
            self._undecoded_since = now if self._undecoded_since is None else self._undecoded_since
            return b""
        self._open_decoder(*found[:3])
        return data[found[3] :]

    def _say(self, update: TokenUpdate, now: float, *, is_due: bool = False) -> None:
        """One message at the cadence, or at once where something was flushed."""
        if not (is_due or update.is_flush or self.seconds >= self._next_message - 1e-9):
            return
        assert self._tokens is not None
        self._next_message = self.seconds + self._options.cadence
        message, words = self._tokens.message(update, with_marks="no_finalize" not in self._faults)
        has_finals = any(token["is_final"] for token in message["tokens"])
        late = (self._faults.seconds("late") or 0.0) if has_finals else 0.0
        self._schedule.put(SendText(message, tuple(words)), now, delay=late, behind_all=True)

    def _finalize(self, now: float) -> None:
        if self._tokens is None:  # nothing to make final, but the mark is owed
            mark = {"text": "<fin>", "confidence": 1.0, "is_final": True}
            self._schedule.put(SendText({"tokens": [mark], "final_audio_proc_ms": 0, "total_audio_proc_ms": 0}), now)
            return
        self._say(self._tokens.finalize(self.seconds), now)

    def _finish(self, now: float) -> None:
        """The empty text: remaining finals, `finished`, 1000."""
        if "no_close" in self._faults:
            self._state = State.ENDED
            return
        if not self.seconds:
            raise SonioxError(400, "No audio received.")
        assert self._tokens is not None
        assert self._decoder is not None
        self._tokens.push(self._decoder.flush()[0], self.seconds)
        self._say(self._tokens.finish(self.seconds), now, is_due=True)
        total = round(self.seconds * 1000)
        finished = {"tokens": [], "final_audio_proc_ms": total, "total_audio_proc_ms": total, "finished": True}
        self._schedule.put(SendText(finished), now, behind_all=True)
        self._end(Close(1000), now)

    def _faults_by_audio(self, now: float) -> None:
        if self._faults.reached("drop", self.seconds):
            self._end(Abort(), now)
        elif self._faults.reached("half_open", self.seconds):
            self._end(Freeze(), now)
        elif self._faults.reached("error", self.seconds):
            raise SonioxError(self._faults.code("error") or 503)

    def _fail(self, error: SonioxError, now: float) -> None:
        frame: dict[str, Any] = error.frame(self._request_id, old_form="old_errors" in self._faults)
        self._schedule.put(SendText(frame), now, behind_all=True)
        self._end(Close(1000), now)  # the close code after an error is not documented; 1000 was seen

    def _end(self, output: Output, now: float) -> None:
        self._state = State.ENDED
        if isinstance(output, Abort | Freeze):
            self._schedule = Schedule()  # what was late is lost with the connection
        self._schedule.put(output, now, behind_all=True)


def _control_type(text: str) -> str | None:
    """The `type` of a control message, None where the text is none. Raises SonioxError for broken JSON."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise SonioxError(400, "Control request body is not valid JSON.") from None
    kind = message.get("type", "")
    return kind if isinstance(kind, str) else ""
