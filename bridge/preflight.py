"""Everything that can be wrong before the first call, found at once: for `callbridge check` and for the start."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bridge.config import Settings, parse
from bridge.environment import PREFIX, strays
from bridge.errors import ConfigError, SinkError
from bridge.ingress.sip_screen import networks, server_tls
from bridge.net.redis_link import Address
from bridge.net.sip_listen import parse_listen as parse_sip_listen
from bridge.net.spool_files import default_root
from bridge.plans import unknown_codecs
from bridge.publish.redact import Redactor
from bridge.sinks.redis_streams import RedisStreams
from bridge.transcription import check_routes, check_stt, provider_settings
from bridge.web.server import http_tls
from bridge.web.server import parse_listen as parse_http_listen

REDIS_TIMEOUT = 4.0  # s; more than one connection may take
NOBODY = "-"  # no call has this id
PROVIDER_TIMEOUT = 10.0  # s


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence. `is_fatal`: the service does not start; else it starts and heals once the cause is gone."""

    text: str
    is_fatal: bool = True


def check_settings(tables: dict[str, object], problems: list[str]) -> Settings:
    """Settings from raw tables; `problems` gets what is wrong with values, providers and routes, without any I/O."""
    settings = parse(tables, problems)
    check_stt(settings.stt, problems)
    check_routes(settings, problems)
    try:
        Address.parse(settings.redis.url)
    except ConfigError as error:
        problems += error.problems
    try:
        Redactor(settings.privacy)
    except ValueError as error:
        problems.append(str(error))
    problems += unknown_codecs(settings.sip.codecs, "sip.codecs")
    missing = _missing_files(settings)
    problems += [f"{name}: no such file" for name in missing]
    checks: list[Callable[[], object]] = [lambda: networks(settings.sip.allow)]
    if not missing:
        checks += [lambda: server_tls(settings), lambda: http_tls(settings.http)]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    return settings


def _missing_files(settings: Settings) -> list[str]:
    sip, http = settings.sip, settings.http
    named = {
        "sip.certificate": sip.certificate,
        "sip.private_key": sip.private_key,
        "sip.client_ca": sip.client_ca,
        "http.certificate": http.certificate,
        "http.private_key": http.private_key,
    }
    return [name for name, path in named.items() if path and not Path(path).is_file()]


async def check_machine(settings: Settings, *, online: bool = False) -> list[Finding]:
    """Ports that are taken, Redis that does not answer, a spool that cannot be written; with `online` also whether
    the provider takes our key (one connection, no audio)."""
    findings = [Finding(text) for text in [*_ports(settings), *_spool(settings)]]
    redis, provider = await asyncio.gather(_redis(settings), _provider(settings) if online else _nothing())
    findings += [Finding(text, is_fatal=False) for text in [*redis, *_families(settings), *_strays()]]
    findings += [Finding(text) for text in provider]
    return findings


def _strays() -> list[str]:
    return [f"{name}: sets nothing; a setting is {PREFIX}SECTION__KEY" for name in strays(os.environ)]


async def _nothing() -> list[str]:
    return []


def _ports(settings: Settings) -> list[str]:
    wanted: list[tuple[str, int, str, int]] = []
    problems: list[str] = []
    for text in settings.sip.listen:
        try:
            address = parse_sip_listen(text)
        except ValueError as error:
            problems.append(f"sip.listen: {error}")
            continue
        kind = socket.SOCK_DGRAM if address.transport == "udp" else socket.SOCK_STREAM
        wanted.append((address.host, address.port, f"sip.listen: {text}", kind))
    try:
        wanted.append((*parse_http_listen(settings.http.listen), f"http.listen: {settings.http.listen}", 1))
    except ConfigError as error:
        problems += error.problems
    wanted.append((settings.rtp.bind, 0, f"rtp.bind: {settings.rtp.bind}", socket.SOCK_DGRAM))
    return problems + [problem for entry in wanted if (problem := _try_bind(*entry))]


def _families(settings: Settings) -> list[str]:
    """Who calls over IPv6 is told an IPv6 address for its RTP."""
    if ":" in settings.rtp.bind or settings.rtp.advertise:
        return []
    listen = next((text for text in settings.sip.listen if "[" in text), "")
    if not listen:
        return []
    return [f"rtp.bind: {settings.rtp.bind} hears nothing of calls over {listen}; :: takes IPv6 and IPv4"]


def _try_bind(host: str, port: int, what: str, kind: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind == socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((host, port))
        except OSError as error:
            return f"{what}: {error.strerror}"
    return ""


async def _redis(settings: Settings) -> list[str]:
    """Whether events could be written there now: found, let in, no replica, with the rights that it takes."""
    try:
        sink = RedisStreams(settings.redis)
    except ConfigError:
        return []  # `check_settings` tells it
    reasons: dict[str, None] = {}
    try:
        async with asyncio.timeout(REDIS_TIMEOUT):
            for partition in range(sink.partitions):
                try:
                    await sink.positions(partition, [NOBODY])
                    if policy := await sink.eviction(partition):
                        reasons[f"maxmemory-policy {policy} can take events away; noeviction is wanted"] = None
                except SinkError as error:
                    reasons[str(error)] = None
    except TimeoutError:
        reasons["no answer in time"] = None
    finally:
        await sink.close()
    return [f"redis.url: {Address.parse(settings.redis.url).shown}: {reason}" for reason in reasons]


async def _provider(settings: Settings) -> list[str]:
    """Whether the first provider lets us in."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI

    from bridge.model import AudioFormat
    from bridge.stt import PROVIDERS
    from bridge.stt.session import SttOptions

    name = settings.stt.provider
    if name == "local":
        return []  # started with the service
    own = provider_settings(name, settings.stt.providers, [])
    options = SttOptions(language=settings.stt.language)
    endpoint = PROVIDERS[name].endpoint(own, AudioFormat("mulaw", 8000), options)
    try:
        async with asyncio.timeout(PROVIDER_TIMEOUT):
            async with connect(endpoint.url, additional_headers=dict(endpoint.headers), proxy=None):
                return []
    except InvalidStatus as error:  # the exception's own text may hold our key
        said = error.response.headers.get("dg-error", "")
        return [f"stt.{name}: refused with HTTP {error.response.status_code} {said}".rstrip()]
    except InvalidURI:
        return [f"stt.{name}.url: not a WebSocket address"]
    except (InvalidHandshake, OSError, TimeoutError) as error:
        where = urlsplit(endpoint.url).netloc.rpartition("@")[2]  # no user, no password, no query
        return [f"stt.{name}: cannot connect to {where}: {type(error).__name__}"]


def _spool(settings: Settings) -> list[str]:
    """Whether events can be written ahead: the directory is there or can be made."""
    path = Path(settings.spool.path) if settings.spool.path else default_root()
    probe = path
    while not probe.exists() and probe != probe.parent:
        probe = probe.parent
    if probe.is_dir() and os.access(probe, os.W_OK):
        return []
    return [f"spool.path: {path} cannot be written"]
