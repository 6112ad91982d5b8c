"""Makes a leg's transcription from its call's settings: routes through the providers, breakers, and a driver."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import Any

from bridge.config import Settings, SttSettings, build
from bridge.model import AudioFormat
from bridge.net.stt_driver import SttDriver, SttDrivers
from bridge.plans import plan_settings, unknown_codecs
from bridge.stt import PROVIDERS
from bridge.stt.events import SttEvent
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber


def provider_settings(name: str, tables: dict[str, dict[str, Any]], problems: list[str]) -> Any:
    """A provider's settings from its `[stt.<name>]` table; what is wrong with it is appended to `problems`."""
    provider = PROVIDERS[name]
    settings = build(provider.settings_type, tables.get(name, {}), f"stt.{name}", problems)
    problems += provider.check(settings)
    return settings


def check_stt(settings: SttSettings, problems: list[str]) -> None:
    """Everything that can be wrong with `[stt]` and the tables of the providers in use, without connecting."""
    names = dict.fromkeys((settings.provider, *settings.fallback))
    for name in names:
        if name not in PROVIDERS:
            problems.append(f"stt: there is no provider {name!r}; known: {', '.join(PROVIDERS)}")
        else:
            provider_settings(name, settings.providers, problems)
    problems += [f"stt.{name}: no such provider or setting" for name in settings.providers.keys() - PROVIDERS.keys()]


def check_routes(settings: Settings, problems: list[str]) -> None:
    """The `[[route]]` tables, each as a call would use it."""
    for n, route in enumerate(settings.route):
        unknown = route.match.keys() - {"from", "to", "source", "header", "aor"}
        problems += [f"route[{n}].match.{key}: no such setting" for key in unknown]
        problems += [f"route[{n}].match.{where}: must be text" for where in _not_text(route.match)]
        problems += [f"route[{n}].match.source: {source} is no network" for source in _no_network(route.match)]
        if "chunk_ms" in route.stt:
            problems.append(f"route[{n}].stt.chunk_ms: is the same for all calls")
        plan = plan_settings(route, settings, problems, f"route[{n}]")
        check_stt(plan.stt, problems)
        problems += unknown_codecs(plan.sip.codecs, f"route[{n}].sip.codecs")


def _not_text(match: dict[str, Any]) -> list[str]:
    """What a pattern could not be held against when a call comes."""
    headers = match.get("header", {})
    if not isinstance(headers, dict):
        return ["header"]
    plain = [key for key, pattern in match.items() if key != "header" and not isinstance(pattern, str)]
    return plain + [f"header.{name}" for name, pattern in headers.items() if not isinstance(pattern, str)]


def _no_network(match: dict[str, Any]) -> list[str]:
    source = match.get("source")
    if not isinstance(source, str) or "/" not in source:
        return []
    try:
        ipaddress.ip_network(source, strict=False)
    except ValueError:
        return [source]
    return []


class LegTranscription:
    """One leg's transcriber with its driver."""

    def __init__(self, transcriber: Transcriber, driver: SttDriver) -> None:
        self.transcriber = transcriber
        self.wake = driver.wake


class Transcriptions:
    """Makes them. Breakers are shared by all legs, so that a provider that is down is found out once."""

    def __init__(self, drivers: SttDrivers) -> None:
        self._drivers = drivers
        self._breakers = Breakers(random.random)

    def open(
        self,
        audio: AudioFormat,
        settings: SttSettings,
        on_events: Callable[[list[SttEvent]], None],
        *,
        call: str,
        leg: str,
    ) -> LegTranscription:
        """For a leg whose audio comes in `audio` format."""
        names = dict.fromkeys((settings.provider, *settings.fallback))
        routes = [Route(PROVIDERS[name], provider_settings(name, settings.providers, [])) for name in names]
        options = SttOptions(
            language=settings.language,
            interim=settings.interim,
            chunk_ms=settings.chunk_ms,
            replay_s=settings.replay_s,
        )
        transcriber = Transcriber(
            routes=routes, audio=audio, options=options, breakers=self._breakers, random=random.random
        )
        return LegTranscription(transcriber, self._drivers.attach(transcriber, on_events, call=call, leg=leg))
