"""What `callbridge call` is asked for, and what it tells afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bridge.caller.audio import Samples, load, resample
from bridge.caller.offer import HoldForm
from bridge.caller.rtp_schedule import Faults, Mute, MuteKind
from bridge.caller.sip_client import Target
from bridge.errors import ConfigError
from rtpcodecs import CODECS
from rtpcodecs.contract import Codec

T = TypeVar("T")
SPAN = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")
PTIME_RANGE_MS = (10, 60)
AFTER_HOLD = 1.0  # s of the call after its last hold


@dataclass(frozen=True, slots=True, eq=False)
class LegAudio:
    """One party: its audio is the timeline of the call, sample 0 is spoken when the call is answered."""

    role: str
    samples: Samples
    rate_hz: int = 8000
    mutes: tuple[Mute, ...] = ()
    hold_music: Samples | None = None
    "Sent while on hold, at `rate_hz`; None: nothing is sent then."
    aor: str = ""
    "Address of record in SIPREC metadata; empty: made from the role."

    @classmethod
    def from_file(cls, role: str, path: Path, codec: Codec) -> LegAudio:
        """Raises ConfigError for a file that cannot be used."""
        return cls(role, load(path, codec.sample_rate_hz), codec.sample_rate_hz)

    @property
    def address(self) -> str:
        return self.aor or f"sip:{self.role}@callbridge.invalid"

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate_hz

    def at_rate(self, rate_hz: int, *, seconds: float = 0.0) -> tuple[Samples, Samples | None]:
        """Audio, with digital silence up to `seconds`, and hold music, at a codec's sample rate."""
        music = None if self.hold_music is None else resample(self.hold_music, self.rate_hz, rate_hz)
        samples = resample(self.samples, self.rate_hz, rate_hz)
        missing = max(round(seconds * rate_hz) - len(samples), 0)
        return np.concatenate([samples, np.zeros(missing, np.int16)]) if missing else samples, music


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Calls to be placed. Times are seconds since the answer."""

    target: str
    "`sip:[USER@]HOST[:PORT]`"
    legs: tuple[LegAudio, ...]
    siprec: bool = False
    "One m-line a leg, with recording metadata; else the call has one leg."
    calls: int = 1
    rate: float = 20.0
    "Calls placed per second."
    holds: tuple[tuple[float, float], ...] = ()
    "(from, to): the call is put on hold and taken back by re-INVITE."
    hold_form: HoldForm = "inactive"
    codec: str = "PCMU"
    ptime_ms: int = 20
    faults: Faults = field(default_factory=Faults)
    from_: str = "sip:caller@callbridge.invalid"
    headers: tuple[tuple[str, str], ...] = ()
    answer_timeout: float = 60.0
    "How long it may ring."

    @property
    def seconds(self) -> float:
        """How long a call lasts: its longest leg, and a second more than its last hold. Shorter legs fall silent."""
        return max([leg.seconds for leg in self.legs] + [end + AFTER_HOLD for _, end in self.holds])


@dataclass(frozen=True, slots=True)
class LegResult:
    """What one leg really sent."""

    role: str
    remote: str
    packets: int
    kinds: dict[str, int]
    "Packets by kind: audio, silence, music, comfort_noise."
    dropped: int
    "Packets not sent because of `Faults.loss`."
    latest_ms: float
    "How late the latest packet left."
    ssrc: int


@dataclass(frozen=True, slots=True)
class CallResult:
    """The truth about one placed call. Monotonic times share their clock with all processes of this machine."""

    ok: bool
    "It was answered, everything was sent, every hold took place, and it ended with our BYE."
    reason: str
    "`done`, or what went wrong, in a few words."
    sip_call_id: str = ""
    status: int = 0
    "Final status of the INVITE."
    answered_at: float = 0.0
    "Monotonic seconds at which the 200 was here."
    ended_at: float = 0.0
    holds: tuple[tuple[float, float], ...] = ()
    "(from, to) as signalled: when the re-INVITE left and when the one that took the call back did, since the answer."
    legs: tuple[LegResult, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def find_codec(name: str) -> Codec:
    """A codec that we can also encode. Raises ConfigError."""
    codec = CODECS.get(name.upper())
    if codec is None or codec.make_encoder is None:
        names = ", ".join(key for key, value in CODECS.items() if value.make_encoder is not None)
        raise ConfigError([f"--codec {name}: must be one of {names}"])
    return codec


def parse_span(text: str, option: str = "--hold") -> tuple[float, float]:
    """`FROM-TO` in seconds. Raises ConfigError."""
    found = SPAN.fullmatch(text.strip())
    if found is None or float(found[1]) >= float(found[2]):
        raise ConfigError([f"{option} {text}: not of the form FROM-TO, in seconds"])
    return float(found[1]), float(found[2])


def parse_mute(text: str, how: MuteKind = "silence") -> tuple[str, Mute]:
    """`LEG:FROM-TO` and the way in which that phone mutes. Raises ConfigError."""
    role, _, span = text.partition(":")
    if not role or not span:
        raise ConfigError([f"--mute {text}: not of the form LEG:FROM-TO"])
    start, end = parse_span(span, "--mute")
    return role, Mute(start, end, how)


def build(
    target: str,
    legs: list[str],
    *,
    siprec: bool = False,
    calls: int = 1,
    hold: list[str] | None = None,
    mute: list[str] | None = None,
    codec: str = "PCMU",
    ptime_ms: int = 20,
    rate: float = 20.0,
    mute_how: MuteKind = "silence",
) -> CallOptions:
    """Options from the texts of a command line. Raises ConfigError with every problem found."""
    problems: list[str] = []
    _try(problems, partial(Target.parse, target))
    found = _try(problems, partial(find_codec, codec)) or CODECS["PCMU"]
    audio = [_try(problems, partial(_leg, text, found)) for text in legs]
    mutes = [_try(problems, partial(parse_mute, text, mute_how)) for text in mute or []]
    holds = [_try(problems, partial(parse_span, text)) for text in hold or []]
    roles = [leg.role for leg in audio if leg]
    problems += [f"--mute {m[0]}: no such leg" for m in mutes if m and m[0] not in roles]
    if not legs:
        problems.append("--leg: at least one is needed")
    if len(set(roles)) < len(roles):
        problems.append("--leg: each role only once")
    if len(legs) > 1 and not siprec:
        problems.append("--leg: a plain call has one; several want --siprec")
    if not PTIME_RANGE_MS[0] <= ptime_ms <= PTIME_RANGE_MS[1]:
        problems.append(f"--ptime {ptime_ms}: must be {PTIME_RANGE_MS[0]} to {PTIME_RANGE_MS[1]} ms")
    if calls < 1 or rate <= 0:
        problems.append("--calls and --rate: must be above 0")
    if problems:
        raise ConfigError(problems)
    ready = tuple(
        LegAudio(leg.role, leg.samples, leg.rate_hz, tuple(m[1] for m in mutes if m and m[0] == leg.role))
        for leg in audio
        if leg
    )
    spans = tuple(sorted(span for span in holds if span))
    return CallOptions(
        target, ready, siprec=siprec, calls=calls, rate=rate, holds=spans, codec=codec.upper(), ptime_ms=ptime_ms
    )  # fmt: skip


def _leg(text: str, codec: Codec) -> LegAudio:
    role, _, file = text.partition("=")
    if not role or not file:
        raise ConfigError([f"--leg {text}: not of the form ROLE=FILE"])
    return LegAudio.from_file(role, Path(file), codec)


def _try(problems: list[str], attempt: Callable[[], T]) -> T | None:
    try:
        return attempt()
    except ConfigError as error:
        problems += error.problems
        return None
