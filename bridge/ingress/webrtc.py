"""WebRTC in: one session is one leg. WHIP's HTTP side is `bridge.web.whip`, the connection is webrtc_connection.

offer   -> negotiated, admitted, answered: call time 0 is the moment the answer leaves
lost    -> connection failed, DTLS closed, or no sign of life for LOST_AFTER. The leg stays for RELOAD or REJOIN, so
           that a browser that reloads can join the call again, then it ends: 12 s after a tab was killed
DELETE  -> the leg ends at once, and the call with its last leg
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from bridge.clock import monotonic
from bridge.config import RtpSettings, Settings
from bridge.errors import CapacityError
from bridge.ingress.contract import CallOffer, Host, IngressCall, IngressLeg, LegOffer
from bridge.ingress.webrtc_connection import Connection, check_library
from bridge.ingress.webrtc_media import SharedMedia
from bridge.ingress.webrtc_sdp import read_fragment, read_offer
from bridge.metrics import Metrics

log = structlog.get_logger()

CONNECT_WITHIN = 12.0  # s from the answer to the first connection, ICE and DTLS
LOST_AFTER = 9.0  # s; browsers send a check every 2.5 s or consent every 5 s (RFC 7675 section 5.1), audio every 20 ms
REJOIN = 3.0  # s that a lost leg waits for its browser to come back
RELOAD = 8.0  # s that it waits where DTLS was closed: page, microphone and ICE of a reload take some seconds
COUNT_EVERY = 1.0  # s between two looks at a session's packet counts
QUIET = 0.5  # s without a packet after which a session of the same role is taken for the one before a reload


@dataclass(frozen=True, slots=True)
class Answer:
    """What the HTTP side sends back."""

    session: str
    call: str
    leg: str
    sdp: str


class Session:
    """One browser's leg."""

    def __init__(self, source: str) -> None:
        self.id = secrets.token_urlsafe(24)
        self.source = source
        self.connection: Connection
        self.call: IngressCall
        self.leg: IngressLeg
        self.is_guest = False
        "Joined a call that another ingress brought in."
        self.is_connected = False
        self.counted_at = 0.0
        self.ends_at: float | None = None
        "Set once it is lost; the leg ends then."
        self.reason = ""


class _Control:
    """`CallControl` of a call that began here."""

    def __init__(self, hang_up: Callable[[], None]) -> None:
        self._hang_up = hang_up

    def hang_up(self) -> None:
        self._hang_up()


