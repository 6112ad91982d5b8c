"""The calls API: what goes on, the five verbs, the end, and external media."""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from aiohttp import web

from bridge.clock import monotonic
from bridge.errors import PeerError
from bridge.net import arrival
from bridge.web.connection import body
from bridge.web.contract import VERBS, Calls, CallWish, ExternalMedia, LegWish
from bridge.web.problems import problem

COMPRESS_ABOVE = 2048  # bytes; below, the headers are most of it
RECENT = 50
RECENT_MAX = 500
GATE_TIMES = {"preroll_ms", "hangover_ms", "turn_end_ms", "mute_after_ms"}
CORRELATED = 16  # entries
CORRELATED_KEY = 64  # characters
LONGEST_MS = 600_000  # of any of them; more would never come to pass in a call


class CallsApi:
    """`/v1/calls` and below, but for the event streams."""

    def __init__(self, calls: Calls, external: ExternalMedia | None) -> None:
        self._calls = calls
        self._external = external

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/calls", self.list),
            web.post("/v1/calls", self.create),
            web.get("/v1/calls/{call}", self.get),
            web.delete("/v1/calls/{call}", self.end),
            web.post(f"/v1/calls/{{call}}/legs/{{leg}}/{{verb:{'|'.join(VERBS)}}}", self.act),
            web.patch("/v1/calls/{call}/legs/{leg}", self.adjust),
            web.get("/v1/status", self.status),
        ]

    async def list(self, request: web.Request) -> web.Response:
        limit = int(request.query.get("limit", 0))
        if request.query.get("state", "live") == "live":
            return _json({"calls": list(self._calls.list())[-limit:]})
        live = {call["id"] for call in self._calls.list()}
        stored = await self._calls.recent(limit or RECENT)
        return _json({"calls": [call for call in stored if call["id"] not in live]})

    async def get(self, request: web.Request) -> web.Response:
        call = self._calls.get(request.match_info["call"])
        return problem(404, "No such call is going on.") if call is None else _json(call)

    async def status(self, _: web.Request) -> web.Response:
        return _json(self._calls.status())

    async def act(self, request: web.Request) -> web.Response:
        asked = request.match_info
        verb = next(verb for verb in VERBS if verb == asked["verb"])
        at = _arrival(request)
        await _no_body(request)
        if not self._calls.act(asked["call"], asked["leg"], verb, at):
            return problem(404, "No such call or leg is going on.")
        return web.Response(status=204)

    async def adjust(self, request: web.Request) -> web.Response:
        asked = request.match_info
        if not self._calls.adjust(asked["call"], asked["leg"], gate_wish(await body(request))):
            return problem(404, "No such call or leg is going on.")
        return web.Response(status=204)

    async def end(self, request: web.Request) -> web.Response:
        await _no_body(request)
        if not self._calls.end(request.match_info["call"]):
            return problem(404, "No such call is going on.")
        return web.Response(status=204)

    async def create(self, request: web.Request) -> web.Response:
        if self._external is None:
            return problem(404, "External media is not configured.")
        wish = call_wish(await body(request))
        call = self._external.open(wish, source=request.remote or "", now=monotonic())
        response = _json(call, status=201)
        response.headers["Location"] = f"/v1/calls/{call['id']}"
        return response


async def _no_body(request: web.Request) -> None:
    """Some clients always send one. Raises PeerError where it says something that nobody would heed."""
    if request.can_read_body and (await body(request)).strip() not in (b"", b"{}", b"null"):
        raise PeerError("There is no body here: nothing in it would count.")


