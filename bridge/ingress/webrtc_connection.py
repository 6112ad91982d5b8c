"""One connection of one browser: ICE, DTLS and the audio that comes over it.

The only file that touches aiortc's objects, two private ones among them: the jitter buffer's slot (see webrtc_audio),
and the ICE agent's `request_received`, because aiortc's own consent check needs half a minute to miss a killed browser.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import aiortc
import structlog
from aiortc.exceptions import InvalidAccessError, InvalidStateError

from bridge.config import RtpSettings
from bridge.errors import ConfigError, SdpError
from bridge.ingress.webrtc_audio import SLOT, Deliver, Tap, TrackAudio, WirePacket
from bridge.ingress.webrtc_sdp import Offer, recvonly_audio, with_address
from bridge.rtp.frames import PayloadType
from rtpcodecs import CODECS

log = structlog.get_logger()

NEGOTIATE_WITHIN = 5.0  # s; only host candidates are gathered
CLOSE_WITHIN = 5.0  # s


async def check_library() -> None:
    """Raises ConfigError for an aiortc whose private slots are not where we need them."""
    probe = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    receiver = probe.addTransceiver("audio", direction="recvonly").receiver
    ice = getattr(receiver.transport.transport, "_connection", None)
    is_known = hasattr(receiver, SLOT) and hasattr(ice, "request_received")
    await probe.close()
    if not is_known:
        raise ConfigError([f"aiortc {aiortc.__version__} has no place for our jitter buffer; 1.16 has"])


class Connection:
    """Receives one audio track. `deliver` gets its audio, `changed` is told of new values of `state`."""

    def __init__(
        self, offer: Offer, *, rtp: RtpSettings, now: Callable[[], float], deliver: Deliver, changed: Callable[[], None]
    ) -> None:
        self.offer = offer
        self._rtp = rtp
        self._now = now
        self._changed = changed
        self._peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))  # the default asks a public STUN
        self.audio = TrackAudio(deliver, jitter=rtp.jitter_ms / 1000, jitter_max=rtp.jitter_max_ms / 1000)
        self.alive_at = self.heard_at = now()
        """When the last packet came, or an authenticated ICE request; when the last packet came."""

    @property
    def state(self) -> str:
        """`new`, `connecting`, `connected`, `failed` or `closed` (W3C RTCPeerConnectionState)."""
        return str(self._peer.connectionState)

    async def negotiate(self, sdp: str) -> str:
        """The answer. Raises SdpError, after which the connection must still be closed."""
        async with asyncio.timeout(NEGOTIATE_WITHIN):
            try:
                await self._peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp, "offer"))
                receiver = recvonly_audio(self._peer)
                await self._peer.setLocalDescription(await self._peer.createAnswer())
            except (ValueError, AssertionError, AttributeError, LookupError) as error:
                raise SdpError("The offer cannot be answered.") from error
            except (InvalidAccessError, InvalidStateError, aiortc.exceptions.OperationError) as error:
                raise SdpError(f"The offer cannot be answered: {error}.") from error
        answer = str(self._peer.localDescription.sdp)
        self._listen(receiver, answer)
        return with_address(answer, self._rtp.advertise)

    def _listen(self, receiver: Any, answer: str) -> None:
        """Puts our ear into aiortc before the first packet can come."""
        media = next(m for m in aiortc.sdp.SessionDescription.parse(answer).media if m.rtp.muxId == self.offer.mid)
        opus = [codec for codec in media.rtp.codecs if codec.mimeType.lower() == "audio/opus"]
        if not opus:
            raise SdpError("No Opus was agreed on.")
        self.audio.configure({codec.payloadType: PayloadType(CODECS["OPUS"]) for codec in opus})
        Tap(self._take).install(receiver)
        ice = receiver.transport.transport._connection
        checked = ice.request_received

        def request_received(message: Any, addr: Any, protocol: Any) -> None:
            self.alive_at = self._now()
            checked(message, addr, protocol)

        ice.request_received = request_received
        self._peer.on("connectionstatechange", self._note)

    def _note(self) -> None:
        self.alive_at = self._now()
        self._changed()

    def _take(self, packet: WirePacket) -> None:
        now = self._now()
        self.alive_at = self.heard_at = now
        self.audio.push(packet, now)

    async def add_candidates(self, candidates: Sequence[Any]) -> None:
        """Further ICE candidates of the browser; those that lead nowhere are passed over (RFC 9725 section 4.3.2)."""
        for candidate in candidates:
            try:
                await self._peer.addIceCandidate(candidate)
            except (ValueError, OSError, InvalidStateError) as error:
                log.info("ice candidate passed over", reason=type(error).__name__)

    async def close(self) -> None:
        """DTLS close, and consent revoked (RFC 7675 section 5.2). Never raises: what is closed here is over."""
        try:
            async with asyncio.timeout(CLOSE_WITHIN):
                await self._peer.close()
        except Exception as error:  # noqa: BLE001 - the boundary of one session
            log.info("webrtc close failed", reason=type(error).__name__)