class WebRtc:
    """Every WebRTC session of a process. An `Ingress`, and the web server's `Whip`. `open` and `close` in one task."""

    def __init__(
        self,
        host: Host,
        *,
        rtp: RtpSettings,
        metrics: Metrics,
        capacity: int = 1000,
        now: Callable[[], float] = monotonic,
    ) -> None:
        """`capacity`: sessions at once, those included that still close."""
        self._host = host
        self._media = SharedMedia(rtp, capacity=capacity)
        self._metrics = metrics
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._group = asyncio.TaskGroup()
        self._stop: Callable[[], None] | None = None
        "Ends the ticks; None before `open` and after `close`."
        metrics.whip_sessions.read_from(lambda: float(len(self._sessions)))

    async def open(self) -> None:
        """From now on the host's tick reads. Raises ConfigError for an aiortc that we do not fit."""
        await check_library()
        await self._group.__aenter__()
        self._stop = self._host.each_tick(self._tick)

    def reload(self, settings: Settings) -> None:
        """See `Ingress`. Nothing of ours can change."""

    async def close(self) -> None:
        """After the calls have ended: closes what is still connected."""
        for session in tuple(self._sessions.values()):
            self._drop(session, "shutdown")
        if self._stop is not None:
            self._stop()
            self._stop = None
            await self._group.__aexit__(None, None, None)
        self._media.close()

    # -- Whip -----------------------------------------------------------------------------------------------------

    async def offer(self, sdp: str, *, call: str, role: str, source: str) -> Answer:
        """See `bridge.web.contract.Whip`."""
        offer = read_offer(sdp)
        if call and self._host.find_call("call", call) is None:
            raise LookupError("call")
        if not self._host.is_accepting:
            raise CapacityError("No room for another leg now.")
        session = Session(source)
        session.connection = Connection(
            offer,
            media=self._media,
            now=self._now,
            deliver=lambda samples, start: self._hear(session, samples, start),
            changed=lambda: self._changed(session),
        )
        try:
            answer = await session.connection.negotiate(sdp)
            self._seat(session, call, role)
        except BaseException:
            await session.connection.close()
            raise
        log.info("webrtc session opened", call=session.call.id, leg=session.leg.id, state="open")
        return Answer(session.id, session.call.id, session.leg.id, answer)

    def has(self, session: str) -> bool:
        """See `bridge.web.contract.Whip`."""
        found = self._sessions.get(session)
        return found is not None and found.ends_at is None

    async def trickle(self, session: str, fragment: str) -> None:
        """See `bridge.web.contract.Whip`."""
        if not self.has(session):
            raise LookupError("session")
        connection = self._sessions[session].connection
        await connection.add_candidates(read_fragment(fragment, connection.offer))

    async def end(self, session: str) -> bool:
        """See `bridge.web.contract.Whip`."""
        if not self.has(session):
            return False
        self._read(self._now())  # its last 20 ms have arrived, but nobody has read them yet
        if self.has(session):
            self._drop(self._sessions[session], "hangup")
        return True

    # -- opening ----------------------------------------------------------------------------------------------------

    def _seat(self, session: Session, call: str, role: str) -> None:
        """Admits the leg. Raises CapacityError, LookupError."""
        now = self._now()
        if call:
            found = self._host.find_call("call", call)
            if found is None:
                raise LookupError("call")
            session.call, session.leg = found, found.add_leg(LegOffer(role=role), now)
            session.is_guest = all(other.is_guest for other in self._of(found))
        else:
            offer = CallOffer(ingress="webrtc", legs=(LegOffer(role=role),), source=session.source)
            session.call = self._host.open_call(offer, _Control(lambda: self._hung_up(session.call)), now)
            session.leg = session.call.legs[0]
        self._sessions[session.id] = session
        session.call.answered(now)
        self._replace(session, now)

    def _replace(self, session: Session, now: float) -> None:
        """A browser that was reloaded: its earlier leg has fallen silent or is already lost."""
        for other in self._of(session.call):
            is_gone = other.ends_at is not None or now - other.connection.heard_at > QUIET
            if other is not session and other.leg.role == session.leg.role and is_gone:
                self._drop(other, "replaced")

    def _of(self, call: IngressCall) -> list[Session]:
        return [session for session in self._sessions.values() if session.call is call]

    # -- running ----------------------------------------------------------------------------------------------------

    def _hear(self, session: Session, samples: NDArray[np.int16], start: float) -> None:
        if session.id in self._sessions:
            session.leg.push_pcm(samples, start=start, now=self._now())

    def _tick(self, now: float) -> None:
        self._read(now)
        for session in tuple(self._sessions.values()):
            try:
                self._look_after(session, now)
            except Exception:
                log.exception("webrtc session failed", reason="bug")
                self._drop(session, "failed")

    def _read(self, now: float) -> None:
        try:
            self._media.beat(now)
        except Exception:
            log.exception("webrtc tick failed", reason="bug")

    def _look_after(self, session: Session, now: float) -> None:
        if session.ends_at is not None:
            if now >= session.ends_at:
                self._drop(session, session.reason)
            return
        if session.connection.error is not None:
            raise session.connection.error
        session.connection.audio.tick(now)
        if now >= session.counted_at + COUNT_EVERY:
            session.counted_at = now
            session.leg.count_packets(session.connection.audio.packets())
        if now - session.connection.alive_at > (LOST_AFTER if session.is_connected else CONNECT_WITHIN):
            self._lose(session, "timeout", now)
        elif session.is_guest and self._host.find_call("call", session.call.id) is None:
            self._drop(session, "hangup")

    def _changed(self, session: Session) -> None:
        state = session.connection.state
        if state == "connected":
            session.is_connected = True
        elif state in ("failed", "closed") and session.id in self._sessions:
            self._lose(session, "hangup" if state == "closed" else "timeout", self._now())

    # -- ending -----------------------------------------------------------------------------------------------------

    def _lose(self, session: Session, reason: str, now: float) -> None:
        """The browser is gone without a word. Its leg waits a little for it."""
        if session.ends_at is None:
            session.ends_at, session.reason = now + (RELOAD if reason == "hangup" else REJOIN), reason
            session.connection.audio.flush()
            log.info("webrtc session lost", call=session.call.id, leg=session.leg.id, state="lost", reason=reason)

    def _drop(self, session: Session, reason: str) -> None:
        """The end of a session: its last audio, its leg, and with the last leg of our own call that call."""
        if session.id not in self._sessions:
            return
        now = self._now()
        session.connection.audio.flush()
        session.leg.count_packets(session.connection.audio.packets())
        self._forget(session, reason)
        if session.is_guest or self._of(session.call):
            session.leg.ended(now)
        else:
            session.call.ended("timeout" if reason == "timeout" else "hangup", now)

    def _hung_up(self, call: IngressCall) -> None:
        """The service ended the call, whose legs are closed by its next tick."""
        for session in self._of(call):
            session.connection.audio.flush()
            session.leg.count_packets(session.connection.audio.packets())
            self._forget(session, "hung up")

    def _forget(self, session: Session, reason: str) -> None:
        del self._sessions[session.id]
        self._metrics.whip_ended.add(1, reason)
        log.info("webrtc session ended", call=session.call.id, leg=session.leg.id, reason=reason)
        self._group.create_task(session.connection.close(), name="webrtc close")
