"""Settings: TOML, overridden by environment variables, checked as a whole.

Every key has a default that works on one machine. `load` reports *all* problems at once, in one `ConfigError`.
"""

from __future__ import annotations

import dataclasses
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bridge.environment import misspelt, overlay, put
from bridge.errors import ConfigError
from bridge.tables import from_table

T = TypeVar("T")
SEARCH = (Path("callbridge.toml"), Path("/etc/callbridge/callbridge.toml"))
USUAL_NAMES = {
    "DEEPGRAM_API_KEY": ("stt", "deepgram", "api_key"),
    "SONIOX_API_KEY": ("stt", "soniox", "api_key"),
    "REDIS_URL": ("redis", "url"),
}


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """[service]"""

    instance: str = ""
    "Name of this process in events and metrics; empty: host name and process id."
    max_legs: int = 1000
    drain_s: float = 3600.0
    "SIGTERM waits this long for running calls, then ends them with reason `drain`."
    tick_ms: int = 20

    @property
    def rows(self) -> int:
        """Legs that there is room for: a tenth more than are admitted, for those that are still closing."""
        return self.max_legs + max(self.max_legs // 10, 8)


@dataclass(frozen=True, slots=True)
class SipSettings:
    """[sip]"""

    listen: tuple[str, ...] = ("udp:0.0.0.0:5060", "tcp:0.0.0.0:5060")
    "`udp|tcp|tls:address:port`, IPv6 in brackets. Empty list: no SIP."
    advertise: str = ""
    "Address put into Contact; empty: the local address that faces the peer."
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    users: dict[str, str] = field(default_factory=dict)
    "User name to password, for digest authentication; empty: not asked for."
    session_expires_s: int = 1800
    certificate: str = ""
    private_key: str = ""
    client_ca: str = ""
    "A PEM file; set: TLS peers must show a certificate signed by it."
    answer: str = "sendrecv"
    "Direction answered to a plain `sendrecv` offer: `sendrecv` or `recvonly`. SIPREC is always `recvonly`."
    codecs: tuple[str, ...] = ()
    "Encoding names that are taken, in our order of preference; empty: all that we have, in the offer's order."
    progress: str = "off"
    "off: answered at once. 180, or 183 with SDP: that comes first, acknowledged by PRACK where the peer has 100rel."
    ring_ms: int = 0
    "With `progress`: how long it rings at least. Call time begins with the answer."
    rate_per_source: float = 50.0
    "New calls and out-of-dialog requests per second and source address; what is above gets 503."
    dtmf_events: bool = False
    correlation_headers: tuple[str, ...] = ()
    "Names of INVITE headers copied into `call.started`'s `correlation`."
    roles: dict[str, str] = field(default_factory=dict)
    "AOR pattern (shell style) to role, for SIPREC metadata that does not say."


@dataclass(frozen=True, slots=True)
class RtpSettings:
    """[rtp]"""

    bind: str = "0.0.0.0"
    ports: tuple[int, ...] = (20000, 39999)
    "First and last port; RTP takes even ones, RTCP the odd one above."
    advertise: str = ""
    srtp: str = "optional"
    "off, optional or required."
    jitter_ms: int = 60
    "How long a missing packet is waited for after a later one came."
    jitter_max_ms: int = 200
    idle_end_s: float = 3600.0
    "External media only: a call without any RTP for so long is ended."


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """[http]"""

    listen: str = "127.0.0.1:8080"
    tokens: tuple[str, ...] = ()
    certificate: str = ""
    private_key: str = ""
    metrics: bool = True
    console: bool = True
    price_per_hour: float = 0.46
    "What an hour of audio costs at the provider, for the console's `not spent`; any currency."


@dataclass(frozen=True, slots=True)
class SttSettings:
    """[stt]; the tables below it belong to the providers and are checked by them."""

    provider: str = "deepgram"
    fallback: tuple[str, ...] = ()
    language: str = "en"
    interim: bool = True
    chunk_ms: int = 100
    replay_s: float = 60.0
    turn_wait_s: float = 3.0
    providers: dict[str, dict[str, Any]] = field(default_factory=dict)
    "The raw `[stt.<name>]` tables."


@dataclass(frozen=True, slots=True)
class GateSettings:
    """[gate]"""

    mode: str = "speech"
    "off, hold or speech."
    preroll_ms: int = 400
    hangover_ms: int = 650
    turn_end_ms: int = 800
    music: bool = True
    mute_after_ms: int = 1500


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """[redis]"""

    url: str = "redis://127.0.0.1:6379/0"
    prefix: str = "callbridge"
    partitions: int = 1
    maxlen: int = 1_000_000
    maxlen_hard: int = 10_000_000
    groups: tuple[str, ...] = ()
    call_ttl_s: int = 86400


@dataclass(frozen=True, slots=True)
class SpoolSettings:
    """[spool]"""

    path: str = ""
    keep_s: float = 60.0
    max_bytes: int = 4 << 30
    "Bound of the spool; above half of it interims are dropped, at it everything but starts and ends of calls."


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """[privacy]: what leaves the process, in events as well as live."""

    redact_cards: bool = False
    "Mask card numbers (Luhn) in texts and words. Providers' own redaction goes into their `query`."
    redact: tuple[str, ...] = ()
    "Regular expressions; what they match in a text, case ignored, is masked."
    numbers: str = "plain"
    "Callers' numbers in `from`, `to` and `participant`: plain, hashed or none."
    hash_key: str = ""
    "Key of the hash, the same in all instances, so that one caller has one hash. Empty: a new one at every start."


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]"""

    level: str = "info"
    format: str = "auto"


@dataclass(frozen=True, slots=True)
class TrunkSettings:
    """What a route may change of [sip], and of [rtp] `srtp`; see there."""

    answer: str = "sendrecv"
    srtp: str = "optional"
    codecs: tuple[str, ...] = ()
    session_expires_s: int = 1800
    dtmf_events: bool = False
    progress: str = "off"
    ring_ms: int = 0


@dataclass(frozen=True, slots=True)
class RouteSettings:
    """One [[route]]: the first whose `match` fits a call changes its settings."""

    match: dict[str, Any] = field(default_factory=dict)
    stt: dict[str, Any] = field(default_factory=dict)
    gate: dict[str, Any] = field(default_factory=dict)
    sip: dict[str, Any] = field(default_factory=dict)
    "See `TrunkSettings`."
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it."""

    service: ServiceSettings = field(default_factory=ServiceSettings)
    sip: SipSettings = field(default_factory=SipSettings)
    rtp: RtpSettings = field(default_factory=RtpSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    stt: SttSettings = field(default_factory=SttSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    spool: SpoolSettings = field(default_factory=SpoolSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    log: LogSettings = field(default_factory=LogSettings)
    route: tuple[RouteSettings, ...] = ()


CHOICES: dict[str, tuple[str, ...]] = {
    "gate.mode": ("off", "hold", "speech"),
    "rtp.srtp": ("off", "optional", "required"),
    "sip.answer": ("sendrecv", "recvonly"),
    "sip.progress": ("off", "180", "183"),
    "sip.srtp": ("off", "optional", "required"),
    "privacy.numbers": ("plain", "hashed", "none"),
    "log.level": ("debug", "info", "warning", "error"),
    "log.format": ("auto", "json", "text"),
}
AT_LEAST: dict[str, float] = {
    "service.max_legs": 1,
    "service.tick_ms": 10,
    "service.drain_s": 0,
    "stt.chunk_ms": 20,
    "stt.replay_s": 1,
    "stt.turn_wait_s": 0,
    "gate.preroll_ms": 0,
    "gate.hangover_ms": 100,
    "gate.turn_end_ms": 100,
    "gate.mute_after_ms": 100,
    "rtp.jitter_ms": 0,
    "rtp.jitter_max_ms": 20,
    "redis.partitions": 1,
    "redis.maxlen": 1,
    "redis.call_ttl_s": 1,
    "spool.keep_s": 0,
    "sip.session_expires_s": 90,
    "sip.ring_ms": 0,
}
AT_MOST: dict[str, float] = {
    "sip.ring_ms": 60_000,  # RFC 3261 13.3.1.1: longer, and the provisional response would have to be repeated
    "service.tick_ms": 200,
    "stt.chunk_ms": 1000,  # it is filled in a ring of 3 s
    "gate.preroll_ms": 2500,  # the longest look-back of that ring
}


def build(kind: type[T], table: Mapping[str, Any], path: str, problems: list[str]) -> T:
    """A settings dataclass from a TOML table. Every unknown key, wrong type and value out of range is added to
    `problems` (prefixed with `path`), and the default stands in for it. Providers use it for their own tables."""
    return from_table(kind, table, path, problems, check=_check_range)


def _check_range(where: str, value: Any, problems: list[str]) -> None:
    name = where.rpartition("].")[2]  # `route[0].gate.mode` obeys the rules of `gate.mode`
    if name in CHOICES and value not in CHOICES[name]:
        problems.append(f"{where}: must be one of {', '.join(CHOICES[name])}")
    if name in AT_LEAST and value < AT_LEAST[name]:
        problems.append(f"{where}: must be at least {AT_LEAST[name]:g}")
    if name in AT_MOST and value > AT_MOST[name]:
        problems.append(f"{where}: must be at most {AT_MOST[name]:g}")


def read_tables(path: Path | None, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The merged raw tables: file, then `CALLBRIDGE_SECTION__KEY`, then the usual names. Second: problems found."""
    problems: list[str] = []
    tables: dict[str, Any] = {}
    source = path if path is not None else next((p for p in SEARCH if p.is_file()), None)
    if source is not None:
        try:
            tables = tomllib.loads(source.read_text("utf-8"))
        except OSError as error:
            problems.append(f"{source}: {error.strerror or error}")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            problems.append(f"{source}: not valid TOML: {error}")
    for name, keys in USUAL_NAMES.items():
        if environ.get(name):
            put(tables, keys, environ[name])
    overlay(tables, environ, problems)
    problems += misspelt(environ, _known_keys())
    return tables, problems


def _known_keys() -> dict[str, frozenset[str]]:
    """Keys of each section."""
    sections = {field.name: getattr(Settings(), field.name) for field in dataclasses.fields(Settings)}
    tables = {name: section for name, section in sections.items() if dataclasses.is_dataclass(section)}
    return {name: frozenset(key.name for key in dataclasses.fields(table)) for name, table in tables.items()}


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises ConfigError with every problem found."""
    tables, problems = read_tables(path, os.environ if environ is None else environ)
    settings = parse(tables, problems)
    if problems:
        raise ConfigError(problems)
    return settings


def parse(tables: dict[str, Any], problems: list[str]) -> Settings:
    """Settings from raw tables; what is wrong is appended to `problems`."""
    stt = tables.get("stt", {})
    if not isinstance(stt, Mapping):
        problems.append("stt: must be a table")
        stt = {}
    tables = {**tables, "stt": _providers_apart(stt)}
    settings = build(Settings, tables, "", problems)
    first_last = settings.rtp.ports
    if len(first_last) != 2 or not 1 <= first_last[0] < first_last[1] <= 65535:
        problems.append("rtp.ports: must be [first, last], 1 to 65535")
    if settings.redis.maxlen_hard < settings.redis.maxlen:
        problems.append("redis.maxlen_hard: must be at least redis.maxlen")
    return settings


def _providers_apart(stt: Mapping[str, Any]) -> dict[str, Any]:
    """`[stt]`, with the tables below it, which are the providers' own, under `providers`."""
    ours = {field.name for field in dataclasses.fields(SttSettings)} - {"providers"}
    theirs = {key: value for key, value in stt.items() if isinstance(value, Mapping) and key not in ours}
    return {key: value for key, value in stt.items() if key not in theirs} | {"providers": theirs}
