"""Session descriptions (RFC 8866) for telephony: what real peers send, read leniently and kept whole.

Formats without rtpmap get their static meaning (RFC 3551 section 6), direction and c= fall back to session level,
unknown lines and rejected m-lines stay where they are. Crypto lines are kept as text: keys are bridge.rtp's affair.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from sys import intern

from bridge.errors import SdpError

MAX_SDP_BYTES = 64 * 1024
MAX_LINES = 2000
MAX_MEDIA = 64
SHARED = frozenset({"rtpmap", "fmtp", "ptime", "maxptime"})
"Attributes that every call of a trunk repeats word by word: one copy serves all."
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
STATIC = {
    "0": ("PCMU", 8000), "3": ("GSM", 8000), "4": ("G723", 8000), "5": ("DVI4", 8000), "6": ("DVI4", 16000),
    "7": ("LPC", 8000), "8": ("PCMA", 8000), "9": ("G722", 8000), "12": ("QCELP", 8000), "13": ("CN", 8000),
    "15": ("G728", 8000), "18": ("G729", 8000),
    "19": ("CN", 8000),  # reserved in RFC 3551, still comfort noise at Cisco
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Format:
    """One RTP payload format of an m-line."""

    payload_type: int
    name: str
    "Encoding name, upper case; empty for a dynamic one without rtpmap."
    clock_hz: int
    channels: int = 1
    fmtp: str = ""

    @property
    def rtpmap(self) -> str:
        channels = f"/{self.channels}" if self.channels != 1 else ""
        return f"{self.payload_type} {self.name}/{self.clock_hz}{channels}"


@dataclass(slots=True)
class Media:
    """One m-line and what belongs to it."""

    kind: str
    port: int
    proto: str
    formats: list[str]
    address: str = ""
    "Of its own c= line or the session's; empty: none, or not an IP address."
    has_connection: bool = False
    attributes: list[tuple[str, str]] = field(default_factory=list)
    direction: str = "sendrecv"

    def attribute(self, name: str) -> str | None:
        """The first value of that attribute, empty for a flag, None if absent."""
        return next((value for key, value in self.attributes if key == name), None)

    @property
    def label(self) -> str:
        return (self.attribute("label") or "").strip()

    @property
    def crypto(self) -> list[str]:
        """The a=crypto values as text, in order (RFC 4568)."""
        return [value for key, value in self.attributes if key == "crypto"]

    @property
    def is_audio(self) -> bool:
        """RTP audio that we can receive over plain RTP or SDES; DTLS is not offered here."""
        return self.kind == "audio" and self.proto.upper() in ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF")

    @property
    def is_secure(self) -> bool:
        return "SAVP" in self.proto.upper()

    @property
    def is_null_address(self) -> bool:
        """c=0.0.0.0 or ::, the hold of RFC 2543 (RFC 3264 section 8.4)."""
        return self.address in ("0.0.0.0", "::")

    @property
    def rtcp(self) -> tuple[str, int] | None:
        """Where its RTCP is received, if it says so: `a=rtcp:53020 IN IP4 192.0.2.4`, or the port alone (RFC 3605)."""
        port, _, address = (self.attribute("rtcp") or "").partition(" ")
        if not (port.isascii() and port.isdecimal() and 0 < int(port) <= 65535):
            return None
        host = address.split()[-1] if address.split() else self.remote[0] if self.remote else ""
        return (host, int(port)) if host else None

    @property
    def rtcp_mux(self) -> bool:
        return self.attribute("rtcp-mux") is not None

    @property
    def ptime_ms(self) -> int | None:
        text = (self.attribute("ptime") or "").strip()
        return int(text) if re.fullmatch(r"\d{1,3}", text) else None

    @property
    def remote(self) -> tuple[str, int] | None:
        """Where its RTP comes from and RTCP goes to; None while unknown, null or rejected."""
        return (self.address, self.port) if self.address and self.port and not self.is_null_address else None

    def audio_formats(self) -> list[Format]:
        """Every format in order of preference, with static ones filled in."""
        maps = _keyed(self.attributes, "rtpmap")
        fmtps = _keyed(self.attributes, "fmtp")
        found: dict[int, Format] = {}
        for text in self.formats:
            if not re.fullmatch(r"\d{1,3}", text) or int(text) > 127 or int(text) in found:
                continue
            name, clock_hz, channels = _rtpmap(maps.get(text, "")) or (*STATIC.get(text, ("", 0)), 1)
            found[int(text)] = Format(int(text), name, clock_hz, channels, fmtps.get(text, ""))
        return list(found.values())


@dataclass(slots=True)
class Description:
    """A whole session description."""

    origin: str
    media: list[Media]
    attributes: list[tuple[str, str]]
    timing: str = "0 0"

    @property
    def version(self) -> tuple[str, str]:
        """Session id and version of o=: the same pair again means nothing changed (RFC 3264 section 8)."""
        parts = self.origin.split()
        return (parts[1], parts[2]) if len(parts) >= 3 else ("", "")


def _keyed(attributes: list[tuple[str, str]], name: str) -> dict[str, str]:
    keyed: dict[str, str] = {}
    for key, value in attributes:
        if key == name:
            number, _, rest = value.strip().partition(" ")
            keyed.setdefault(number, rest.strip())
    return keyed


def _rtpmap(text: str) -> tuple[str, int, int] | None:
    match = re.fullmatch(r"([^\s/]{1,64})/(\d{1,7})(?:/(\d{1,2}))?\s*", text)
    if match is None:
        return None
    return match.group(1).upper(), int(match.group(2)), int(match.group(3) or 1)


def parse(content: bytes) -> Description:
    """Raises SdpError for what is no session description."""
    if len(content) > MAX_SDP_BYTES:
        raise SdpError("session description too large")
    lines = [line for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    if len(lines) > MAX_LINES:
        raise SdpError("too many lines")
    if not lines or lines[0].strip() != "v=0":
        raise SdpError("no v=0")
    description = Description("", [], [])
    session_address, has_connection = "", False
    for line in lines[1:]:
        kind, equals, value = line.strip().partition("=")
        if equals != "=" or len(kind) != 1:
            continue  # unknown lines are ignored (RFC 8866 section 5)
        if kind == "m":
            media = _media_line(value)
            media.address, media.has_connection = session_address, has_connection
            description.media.append(media)
        elif kind == "c":
            if description.media:
                description.media[-1].address = _address(value)
                description.media[-1].has_connection = True
            else:
                session_address, has_connection = _address(value), True
        elif kind == "a":
            name, _, rest = value.partition(":")
            target = description.media[-1].attributes if description.media else description.attributes
            name = name.strip().lower()
            target.append((intern(name), intern(rest) if name in SHARED else rest))
        elif kind == "o" and not description.media:
            description.origin = value
        elif kind == "t" and not description.media:
            description.timing = value
    if len(description.media) > MAX_MEDIA:
        raise SdpError("too many m-lines")
    default = _direction(description.attributes) or "sendrecv"
    for media in description.media:
        media.direction = _direction(media.attributes) or default
    return description


def _direction(attributes: list[tuple[str, str]]) -> str | None:
    return next((key for key, _ in reversed(attributes) if key in DIRECTIONS), None)


def _media_line(value: str) -> Media:
    parts = value.split()
    match = re.fullmatch(r"(\d{1,5})(?:/\d{1,5})?", parts[1]) if len(parts) >= 4 else None
    if match is None or int(match.group(1)) > 65535:
        raise SdpError("malformed m-line")
    return Media(intern(parts[0].lower()), int(match.group(1)), intern(parts[2]), [intern(text) for text in parts[3:]])


def _address(value: str) -> str:
    """The IP address of a c= line without ttl; empty for host names and rubbish, which are never resolved."""
    parts = value.split()
    if len(parts) < 3:
        return ""
    try:
        return str(ipaddress.ip_address(parts[2].partition("/")[0]))
    except ValueError:
        return ""
