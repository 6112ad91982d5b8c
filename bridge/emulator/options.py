"""The switches of the stand-in providers: how strict, how faulty, what they listen with.

A fault is written `NAME[=VALUE][@CONNECTIONS]`, for example `drop=5@1` (the first connection is cut after 5 s of
audio), `refuse=429@1-3` (the first three are refused), `late=2` (every connection's finals come 2 s late).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bridge.errors import ConfigError

Provider = Literal["deepgram", "soniox"]
RecogniserName = Literal["match", "scripted", "none", "pocketsphinx"]

FAULTS = {
    "refuse": "HTTP status at the upgrade (Deepgram), error code after it (Soniox)",
    "drop": "the TCP connection is aborted (1006) after so many seconds of audio",
    "drop_at_finalize": "the TCP connection is aborted instead of a reply to Finalize",
    "drop_at_close": "the TCP connection is aborted instead of a reply to CloseStream (Soniox: the empty text)",
    "drop_at_keepalive": "the TCP connection is aborted at the so-manieth KeepAlive",
    "no_close": "the end of the stream is taken and never answered",
    "half_open": "after so many seconds of audio nothing is read, sent or ponged any more; the socket stays",
    "error": "CODE:SECONDS - Deepgram closes with that code, Soniox sends that error, after so many seconds of audio",
    "net0000": "Deepgram: 1011 NET-0000 after so many seconds of audio",
    "late": "final results, and what follows them, come so many seconds late",
    "no_finalize": "Finalize is carried out, not answered (Deepgram: finals without from_finalize; Soniox: no <fin>)",
    "slow": "audio is read at this multiple of real time",
    "slow_upgrade": "the upgrade takes so many seconds",
    "unknown_message": "a message of an unknown type follows the first result",
    "late_utterance_end": "Deepgram: a second UtteranceEnd repeats the last one behind the next result",
    "utterance_end_minus_one": "Deepgram: UtteranceEnd always says last_word_end -1",
    "undecodable": "Deepgram: Metadata with 0 channels, then 1000, at the first audio",
    "initial_empty": "Soniox: an empty token message at the start",
    "old_errors": "Soniox: errors in the older form, without error_type, more_info and request_id",
}
"""Name to what it does. Those without a number take none."""

_FAULT = re.compile(r"(?P<name>[a-z0-9_]+)(=(?P<value>[0-9.:]+))?(@(?P<first>\d+)(?P<range>-(?P<last>\d+)?)?)?")


@dataclass(frozen=True, slots=True)
class Fault:
    """One scripted fault and the connections (1, 2, 3 ... of the server) that have it."""

    name: str
    value: str = ""
    first: int = 1
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Raises ConfigError."""
        found = _FAULT.fullmatch(text)
        if found is None or found["name"] not in FAULTS:
            raise ConfigError([f"fault {text!r}: expected NAME[=VALUE][@CONNECTIONS], NAME one of {', '.join(FAULTS)}"])
        fault = cls(found["name"], found["value"] or "", int(found["first"] or 1), _last(found))
        try:
            _ = fault.code if fault.name == "error" else fault.seconds
        except ValueError as error:
            raise ConfigError([f"fault {text!r}: {error}"]) from error
        return fault

    @property
    def seconds(self) -> float:
        """The value as a number; for `error=CODE:SECONDS` the second half."""
        return float(self.value.rpartition(":")[2] or 0.0)

    @property
    def code(self) -> int:
        return int(self.value.partition(":")[0])

    def applies_to(self, connection: int) -> bool:
        return self.first <= connection and (self.last is None or connection <= self.last)


def _last(found: re.Match[str]) -> int | None:
    if found["first"] is None or (found["range"] and not found["last"]):
        return None
    return int(found["last"] or found["first"])


@dataclass(frozen=True, slots=True)
class Faults:
    """The faults of one connection."""

    active: tuple[Fault, ...] = ()

    def __contains__(self, name: str) -> bool:
        return any(fault.name == name for fault in self.active)

    def seconds(self, name: str) -> float | None:
        """Value of the fault `name`, None where this connection does not have it."""
        return next((fault.seconds for fault in self.active if fault.name == name), None)

    def reached(self, name: str, heard: float) -> bool:
        """Whether this connection has the fault, after `heard` seconds of audio."""
        seconds = self.seconds(name)
        return seconds is not None and heard >= seconds

    def drops_at(self, message: str, *, count: int = 1) -> bool:
        """Whether the connection is to be aborted at this `finalize`, `close` or, the `count`-th, `keepalive`."""
        value = self.seconds(f"drop_at_{message}")
        return value is not None and (message != "keepalive" or count >= value)

    def code(self, name: str) -> int | None:
        return next((fault.code for fault in self.active if fault.name == name), None)


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """Everything `callbridge emulate` can be told. Defaults are the provider's observed behaviour."""

    provider: Provider = "deepgram"
    host: str = "127.0.0.1"
    port: int = 0
    "0: any free one."
    recogniser: RecogniserName = "match"
    libraries: tuple[Path, ...] = ()
    "Folders of recordings besides the bundled ones."
    keys: tuple[str, ...] = ()
    "Accepted API keys; empty: any key, but there must be one."
    strict: bool = False
    "As documented rather than as measured: Deepgram closes at 10.0 s and wants first audio within 10 s."
    finalize: Literal["always", "buffered", "never"] = "always"
    "Deepgram: answer Finalize always, only if 100 ms of audio are buffered, or never."
    configure_replies: bool = True
    "Deepgram: ConfigureSuccess and ConfigureFailure (from 2026-10-19); else silence and an Error."
    throttle: float = 1.25
    "Audio is read at most this many times as fast as real time; 0: as fast as it comes."
    concurrency: int = 0
    "Connections beyond this many at once are refused with 429; 0: no limit."
    cadence: float = 0.2
    "Soniox: seconds of audio between messages."
    empty_binary_ends: bool = False
    "Soniox: an empty binary frame ends the stream (the older page)."
    max_stream_s: float = 18000.0
    "Soniox: 300 min, then 413."
    faults: tuple[Fault, ...] = ()
    log: Path | None = None
    "Appends one JSON line per connection when it ends."
    keep_audio_bytes: int = 64 * 1024 * 1024
    "Received audio kept per connection, for comparing; beyond it only counted."
    keep_frames: int = 100_000
    "Frames kept per connection in the log; beyond it only counted."
    script: str = field(default="one two three four five six seven", repr=False)
    "What the scripted recogniser says."

    def faults_of(self, connection: int) -> Faults:
        return Faults(tuple(fault for fault in self.faults if fault.applies_to(connection)))
