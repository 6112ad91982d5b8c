"""One connection of one browser: ICE, DTLS and the audio that comes over it.

aiortc negotiates, shakes hands and closes. Media goes around it: SRTP is read from our own sockets (`webrtc_ice`) and
opened with the keys that its DTLS agreed on, so a packet costs no wake-up of the event loop and no thread. Private
names of aiortc are used in this file only; `check_library` looks at start whether they are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import aiortc
import structlog
from aiortc.exceptions import InvalidAccessError, InvalidStateError

from bridge.config import RtpSettings
from bridge.errors import CapacityError, ConfigError, MalformedPacket, SdpError
from bridge.ingress.webrtc_audio import Deliver, TrackAudio
from bridge.ingress.webrtc_ice import Path, listen_on
from bridge.ingress.webrtc_keys import session_keys
from bridge.ingress.webrtc_media import SharedMedia
from bridge.ingress.webrtc_sdp import (
    MAX_CANDIDATES,
    Offer,
    recvonly_audio,
    with_address,
    with_mux_only,
    without_names,
)
from bridge.net.datagrams import MediaPort
from bridge.rtp.frames import PayloadType
from bridge.rtp.packet import is_rtcp, parse_rtp
from bridge.rtp.srtp import SrtpKeys, SrtpReceiver
from rtpcodecs import CODECS

log = structlog.get_logger()

NEGOTIATE_WITHIN = 5.0  # s; only host candidates are gathered
CLOSE_WITHIN = 5.0  # s
MOST_EARLY = 50  # packets: what a second brings that arrives before the handshake's end is dealt with
AGENT = ("_protocols", "_queue", "get_component_candidates", "data_received", "request_received", "_nominated")
DTLS = ("_ssl", "_role", "_srtp_profiles")


async def check_library() -> None:
    """Raises ConfigError for an aiortc whose private slots are not where we need them."""
    probe = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    dtls = probe.addTransceiver("audio", direction="recvonly").receiver.transport
    agent = getattr(dtls.transport, "_connection", None)
    is_known = all(hasattr(agent, name) for name in AGENT) and all(hasattr(dtls, name) for name in DTLS)
    await probe.close()
    if not is_known:
        raise ConfigError([f"aiortc {aiortc.__version__} keeps its transport elsewhere; 1.16 fits"])


async def _never(*_: Any) -> None:
    """aiortc's receiver neither starts its thread nor its reports: it is given nothing to receive."""


