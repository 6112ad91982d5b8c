"""What a placed call offers: SDP (RFC 8866, RFC 3264) and, for SIPREC, the recording metadata (RFC 7865, RFC 7866)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

from bridge.caller.rtp_schedule import COMFORT_NOISE_TYPE
from bridge.errors import SdpError
from bridge.sip.events import Body
from rtpcodecs.contract import Codec

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
HoldForm = Literal["inactive", "sendonly", "zero"]
BOUNDARY = "callbridge-boundary"
FIRST_DYNAMIC_TYPE = 96  # RFC 3551 section 6
TELEPHONE_EVENT_TYPE = 101
METADATA_NAMESPACE = "urn:ietf:params:xml:ns:recording:1"


@dataclass(frozen=True, slots=True)
class Media:
    """One m-line of ours."""

    port: int
    label: str = ""
    direction: Direction = "sendrecv"


@dataclass(frozen=True, slots=True)
class Participant:
    """A party of the recorded call, in the order of the m-lines."""

    role: str
    aor: str


def payload_type(codec: Codec) -> int:
    """The number under which we offer `codec`."""
    return FIRST_DYNAMIC_TYPE if codec.static_payload_type is None else codec.static_payload_type


def sdp(
    address: str, media: Sequence[Media], codec: Codec, *, ptime_ms: int, version: int, hold: HoldForm | None = None
) -> bytes:
    """An offer of `codec` on every m-line. `version` grows with each offer of a call; `hold` says how it is held."""
    family = "IP6" if ":" in address else "IP4"
    nowhere = "::" if family == "IP6" else "0.0.0.0"
    lines = ["v=0", f"o=callbridge 1 {version} IN {family} {address}", "s=-"]
    lines += [f"c=IN {family} {nowhere if hold == 'zero' else address}", "t=0 0"]
    for m in media:
        lines += _media_lines(m, codec, ptime_ms, hold)
    return ("\r\n".join(lines) + "\r\n").encode()


def _media_lines(media: Media, codec: Codec, ptime_ms: int, hold: HoldForm | None) -> list[str]:
    number = payload_type(codec)
    channels = f"/{codec.sdp_channels}" if codec.sdp_channels > 1 else ""
    types = [str(number)]
    maps = [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate_hz}{channels}"]
    if codec.clock_rate_hz == 8000:  # RFC 4733 section 2.1, RFC 3389 section 4: their clock is the audio's
        types += [str(COMFORT_NOISE_TYPE), str(TELEPHONE_EVENT_TYPE)]
        maps += [f"a=rtpmap:{COMFORT_NOISE_TYPE} CN/8000", f"a=rtpmap:{TELEPHONE_EVENT_TYPE} telephone-event/8000"]
        maps += [f"a=fmtp:{TELEPHONE_EVENT_TYPE} 0-15"]
    label = [f"a=label:{media.label}"] if media.label else []
    direction = media.direction if hold in (None, "zero") else hold
    return [f"m=audio {media.port} RTP/AVP {' '.join(types)}", *maps, f"a=ptime:{ptime_ms}", *label, f"a={direction}"]


def metadata(session: str, participants: Sequence[Participant], *, started: str) -> bytes:
    """A complete snapshot: each participant sends the stream labelled with its place, from 1. `started` is RFC 3339."""
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<recording xmlns="{METADATA_NAMESPACE}">',
        "<datamode>complete</datamode>",
        f"<session session_id={quoteattr(session)}><start-time>{escape(started)}</start-time></session>",
    ]
    others = {n: [m for m in range(1, len(participants) + 1) if m != n] for n in range(1, len(participants) + 1)}
    for n, participant in enumerate(participants, 1):
        parts += [
            f'<participant participant_id="p{n}"><nameID aor={quoteattr(participant.aor)}>'
            f"<name>{escape(participant.role)}</name></nameID></participant>",
            f'<stream stream_id="s{n}" session_id={quoteattr(session)}><label>{n}</label></stream>',
            f'<participantsessionassoc participant_id="p{n}" session_id={quoteattr(session)}>'
            f"<associate-time>{escape(started)}</associate-time></participantsessionassoc>",
            f'<participantstreamassoc participant_id="p{n}"><send>s{n}</send>'
            + "".join(f"<recv>s{m}</recv>" for m in others[n])
            + "</participantstreamassoc>",
        ]
    parts += [
        f"<sessionrecordingassoc session_id={quoteattr(session)}>"
        f"<associate-time>{escape(started)}</associate-time></sessionrecordingassoc>",
        "</recording>",
    ]
    return "\n".join(parts).encode() + b"\n"


def siprec_body(offer: bytes, snapshot: bytes) -> Body:
    """Both parts in one body, RFC 7866 section 9.1."""
    edge = b"--" + BOUNDARY.encode()
    content = b"\r\n".join([
        edge, b"Content-Type: application/sdp", b"", offer,
        edge, b"Content-Type: application/rs-metadata+xml", b"Content-Disposition: recording-session", b"", snapshot,
        edge + b"--", b"",
    ])  # fmt: skip
    return Body(content, f'multipart/mixed;boundary="{BOUNDARY}"')


@dataclass(frozen=True, slots=True)
class AnsweredMedia:
    """One m-line of an answer."""

    address: str
    port: int
    "0: refused."
    payload_types: tuple[str, ...]
    direction: str


def read_answer(body: bytes, n_media: int) -> tuple[AnsweredMedia, ...]:
    """The m-lines of an SDP answer to an offer of `n_media`. Raises SdpError for what is none."""
    session_address = session_direction = ""
    media: list[dict[str, str]] = []
    for line in body.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        parts = value.split()
        if key == "m" and len(parts) >= 4 and parts[1].partition("/")[0].isdecimal():
            media.append({"port": parts[1].partition("/")[0], "types": " ".join(parts[3:])})
        elif key == "c" and len(parts) == 3:
            address = parts[2].partition("/")[0]
            if media:
                media[-1]["address"] = address
            else:
                session_address = address
        elif key == "a" and value.strip() in ("sendrecv", "sendonly", "recvonly", "inactive"):
            if media:
                media[-1]["direction"] = value.strip()
            else:
                session_direction = value.strip()
    if len(media) != n_media:
        raise SdpError(f"an answer with {len(media)} m-lines to an offer with {n_media}")
    answer = tuple(
        AnsweredMedia(
            m.get("address", session_address), int(m["port"]), tuple(m["types"].split()),
            m.get("direction", session_direction or "sendrecv"),
        )
        for m in media
    )  # fmt: skip
    if any(m.port > 65535 or (m.port and not m.address) for m in answer):
        raise SdpError("an answer without a usable address")
    return answer
