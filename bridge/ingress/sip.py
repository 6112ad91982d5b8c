"""SIP and SIPREC: calls that an SBC or PBX sends us. The endpoint decides about SIP, `SipCall` about media, this file
joins them to the service."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import structlog

from bridge.config import Settings
from bridge.errors import CapacityError, ConfigError, SdpError
from bridge.ingress.contract import Host
from bridge.ingress.sip_call import SipCall
from bridge.ingress.sip_screen import Screen, Wire, client_tls, networks, server_tls
from bridge.metrics import Metrics
from bridge.net.sip_transports import SipDriver
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import (
    Accepted,
    Body,
    Confirmed,
    Ended,
    EndReason,
    Event,
    IncomingCall,
    Information,
    Reoffer,
    Rung,
)
from bridge.sip.recording import SNAPSHOT_REQUEST

log = structlog.get_logger()
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
            client_tls=client_tls(settings),
            on_unresolved=lambda: metrics.sip_unresolved.add(1),
        )

        metrics.sip_dialogs.read_from(lambda: float(self.endpoint.n_dialogs))
        metrics.sip_transactions.read_from(lambda: float(self.endpoint.n_transactions))

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

    def reload(self, settings: Settings) -> None:
        """See `Ingress`. Sources, users, the rate, and how new calls are answered; addresses and certificates stay."""
        self._settings = settings
        self._screen.reload(settings)

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
        elif isinstance(event, Rung):
            self._accept(call, now)
        elif isinstance(event, Reoffer):
            self._reoffered(call, event, now)
        elif isinstance(event, Information):
            call.informed(event.request, self.driver.arrived_at(now))
        elif isinstance(event, Confirmed):
            if call.is_offered_by_us and not call.answered_by_ack(event.request, self.driver.arrived_at(now)):
                log.info("call refused", call=call.call.id, reason="no answer in ACK")
                self.endpoint.hang_up(event.dialog, now, reason=EndReason.FAILED)
            else:
                self._complete_metadata(call, now)
        elif isinstance(event, Ended):
            del self._calls[event.dialog]
            ended_at = self.driver.arrived_at(now)
            if self._siblings(call):
                call.leave(ended_at)
            else:
                call.call.ended(REASONS[event.reason], ended_at)

    def _incoming(self, event: IncomingCall, now: float) -> None:
        try:
            call = SipCall(event.dialog, event.request, event.flow, self._settings, hang_up=self._hang_up)
            call.first_answer = call.open(self._host, now)
        except SdpError as error:
            log.info("call refused", reason=str(error), n=488)
            self.endpoint.reject(event.dialog, 488, now, headers=[warning(error)])
        except CapacityError as error:
            log.info("call refused", reason=str(error), n=503)
            self.endpoint.reject(event.dialog, 503, now, headers=[("Retry-After", str(error.retry_after))])
        else:
            self._calls[event.dialog] = call
            self._ring(call, now)

    def _ring(self, call: SipCall, now: float) -> None:
        """A provisional response first, where the call's trunk wants one. An INVITE without an offer is answered at
        once: what comes first would have to carry ours (RFC 3262 section 5)."""
        trunk = call.trunk
        if trunk.progress == "off" or call.is_offered_by_us:
            self._accept(call, now)
            return
        self.endpoint.ring(
            call.dialog,
            int(trunk.progress),
            now,
            until=now + trunk.ring_ms / 1000,
            body=call.first_answer if trunk.progress == "183" else None,
            contact_params=call.contact_params,
        )

    def _accept(self, call: SipCall, now: float) -> None:
        self.endpoint.accept(
            call.dialog,
            call.first_answer,
            now,
            contact_params=call.contact_params,
            session_expires=call.trunk.session_expires_s,
        )

    def _reoffered(self, call: SipCall, event: Reoffer, now: float) -> None:
        try:
            body = call.reoffered(event.request, self.driver.arrived_at(now))
        except SdpError as error:
            log.info("offer refused", call=self._id_of(event.dialog), reason=str(error))
            self.endpoint.reject(event.dialog, 488, now, headers=[warning(error)])
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


def warning(error: SdpError) -> tuple[str, str]:
    """What is wrong with an offer, for whoever reads the peer's trace (RFC 3261 20.43; 399 is for any text)."""
    return "Warning", f'399 callbridge "{error}"'
