"""What is asked of a WHIP offer, and what is done to the answer. aiortc's SDP model underneath; no I/O."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiortc import sdp as wire
from aiortc.rtcicetransport import RTCIceCandidate

from bridge.errors import PeerError, SdpError

MAX_CANDIDATES = 64
"""Of one fragment. A machine with many interfaces has a dozen."""

FINGERPRINT = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2})+")
"""RFC 8122 section 5; upper case is asked for, lower case is met."""


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
    if len(audio) > 1:  # RFC 9725 section 4.4.2: no two tracks of one kind
        raise SdpError("One audio track a session.")
    first = audio[0]
    if (first.direction or "sendrecv") not in ("sendonly", "sendrecv"):
        raise SdpError("WHIP sends: the offer's audio must be sendonly or sendrecv.")
    if not any(codec.mimeType.lower() == "audio/opus" for codec in first.rtp.codecs):
        raise SdpError("The offer has no Opus, which every WebRTC endpoint must have (RFC 7874).")
    if not (first.ice.usernameFragment and first.ice.password and first.dtls and first.dtls.fingerprints):
        raise SdpError("The offer lacks ICE or DTLS parameters.")
    if not all(FINGERPRINT.fullmatch(known.value) for known in first.dtls.fingerprints):
        raise PeerError("not a fingerprint")
    return Offer(first.rtp.muxId, first.ice.usernameFragment)


def without_names(sdp: str) -> str:
    """The offer without candidates that are names (browsers hide addresses behind `.local`): looking them up costs a
    second each, and the browser's own checks tell us its address anyway (RFC 8445 section 7.3.1.3). For the same reason
    nothing is said of their end, and of many only the first are kept."""
    kept, n_candidates = [], 0
    for line in sdp.splitlines(keepends=True):
        if line.startswith("a=candidate:"):
            n_candidates += 1
            if n_candidates > MAX_CANDIDATES or not _has_address(line):
                continue
        elif line.startswith("a=end-of-candidates"):
            continue
        kept.append(line)
    return "".join(kept)


def _has_address(candidate: str) -> bool:
    parts = candidate.split()
    return len(parts) > 4 and _is_address(parts[4])


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def read_fragment(fragment: str, offer: Offer) -> list[RTCIceCandidate]:
    """Candidates of a PATCH (RFC 8840 section 9), as far as they are addresses; see `without_names`. Raises PeerError
    for what is no fragment, SdpError for an ICE restart."""
    found: list[RTCIceCandidate] = []
    is_fragment = False
    for line in fragment.splitlines():
        name, _, value = line.strip().partition(":")
        if name == "a=ice-ufrag":
            is_fragment = True
            if value != offer.ufrag:
                raise SdpError("ICE restarts are not supported; open a new session.")
        elif name == "a=candidate":
            found.append(_candidate(value, offer))
            is_fragment = True
        elif name == "a=end-of-candidates":
            is_fragment = True
    if not is_fragment:
        raise PeerError("not an ICE fragment")
    if len(found) > MAX_CANDIDATES:
        raise PeerError("too many candidates")
    return [candidate for candidate in found if _is_address(candidate.ip)]


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


def with_mux_only(sdp: str) -> str:
    """The answer with the attribute that WHIP asks for in each bundled m-section (RFC 9725 section 4.4.1), and that
    aiortc does not know."""
    return sdp.replace("a=rtcp-mux\r\n", "a=rtcp-mux\r\na=rtcp-mux-only\r\n")


def with_address(sdp: str, address: str) -> str:
    """The answer with a further host candidate at `address` for each port of ours: behind a 1:1 NAT (`rtp.advertise`).
    A name there is no candidate, and left out."""
    if not _is_address(address):
        return sdp
    return "".join(_advertised(sdp, ipaddress.ip_address(address)))


def _advertised(sdp: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[str]:
    told: set[str] = set()
    for line in sdp.splitlines(keepends=True):
        parts = line.split(" ")
        is_host = line.startswith("a=candidate:") and len(parts) >= 8 and parts[7].strip() == "host"
        if is_host and ipaddress.ip_address(parts[4]).version == address.version and parts[4] != str(address):
            if parts[5] not in told:
                yield " ".join([parts[0] + "n", *parts[1:4], str(address), *parts[5:]])
            told.add(parts[5])
        yield line
