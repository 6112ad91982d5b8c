"""Which settings a call has: the configuration's, changed by the first route that matches it."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

import rtpcodecs
from bridge.config import GateSettings, RouteSettings, Settings, SttSettings, TrunkSettings, build
from bridge.ingress.contract import CallOffer

ProviderTables = dict[str, dict[str, Any]]
"Entries of `[stt.<name>]` by provider."


@dataclass(frozen=True, slots=True)
class CallPlan:
    """The settings of one call, after routes."""

    gate: GateSettings
    stt: SttSettings
    labels: dict[str, str]
    sip: TrunkSettings = field(default_factory=TrunkSettings)


def with_tables(stt: SttSettings, tables: ProviderTables) -> SttSettings:
    """`stt` with further entries in the providers' own tables."""
    merged = {name: stt.providers.get(name, {}) | table for name, table in tables.items()}
    return replace(stt, providers=stt.providers | merged)


def plan_for(offer: CallOffer, settings: Settings) -> CallPlan:
    """The settings of a call: the first route that matches it changes the defaults."""
    route = next((each for each in settings.route if _matches(each, offer)), RouteSettings())
    return plan_settings(route, settings, [], "route")  # its problems were told at the start


def plan_settings(route: RouteSettings, settings: Settings, problems: list[str], path: str) -> CallPlan:
    """What `route` makes of `settings`; what is wrong with it is appended to `problems` under `path`."""
    gate = build(GateSettings, _table(settings.gate) | route.gate, f"{path}.gate", problems)
    plain = {key: value for key, value in route.stt.items() if not isinstance(value, dict)}
    own = {name: table for name, table in route.stt.items() if isinstance(table, dict)}
    providers = dict(settings.stt.providers)
    for name, table in own.items():
        providers[name] = providers.get(name, {}) | table
    stt = build(SttSettings, _table(settings.stt) | plain | {"providers": providers}, f"{path}.stt", problems)
    sip = build(TrunkSettings, _table(trunk_settings(settings)) | route.sip, f"{path}.sip", problems)
    return CallPlan(gate=gate, stt=stt, labels=dict(route.labels), sip=sip)


def trunk_settings(settings: Settings) -> TrunkSettings:
    """What holds where no route says otherwise."""
    names = TrunkSettings.__dataclass_fields__.keys() - {"srtp"}
    return TrunkSettings(srtp=settings.rtp.srtp, **{name: getattr(settings.sip, name) for name in names})


def unknown_codecs(codecs: Sequence[str], where: str) -> list[str]:
    """A sentence for each name that is no codec of ours."""
    known = ", ".join(rtpcodecs.CODECS)
    return [f"{where}: {name} is not one of {known}" for name in codecs if name.upper() not in rtpcodecs.CODECS]


def _table(settings: Any) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in type(settings).__dataclass_fields__}


def _matches(route: RouteSettings, offer: CallOffer) -> bool:
    """Shell-style patterns; an empty one matches all. `header` maps names to patterns; `aor` any participant's."""
    match = route.match
    for key, value in (("from", offer.from_), ("to", offer.to)):
        pattern = match.get(key)
        if pattern and not _number_fits(value, pattern):
            return False
    if match.get("source") and not _source_fits(offer.source, match["source"]):
        return False
    for name, pattern in (match.get("header") or {}).items():
        if not fnmatchcase(offer.headers.get(name.lower(), ""), pattern):
            return False
    aor = match.get("aor")
    return not aor or any(_number_fits(each, aor) for each in offer.aors)


def _source_fits(source: str, pattern: str) -> bool:
    """An address against `10.1.*`, or against a network as in `sip.allow`, `10.1.0.0/16`."""
    if "/" not in pattern:
        return fnmatchcase(source, pattern)
    try:
        return ipaddress.ip_address(source) in ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return False


def _number_fits(value: str, pattern: str) -> bool:
    """Against the whole URI, or its user part: `+1800*` fits `sip:+18005551234@host`."""
    user = value.partition("<")[2].partition(">")[0] or value
    user = user.partition(":")[2] or user
    return fnmatchcase(value, pattern) or fnmatchcase(user.partition("@")[0].partition(";")[0], pattern)