class Connection:
    """Receives one audio track. `deliver` gets its audio, `changed` is told of new values of `state`."""

    def __init__(
        self,
        offer: Offer,
        *,
        media: SharedMedia,
        now: Callable[[], float],
        deliver: Deliver,
        changed: Callable[[], None],
    ) -> None:
        """Raises CapacityError. `close` is the caller's duty from then on."""
        self.offer = offer
        self._media = media
        self._now = now
        self._changed = changed
        self._row = media.seats.take()
        rtp: RtpSettings = media.rtp
        self._rtp = rtp
        self.audio = TrackAudio(
            media.lanes, self._row, deliver=deliver, jitter=rtp.jitter_ms / 1000, jitter_max=rtp.jitter_max_ms / 1000
        )
        self._peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))  # the default asks a public STUN
        self._dtls: Any = None
        self._srtp: SrtpReceiver | None = None
        self._own_keys: SrtpKeys | None = None
        self._path: Path | None = None
        self._early: list[tuple[bytes, Path, float]] = []
        self._n_candidates = 0
        self._is_closed = False
        self.error: Exception | None = None
        "A bug that a packet met: the session is to be ended."
        self.alive_at = self.heard_at = now()
        """When the last packet came, or an authenticated ICE request; when the last packet came."""

    @property
    def state(self) -> str:
        """`new`, `connecting`, `connected`, `failed` or `closed` (W3C RTCPeerConnectionState)."""
        return str(self._peer.connectionState)

    # -- opening --------------------------------------------------------------------------------------------------

    async def negotiate(self, sdp: str) -> str:
        """The answer. Raises SdpError, or CapacityError where ports or time ran out; the connection must still be
        closed then."""
        try:
            async with asyncio.timeout(NEGOTIATE_WITHIN):
                await self._peer.setRemoteDescription(aiortc.RTCSessionDescription(without_names(sdp), "offer"))
                receiver = recvonly_audio(self._peer)
                self._listen(receiver)
                await self._peer.setLocalDescription(await self._peer.createAnswer())
        except TimeoutError:
            raise CapacityError("Too busy to answer in time.", retry_after=5) from None
        except (ValueError, AssertionError, AttributeError, LookupError) as error:
            raise SdpError("The offer cannot be answered.") from error
        except (InvalidAccessError, InvalidStateError, aiortc.exceptions.OperationError) as error:
            raise SdpError(f"The offer cannot be answered: {error}.") from error
        answer = str(self._peer.localDescription.sdp)
        self._configure(answer)
        return with_address(with_mux_only(answer), self._rtp.advertise)

    def _listen(self, receiver: Any) -> None:
        """Puts our sockets and our ear into aiortc before anything is bound."""
        receiver.receive = receiver.stop = _never
        self._dtls = receiver.transport
        agent = self._dtls.transport._connection
        listen_on(agent, self._media.sockets, bind=self._rtp.bind, media=self._take)
        checked = agent.request_received

        def request_received(message: Any, addr: Any, protocol: Any) -> None:
            if message.check_message_integrity(agent.local_password.encode()):
                self.alive_at = self._now()
            checked(message, addr, protocol)

        agent.request_received = request_received
        self._peer.on("connectionstatechange", self._note)

    def _configure(self, answer: str) -> None:
        media = next(m for m in aiortc.sdp.SessionDescription.parse(answer).media if m.rtp.muxId == self.offer.mid)
        opus = [codec for codec in media.rtp.codecs if codec.mimeType.lower() == "audio/opus"]
        if not opus:
            raise SdpError("No Opus was agreed on.")
        self.audio.configure({codec.payloadType: PayloadType(CODECS["OPUS"]) for codec in opus})

    async def add_candidates(self, candidates: Sequence[Any]) -> None:
        """Further ICE candidates of the browser; those that lead nowhere are passed over (RFC 9725 section 4.3.2), and
        so are those beyond `MAX_CANDIDATES` of a session: each makes us send checks to wherever it says."""
        room = MAX_CANDIDATES - self._n_candidates
        self._n_candidates += len(candidates)
        for candidate in candidates[: max(room, 0)]:
            try:
                await self._peer.addIceCandidate(candidate)
            except (ValueError, OSError, InvalidStateError) as error:
                log.info("ice candidate passed over", reason=type(error).__name__)

    # -- running --------------------------------------------------------------------------------------------------

    def _note(self) -> None:
        self.alive_at = self._now()
        if self.state == "connected" and self._srtp is None:
            self._open_srtp()
        self._changed()

    def _open_srtp(self) -> None:
        peer_keys, self._own_keys = session_keys(self._dtls)
        self._srtp = SrtpReceiver(peer_keys)
        early, self._early = self._early, []
        for data, path, at in early:
            self._take(data, path, at)

    def _take(self, data: bytes, path: Path, at: float) -> None:
        """SRTP or SRTCP from anywhere: only what the peer's key opens counts."""
        if self._is_closed:  # peers send on meanwhile; the row may be another session's before our sockets are gone
            return
        if self._srtp is None:
            if len(self._early) < MOST_EARLY:
                self._early.append((data, path, at))
            return
        try:
            self._open(self._srtp, data, path, at)
        except MalformedPacket:
            self.audio.broken += 1
        except Exception as error:  # noqa: BLE001 - the boundary of one session, which `error` ends
            self.error = error

    def _open(self, srtp: SrtpReceiver, data: bytes, path: Path, at: float) -> None:
        if is_rtcp(data):
            plain = srtp.unprotect_rtcp(data, at)
            self._follow(path, at)
            self._media.reports.receive(self._row, plain, path.source, at)
            return
        packet = parse_rtp(srtp.unprotect(data, at))
        self._follow(path, at)
        self.heard_at = at
        self.audio.push(packet, at)

    def _follow(self, path: Path, at: float) -> None:
        """The way of the last authentic packet is the way back for our reports."""
        self.alive_at = at
        if path is self._path:
            return
        reports, port = self._media.reports, path.socket.getsockname()[1]
        if self._path is None or self._path.socket is not path.socket:
            if self._path is not None:
                reports.close(self._row, at)
            reports.open(self._row, MediaPort(port, path.socket, path.socket), at)
        self._path = path
        reports.media_changed(self._row, path.source, is_muxed=True, own_keys=self._own_keys)

    # -- closing --------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """DTLS close, and consent revoked (RFC 7675 section 5.2). Never raises: what is closed here is over. Once."""
        self._is_closed = True
        if self._path is not None:
            self._media.reports.close(self._row, self._now())
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._peer.close()
        except Exception as error:  # noqa: BLE001 - the boundary of one session
            log.info("webrtc close failed", reason=type(error).__name__)
        finally:
            self._media.seats.free.append(self._row)
