"""What is asked of a WHIP offer, and what is done to the answer. aiortc's SDP model underneath; no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiortc import sdp as wire
from aiortc.rtcicetransport import RTCIceCandidate

from bridge.errors import PeerError, SdpError

MAX_CANDIDATES = 64
"""Of one fragment. A machine with many interfaces has a dozen."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The m-line that is answered, and the fragments that later ICE messages are told by."""

    mid: str
    ufrag: str


def read_offer(sdp: str) -> Offer:
    """Raises PeerError for what is no session description, SdpError for one that we cannot answer."""
    if not sdp.startswith("v=0"):
        raise PeerError("not a session description")
    try:
        description = wire.SessionDescription.parse(sdp)
    except Exception:  # noqa: BLE001 - the boundary of one offer: aiortc's parser asserts, indexes and converts freely
        raise PeerError("not a session description") from None
    audio = [media for media in description.media if media.kind == "audio" and media.port]
    if not audio:
        raise SdpError("The offer has no audio.")
    if any(media.kind not in ("audio", "video") for media in description.media):
        raise SdpError("Only audio is taken; data channels are not.")
    first = audio[0]
    if (first.direction or "sendrecv") not in ("sendonly", "sendrecv"):
        raise SdpError("WHIP sends: the offer's audio must be sendonly or sendrecv.")
    if not any(codec.mimeType.lower() == "audio/opus" for codec in first.rtp.codecs):
        raise SdpError("The offer has no Opus, which every WebRTC endpoint must have (RFC 7874).")
    if not (first.ice.usernameFragment and first.ice.password and first.dtls and first.dtls.fingerprints):
        raise SdpError("The offer lacks ICE or DTLS parameters.")
    return Offer(first.rtp.muxId, first.ice.usernameFragment)


def read_fragment(fragment: str, offer: Offer) -> list[RTCIceCandidate | None]:
    """Candidates of a PATCH (RFC 8840 section 9); None stands for end-of-candidates. Raises PeerError for what is no
    fragment, SdpError for an ICE restart."""
    found: list[RTCIceCandidate | None] = []
    is_fragment = False
    for line in fragment.splitlines():
        name, _, value = line.strip().partition(":")
        if name == "a=ice-ufrag":
            is_fragment = True
            if value != offer.ufrag:
                raise SdpError("ICE restarts are not supported; open a new session.")
        elif name == "a=candidate":
            found.append(_candidate(value, offer))
        elif name == "a=end-of-candidates":
            found.append(None)
    if not found and not is_fragment:
        raise PeerError("not an ICE fragment")
    if len(found) > MAX_CANDIDATES:
        raise PeerError("too many candidates")
    return found


def _candidate(value: str, offer: Offer) -> RTCIceCandidate:
    try:
        candidate = wire.candidate_from_sdp(value)
    except (AssertionError, IndexError, ValueError):
        raise PeerError("not an ICE candidate") from None
    candidate.sdpMid = offer.mid
    return candidate


def recvonly_audio(connection: Any) -> Any:
    """Turns away every m-line but the first audio one; returns that one's receiver. Before `createAnswer`."""
    chosen = None
    for transceiver in connection.getTransceivers():
        if chosen is None and transceiver.kind == "audio":
            chosen = transceiver
            transceiver.direction = "recvonly"
        else:
            transceiver.direction = "inactive"
    assert chosen is not None
    return chosen.receiver


def with_address(sdp: str, address: str) -> str:
    """The answer with a further host candidate at `address` for each of ours: behind a 1:1 NAT (`rtp.advertise`)."""
    if not address:
        return sdp
    return "".join(_advertised(sdp, ipaddress.ip_address(address)))


def _advertised(sdp: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[str]:
    for line in sdp.splitlines(keepends=True):
        parts = line.split(" ")
        is_host = line.startswith("a=candidate:") and len(parts) >= 8 and parts[7].strip() == "host"
        if is_host and ipaddress.ip_address(parts[4]).version == address.version and parts[4] != str(address):
            yield " ".join([parts[0] + "n", *parts[1:4], str(address), *parts[5:]])
        yield line
