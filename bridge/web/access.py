"""Who may ask, from where, and how often. Pure decisions; the middleware at the end applies them.

Tokens are compared in constant time. Without tokens the server trusts whoever reaches it, so it must not be reachable
through somebody's browser: requests from another origin are refused, and on a loopback address so are host names that
are not local (DNS rebinding).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.clock import monotonic
from bridge.web.problems import problem, too_many

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
PAGE_PREFIX = "/console/"
MAX_SOURCES = 10_000
"""Addresses remembered by a limit; the longest unseen is forgotten first."""

CALLS_PER_SECOND, CALLS_AT_ONCE = 20.0, 100.0  # new calls of one address; a PBX is one address
GUESSES_PER_SECOND, GUESSES_AT_ONCE = 0.2, 10.0  # wrong tokens of one address


class SourceLimit:
    """A token bucket per source address. IPv6 counts by /64, which is what one subscriber gets."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, source: str, now: float) -> float:
        """0.0 when admitted, else the seconds after which one more would be."""
        key = _network(source)
        level, then = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        is_admitted = level >= 1.0
        self._buckets[key] = (level - 1.0 if is_admitted else level, now)
        if len(self._buckets) > MAX_SOURCES:
            self._buckets.popitem(last=False)
        return 0.0 if is_admitted else (1.0 - level) / self._rate


def _network(source: str) -> str:
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def is_token_right(authorization: str, tokens: Sequence[str]) -> bool:
    """Every token is compared, each in constant time, so that the time says nothing about which one nearly fits."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer":
        return False
    given_bytes = given.strip().encode()
    matches = [hmac.compare_digest(given_bytes, token.encode()) for token in tokens]
    return any(matches)


def is_same_origin(origin: str, host: str) -> bool:
    """`Origin` (RFC 6454) against `Host`; a missing Origin is not a browser's cross-site request."""
    return not origin or urlsplit(origin).netloc.lower() == host.lower()


def is_local_name(host: str) -> bool:
    """An IP address or localhost, with or without port: names that no foreign DNS server can point at us."""
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Access:
    """The rules of one server."""

    def __init__(self, tokens: Sequence[str], *, is_loopback: bool) -> None:
        self._tokens = tuple(tokens)
        self._is_loopback = is_loopback
        self._calls = SourceLimit(CALLS_PER_SECOND, CALLS_AT_ONCE)
        self._guesses = SourceLimit(GUESSES_PER_SECOND, GUESSES_AT_ONCE)

    @property
    def needs_token(self) -> bool:
        return bool(self._tokens)

    def check(self, request: web.Request, now: float) -> web.Response | None:
        """None, or the refusal."""
        if request.path in OPEN_PATHS or request.path == "/" or request.path.startswith(PAGE_PREFIX):
            return None
        refusal = self._check_token(request, now) if self._tokens else self._check_browser(request)
        return refusal or self._check_rate(request, now)

    def _check_token(self, request: web.Request, now: float) -> web.Response | None:
        if is_token_right(request.headers.get("Authorization", ""), self._tokens):
            return None
        if "Authorization" in request.headers and (wait := self._guesses.admit(request.remote or "", now)):
            return too_many(wait)
        return problem(401, "A bearer token is needed.", headers={"WWW-Authenticate": 'Bearer realm="callbridge"'})

    def _check_browser(self, request: web.Request) -> web.Response | None:
        if not is_same_origin(request.headers.get("Origin", ""), request.host):
            return problem(403, "Other origins need http.tokens to be set.")
        if self._is_loopback and request.path != "/metrics" and not is_local_name(request.host):
            return problem(421, "This host name is not ours; set http.tokens to be reached by it.")
        return None

    def _check_rate(self, request: web.Request, now: float) -> web.Response | None:
        """Only what opens something new is limited; requests about a running call never are."""
        is_new = request.method == "POST" and (request.path == "/v1/calls" or request.path.startswith("/whip"))
        wait = self._calls.admit(request.remote or "", now) if is_new else 0.0
        return too_many(wait) if wait else None

    def preflight(self, request: web.Request, allowed: Sequence[str]) -> web.Response:
        """OPTIONS, a CORS preflight or not. Browsers send it without the token (RFC 9725 section 4.7)."""
        is_whip = request.path.startswith("/whip")
        headers = {"Allow": ", ".join(allowed)}
        if is_whip and "POST" in allowed:
            headers["Accept-Post"] = "application/sdp"
        if is_whip and "PATCH" in allowed:
            headers["Accept-Patch"] = "application/trickle-ice-sdpfrag"
        if self._tokens:
            headers["Access-Control-Allow-Methods"] = ", ".join(allowed)
            headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match, Last-Event-ID"
            headers["Access-Control-Max-Age"] = "600"
        return web.Response(status=200 if is_whip else 204, headers=headers)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "OPTIONS":
            mismatch = request.match_info.http_exception
            if isinstance(mismatch, web.HTTPMethodNotAllowed):
                return self.preflight(request, sorted({*mismatch.allowed_methods, "OPTIONS"}))
        refusal = self.check(request, monotonic())
        return refusal if refusal is not None else await handler(request)
