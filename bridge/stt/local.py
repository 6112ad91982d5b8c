"""The recogniser that needs no account: `callbridge emulate deepgram` in a process of its own, on this machine.

It speaks Deepgram's protocol, so this is Deepgram's session with another address and nothing to pay. The composition
root starts the process when `url` is empty, and puts its address there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bridge.model import AudioFormat
from bridge.stt import deepgram
from bridge.stt.deepgram import DeepgramSession, DeepgramSettings
from bridge.stt.session import Endpoint, Policy, Provider, SttOptions, SttSession, common_problems, wire_format

STARTED_BY_US = "ws://"  # stands in where `url` is empty: the service makes the address


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """[stt.local]"""

    url: str = ""
    "Of a recogniser that runs already; empty: one is started with the service."
    encoding: str = "auto"
    keepalive_s: float = 4.0
    close_timeout_s: float = 10.0
    query: dict[str, Any] = field(default_factory=dict)


def _as_deepgram(settings: LocalSettings) -> DeepgramSettings:
    return DeepgramSettings(
        url=settings.url,
        api_key="local",  # the protocol wants one; it is no secret
        model="local",
        encoding=settings.encoding,
        keepalive_s=settings.keepalive_s,
        close_timeout_s=settings.close_timeout_s,
        query=settings.query,
    )


def policy(settings: LocalSettings) -> Policy:
    return replace(deepgram.policy(_as_deepgram(settings)), billed="nothing")


def endpoint(settings: LocalSettings, wire: AudioFormat, options: SttOptions) -> Endpoint:
    return deepgram.endpoint(_as_deepgram(settings), wire, options)


def make_session(settings: LocalSettings, wire: AudioFormat, options: SttOptions) -> SttSession:
    return DeepgramSession(_as_deepgram(settings), wire, options)


def check(settings: LocalSettings) -> list[str]:
    return common_problems("local", url=settings.url or STARTED_BY_US, encoding=settings.encoding)


LOCAL = Provider(
    name="local",
    settings_type=LocalSettings,
    policy=policy,
    wire=lambda settings, leg: wire_format(settings.encoding, leg),
    endpoint=endpoint,
    make_session=make_session,
    refusal=deepgram.refusal,
    check=check,
)