def _arrival(request: web.Request) -> float:
    """When it came; after a standstill of the process it was handled later."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    return monotonic() if sock is None else arrival.of_stream(sock)


def _json(body: Any, *, status: int = 200) -> web.Response:
    response = web.json_response(body, status=status)
    if response.body is not None and len(response.text or "") > COMPRESS_ABOVE:
        response.enable_compression()
    return response


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise PeerError("The body is not JSON.") from None


def gate_wish(text: bytes) -> dict[str, Any]:
    """The body of `PATCH .../legs/{leg}`: some of the `[gate]` settings, of the right types and not absurdly long. What
    else they must be is the configuration's to say. Raises PeerError that names the place."""
    body = _parsed(text)
    _only(body, "body", {"mode", "music", *GATE_TIMES})
    if not isinstance(body.get("mode", ""), str):
        raise PeerError("mode: a text.")
    if not isinstance(body.get("music", True), bool):
        raise PeerError("music: true or false.")
    for key in GATE_TIMES & body.keys():
        if _number(body, key, LONGEST_MS, "") is None:
            raise PeerError(f"{key}: a number.")
    return dict(body)


def call_wish(text: bytes) -> CallWish:
    """The body of `POST /v1/calls`. Raises PeerError that names the place."""
    body = _parsed(text)
    _only(body, "body", {"legs", "from", "to", "correlation"})
    legs = body.get("legs")
    if not isinstance(legs, list) or not 1 <= len(legs) <= 16:
        raise PeerError("legs: a list of 1 to 16 legs.")
    correlation = body.get("correlation", {})
    _only(correlation, "correlation", None)
    if len(correlation) > CORRELATED or any(len(key) > CORRELATED_KEY for key in correlation):
        raise PeerError(f"correlation: at most {CORRELATED} entries, named by at most {CORRELATED_KEY} characters.")
    return CallWish(
        tuple(_leg_wish(leg, f"legs[{n}]") for n, leg in enumerate(legs)),
        from_=_text(body, "from", ""),
        to=_text(body, "to", ""),
        correlation={key: _text(correlation, key, "correlation.") for key in correlation},
    )


def _leg_wish(leg: Any, where: str) -> LegWish:
    _only(leg, where, {"role", "codec", "codecs", "participant", "payload_type", "telephone_event", "remote"})
    if {"codec", "codecs"} <= leg.keys():
        raise PeerError(f"{where}: codec or codecs, not both.")
    codecs = leg.get("codecs", [leg.get("codec", "PCMU")])
    if not isinstance(codecs, list) or not 1 <= len(codecs) <= 8 or not all(isinstance(c, str) for c in codecs):
        raise PeerError(f"{where}: codec is a name, or codecs a list of names.")
    return LegWish(
        tuple(codec.upper() for codec in codecs),
        role=_text(leg, "role", f"{where}."),
        participant=_text(leg, "participant", f"{where}."),
        payload_type=_number(leg, "payload_type", 127, f"{where}."),
        telephone_event=_number(leg, "telephone_event", 127, f"{where}."),
        remote=_remote(leg.get("remote"), f"{where}.remote"),
    )


def _only(value: Any, where: str, known: set[str] | None) -> None:
    if not isinstance(value, dict):
        raise PeerError(f"{where}: a JSON object.")
    unknown = sorted(value.keys() - known) if known is not None else []
    if unknown:
        raise PeerError(f"{where}: unknown {', '.join(unknown)}.")


def _text(table: dict[str, Any], key: str, prefix: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or len(value) > 256:
        raise PeerError(f"{prefix}{key}: a text of at most 256 characters.")
    return value


def _number(table: dict[str, Any], key: str, highest: int, prefix: str) -> int | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= highest:
        raise PeerError(f"{prefix}{key}: a number from 0 to {highest}.")
    return value


def _remote(value: Any, where: str) -> tuple[str, int] | None:
    if value is None:
        return None
    _only(value, where, {"address", "port"})
    address, port = _text(value, "address", f"{where}."), _number(value, "port", 65535, f"{where}.")
    if not address or not port:
        raise PeerError(f"{where}: needs address and port.")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise PeerError(f"{where}.address: an IP address; a name is held against no packet.") from None
    return address, port
