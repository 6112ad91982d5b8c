"""Who may call us, how often, and how SIP messages are counted."""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from collections.abc import Sequence

from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.ingress.contract import Host
from bridge.metrics import Metrics
from bridge.sip.auth import DigestServer, Verdict
from bridge.sip.endpoint import Refusal
from bridge.sip.events import Flow
from bridge.sip.message import Request

REALM = "callbridge"
RETRY_AFTER = 5  # s; told to who is refused for load
MAX_SOURCES = 10_000
"Source addresses whose rate is remembered."
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Wire:
    """Counts SIP messages (`Observer`)."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def request(self, method: str) -> None:
        self._metrics.sip_requests.add(1, method)

    def response(self, method: str, status: int) -> None:
        self._metrics.sip_responses.add(1, method, str(status))

    def dropped(self, reason: str) -> None:
        self._metrics.sip_dropped.add(1, reason)


class Screen:
    """Who may call, and how often. Never asked about running calls."""

    def __init__(self, settings: Settings, host: Host, metrics: Metrics) -> None:
        self._host = host
        self._dropped = metrics.sip_dropped
        self._refused = metrics.calls_refused
        self._digest = DigestServer({}, realm=REALM, secret=secrets.token_bytes(32))
        self._admitted: dict[str, bool] = {}
        self._parting: set[str] = set()
        "Sources that a reload took off the list: what belongs to their running calls is still served."
        self._buckets: dict[str, tuple[float, float]] = {}
        self._networks: list[Network] = []
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Another allow-list, users and rate, from the next message on. Raises ConfigError: nothing changed."""
        self._networks = networks(settings.sip.allow)
        self._rate = settings.sip.rate_per_source
        self._digest.users = dict(settings.sip.users)
        served = {host for host, known in self._admitted.items() if known} | self._parting
        self._admitted.clear()
        self._parting = {host for host in served if not self._is_listed(host)}

    def admit(self, host: str) -> bool:
        """By the allow-list; who is not on it gets no answer, so scanners learn nothing."""
        known = self._is_listed(host) or host in self._parting
        if not known:
            self._dropped.add(1, "stranger")
        return known

    def _is_listed(self, host: str) -> bool:
        known = self._admitted.get(host)
        if known is None:
            if len(self._admitted) >= MAX_SOURCES:  # scanners first: a reload must know who has been served
                served = [host for host, is_listed in self._admitted.items() if is_listed]
                self._admitted = dict.fromkeys(served[-MAX_SOURCES // 2 :], True)
            address = ipaddress.ip_address(host.partition("%")[0])
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            known = any(address in network for network in self._networks)
            self._admitted[host] = known
        return known

    def judge(self, request: Request, flow: Flow, now: float) -> Refusal | None:
        """503 while full or draining (the SBC's health probe wants that of OPTIONS) and above a source's rate, 401 to
        an INVITE without good credentials where `sip.users` are set. OPTIONS is never challenged: probes have none."""
        if not self._is_listed(flow.remote[0]):
            return Refusal(0)
        busy = "" if self._host.is_accepting else "full or draining"
        busy = busy or ("" if self._has_token(flow.remote[0], now) else "rate of one source")
        if busy:
            if request.method == "INVITE":
                self._refused.add(1, "sip", busy)
            return Refusal(503, [("Retry-After", str(RETRY_AFTER))])
        if not self._digest.users or request.method == "OPTIONS":
            return None
        verdict = self._digest.check(request, now)
        if verdict is Verdict.GOOD:
            return None
        return Refusal(401, self._digest.challenge(now, is_stale=verdict is Verdict.STALE))

    def _has_token(self, source: str, now: float) -> bool:
        """A bucket that holds one second's worth of requests."""
        size = max(self._rate, 1.0)
        tokens, since = self._buckets.get(source, (size, now))
        tokens = min(size, tokens + (now - since) * self._rate)
        if len(self._buckets) >= MAX_SOURCES:
            self._buckets.clear()
        self._buckets[source] = (tokens - 1.0 if tokens >= 1.0 else tokens, now)
        return tokens >= 1.0


def networks(allow: Sequence[str]) -> list[Network]:
    """Raises ConfigError naming each entry of `sip.allow` that is no address or network."""
    found: list[Network] = []
    problems: list[str] = []
    for text in allow:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            problems.append(f"sip.allow: {text} is not an address or network")
    if problems:
        raise ConfigError(problems)
    return found


def server_tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or later, with client certificates where `sip.client_ca` is set (RFC 7866 section 12); None without a
    certificate. Raises ConfigError for files that cannot be used."""
    sip = settings.sip
    if not sip.certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(sip.certificate, sip.private_key or None)
        if sip.client_ca:
            context.load_verify_locations(sip.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"sip.certificate: {error}"]) from None
    return context


def client_tls(settings: Settings) -> ssl.SSLContext | None:
    """For connections that we open ourselves, to a peer whose own was closed or that wants its requests over TLS: it
    shows our certificate. With `sip.client_ca` a peer is whom that authority knows, as when it connects to us; without,
    it must be known to the system's by its host name. None without a certificate. Raises ConfigError."""
    sip = settings.sip
    if not sip.certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=sip.client_ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(sip.certificate, sip.private_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"sip.certificate: {error}"]) from None
    context.check_hostname = not sip.client_ca
    return context
