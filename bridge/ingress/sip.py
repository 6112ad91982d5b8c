"""SIP and SIPREC: calls that an SBC or PBX sends us. The endpoint decides about SIP, `SipCall` about media, this file
joins them to the service."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import ssl
from collections.abc import Callable, Sequence

import structlog

from bridge.config import Settings
from bridge.errors import CapacityError, ConfigError, SdpError
from bridge.ingress.contract import Host
from bridge.ingress.sip_call import SipCall
from bridge.metrics import Metrics
from bridge.net.sip_transports import SipDriver
from bridge.sip.auth import DigestServer, Verdict
from bridge.sip.endpoint import Endpoint, Identity, Refusal
from bridge.sip.events import Accepted, Body, Confirmed, Ended, EndReason, Event, Flow, IncomingCall, Reoffer
from bridge.sip.message import Request
from bridge.sip.recording import SNAPSHOT_REQUEST

log = structlog.get_logger()
REALM = "callbridge"
RETRY_AFTER = 5  # s; told to who is refused for load
MAX_SOURCES = 10_000
"Source addresses whose rate is remembered."
GOODBYE = 2.0  # s that `close` gives the last BYEs and responses
SNAPSHOT = Body(SNAPSHOT_REQUEST, "application/rs-metadata")
SNAPSHOT_HEADERS = (
    ("Require", "siprec"),
    ("Accept", "application/sdp, application/rs-metadata"),
    ("Content-Disposition", "recording-session"),
)
REASONS = {
    EndReason.BYE: "hangup",
    EndReason.LOCAL: "hangup",
    EndReason.CANCELLED: "cancelled",
    EndReason.TIMEOUT: "timeout",
    EndReason.GONE: "hangup",
    EndReason.FAILED: "refused",
}


def make_sip_ingress(settings: Settings, host: Host, metrics: Metrics | None = None) -> SipIngress:
    """The factory of `bridge.ingress.INGRESSES`. Raises ConfigError for what can never work."""
    problems = []
    if settings.sip.answer not in ("sendrecv", "recvonly"):
        problems.append("sip.answer: must be sendrecv or recvonly")
    if settings.rtp.srtp not in ("off", "optional", "required"):
        problems.append("rtp.srtp: must be off, optional or required")
    checks: list[Callable[[], object]] = [lambda: networks(settings.sip.allow), lambda: server_tls(settings)]
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return SipIngress(settings, host, metrics or Metrics())


class SipIngress:
    """Listens on every `sip.listen` address."""

    def __init__(self, settings: Settings, host: Host, metrics: Metrics) -> None:
        self._settings = settings
        self._host = host
        self._metrics = metrics
        self._calls: dict[str, SipCall] = {}
        self._screen = Screen(settings, host, metrics)
        self._idle = asyncio.Event()
        "Set when no dialog is left."
        identity = Identity(session_expires=settings.sip.session_expires_s)
        self.endpoint = Endpoint(
            identity, make_token=lambda: secrets.token_hex(8), screen=self._screen.judge, observer=Wire(metrics)
        )
        self.driver = SipDriver(
            self.endpoint,
            self._on_event,
            admit=self._screen.admit,
            advertise=settings.sip.advertise,
            server_tls=server_tls(settings),
        )

    async def open(self) -> None:
        """Binds. Raises ConfigError naming each address that cannot be bound."""
        await self.driver.open(self._settings.sip.listen)

    async def close(self) -> None:
        """Stops listening once the last BYEs are answered, at most GOODBYE later."""
        if self.endpoint.n_dialogs:
            self._idle.clear()
            try:
                async with asyncio.timeout(GOODBYE):
                    await self._idle.wait()
            except TimeoutError:
                log.info("sip closes with calls unanswered", n=self.endpoint.n_dialogs)
        await self.driver.close()

    # -- events --------------------------------------------------------------------------------------------------

    def _on_event(self, event: Event, now: float) -> None:
        try:
            self._take(event, now)
        except Exception:  # the boundary of one call: a bug in it must not end the others
            log.exception("sip call failed", call=self._id_of(event.dialog), state=type(event).__name__)
            self._abandon(event.dialog, now)
        if not self.endpoint.n_dialogs:
            self._idle.set()

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, IncomingCall):
            self._incoming(event, now)
            return
        call = self._calls.get(event.dialog)
        if call is None or call.call is None:
            return
        if isinstance(event, Accepted) and event.is_initial:
            if not call.is_joined:
                call.call.answered(now)
        elif isinstance(event, Reoffer):
            self._reoffered(call, event, now)
        elif isinstance(event, Confirmed):
            if call.is_offered_by_us and not call.answered_by_ack(event.request, now):
                log.info("call refused", call=call.call.id, reason="no answer in ACK")
                self.endpoint.hang_up(event.dialog, now, reason=EndReason.FAILED)
            else:
                self._complete_metadata(call, now)
        elif isinstance(event, Ended):
            del self._calls[event.dialog]
            if self._siblings(call):
                call.leave(now)
            else:
                call.call.ended(REASONS[event.reason], now)

    def _incoming(self, event: IncomingCall, now: float) -> None:
        try:
            call = SipCall(event.dialog, event.request, event.flow, self._settings, hang_up=self._hang_up)
            body = call.open(self._host, now)
        except SdpError as error:
            log.info("call refused", reason=str(error), n=488)
            self.endpoint.reject(event.dialog, 488, now)
        except CapacityError as error:
            log.info("call refused", reason=str(error), n=503)
            self.endpoint.reject(event.dialog, 503, now, headers=[("Retry-After", str(error.retry_after))])
        else:
            self._calls[event.dialog] = call
            self.endpoint.accept(event.dialog, body, now, contact_params=";+sip.srs" if call.is_recording else "")

    def _reoffered(self, call: SipCall, event: Reoffer, now: float) -> None:
        try:
            body = call.reoffered(event.request, now)
        except SdpError as error:
            log.info("offer refused", call=self._id_of(event.dialog), reason=str(error))
            self.endpoint.reject(event.dialog, 488, now)
        else:
            self.endpoint.accept(event.dialog, body, now)
            self._complete_metadata(call, now)

    def _complete_metadata(self, call: SipCall, now: float) -> None:
        """Without who speaks where, legs have roles by position only: asks for it (RFC 7866 section 9.2)."""
        if call.wants_snapshot(now):
            self.endpoint.update(call.dialog, SNAPSHOT, now, headers=SNAPSHOT_HEADERS)

    def _abandon(self, dialog: str, now: float) -> None:
        call = self._calls.pop(dialog, None)
        self.endpoint.reject(dialog, 500, now)
        self.endpoint.hang_up(dialog, now)
        if call is not None and call.call is not None:
            call.call.ended("refused", now)

    def _hang_up(self, dialog: str) -> None:
        now, call = asyncio.get_running_loop().time(), self._calls.get(dialog)
        for each in [dialog, *(other.dialog for other in (self._siblings(call) if call else []))]:
            self.endpoint.hang_up(each, now)
        self.driver.pump()

    def _siblings(self, call: SipCall) -> list[SipCall]:
        """The other dialogs of the same call: CUCM sends near and far end in one each."""
        if call.fork is None:
            return []
        return [other for other in self._calls.values() if other is not call and other.fork and other.call is call.call]

    def _id_of(self, dialog: str) -> str:
        call = self._calls.get(dialog)
        return call.call.id if call is not None and call.call is not None else ""


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
        self._networks = networks(settings.sip.allow)
        self._host = host
        self._dropped = metrics.sip_dropped
        self._refused = metrics.calls_refused
        users = settings.sip.users
        self._digest = DigestServer(users, realm=REALM, secret=secrets.token_bytes(32)) if users else None
        self._rate = settings.sip.rate_per_source
        self._admitted: dict[str, bool] = {}
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, host: str) -> bool:
        """By the allow-list; who is not on it gets no answer, so scanners learn nothing."""
        known = self._admitted.get(host)
        if known is None:
            if len(self._admitted) >= MAX_SOURCES:
                self._admitted.clear()
            address = ipaddress.ip_address(host.partition("%")[0])
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
                address = address.ipv4_mapped
            known = any(address in network for network in self._networks)
            self._admitted[host] = known
        if not known:
            self._dropped.add(1, "stranger")
        return known

    def judge(self, request: Request, flow: Flow, now: float) -> Refusal | None:
        """503 while full or draining (the SBC's health probe wants that of OPTIONS) and above a source's rate, 401 to
        an INVITE without good credentials where `sip.users` are set. OPTIONS is never challenged: probes have none."""
        busy = "" if self._host.is_accepting else "full or draining"
        busy = busy or ("" if self._has_token(flow.remote[0], now) else "rate of one source")
        if busy:
            if request.method == "INVITE":
                self._refused.add(1, "sip", busy)
            return Refusal(503, [("Retry-After", str(RETRY_AFTER))])
        if self._digest is None or request.method == "OPTIONS":
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


def networks(allow: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Raises ConfigError naming each entry of `sip.allow` that is no address or network."""
    found: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
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
