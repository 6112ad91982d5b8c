"""Offer and answer (RFC 3264, RFC 6337): which formats and which direction, and our own description as text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.sip.sdp import STATIC, Description, Format, Media

ECHOED_FMTP = frozenset({"ILBC", "AMR", "AMR-WB", "G729"})
"Formats whose parameters both sides must state alike (RFC 3952, RFC 4867, RFC 3551 4.5.6)."
OWN_FMTP = {"OPUS": "useinbandfec=1;usedtx=1", "TELEPHONE-EVENT": "0-16"}
SPELLING = {"OPUS": "opus", "TELEPHONE-EVENT": "telephone-event", "ILBC": "iLBC", "SPEEX": "speex"}
"As their RFCs spell them: peers that compare case-sensitively exist."
SEND = {"sendrecv": True, "sendonly": True, "recvonly": False, "inactive": False}
RECEIVE = {"sendrecv": True, "sendonly": False, "recvonly": True, "inactive": False}


@dataclass(frozen=True, slots=True)
class Choice:
    """What we take of an m-line. Never without an audio format."""

    audio: tuple[Format, ...]
    telephone_event: Format | None = None
    further_events: tuple[Format, ...] = ()
    "Of the clocks that other formats of `audio` have: DTMF beside those comes by them (RFC 4733 section 2.1)."
    comfort_noise: tuple[Format, ...] = ()

    @property
    def events(self) -> tuple[Format, ...]:
        """DTMF of every clock."""
        return (self.telephone_event, *self.further_events) if self.telephone_event else ()

    @property
    def formats(self) -> tuple[Format, ...]:
        """All, in the order of the offer's preference: audio, then DTMF, then comfort noise."""
        return (*self.audio, *self.events, *self.comfort_noise)


@dataclass(frozen=True, slots=True)
class LocalStream:
    """Our side of one m-line."""

    address: str
    port: int
    formats: tuple[Format, ...]
    direction: str
    proto: str = "RTP/AVP"
    label: str = ""
    crypto: str = ""
    "Our a=crypto value, as text."
    rtcp_mux: bool = False
    ptime_ms: int | None = None


def choose(media: Media, accepts: Callable[[Format], bool], *, preferred: Sequence[str] = ()) -> Choice | None:
    """The formats we take of an offered m-line; None where no audio format is left. The order stays the offerer's, but
    for `preferred`: then it is that, and no other is taken (names in upper case)."""
    offered = media.audio_formats()
    audio = tuple(item for item in offered if item.name not in ("TELEPHONE-EVENT", "CN", "RED") and accepts(item))
    if preferred:
        audio = tuple(item for name in preferred for item in audio if item.name == name)
    if not audio:
        return None
    events = [item for item in offered if item.name == "TELEPHONE-EVENT" and item.clock_hz]
    by_clock = {item.clock_hz: item for item in reversed(events)}
    clocks = dict.fromkeys(item.clock_hz for item in audio)
    matching = [by_clock[clock_hz] for clock_hz in clocks if clock_hz in by_clock] or events[:1]
    noise = tuple(item for item in offered if item.name == "CN")
    return Choice(audio, next(iter(matching), None), tuple(matching[1:]), noise)


def answer_direction(offered: str, wanted: str) -> str:
    """The direction to answer: what we want, cut to what the offer allows (RFC 3264 section 6.1)."""
    sends = SEND[wanted] and RECEIVE[offered]
    receives = RECEIVE[wanted] and SEND[offered]
    return {(True, True): "sendrecv", (True, False): "sendonly", (False, True): "recvonly"}.get(
        (sends, receives), "inactive"
    )


class LocalDescription:
    """Our session description over a dialog's life: one session id, the version goes up when the text changes."""

    def __init__(self, session_id: int) -> None:
        """`session_id`: a number that no other session of ours has (o=, RFC 8866 section 5.2)."""
        self._session_id = session_id
        self._version = 0
        self._last = ""

    def answer(self, offer: Description, streams: Sequence[LocalStream | None], address: str) -> bytes:
        """The answer to `offer`: as many m-lines, in the same order; None rejects one with port 0 (section 6)."""
        sections = [
            _rejected(media) if stream is None else _accepted(stream)
            for media, stream in zip(offer.media, streams, strict=True)
        ]
        return self._render(address, offer.timing, sections)

    def offer(self, streams: Sequence[LocalStream | None], address: str, known: Sequence[Media | None] = ()) -> bytes:
        """An offer of ours; None keeps an m-line that was rejected before. `known`: as the peer described each last: a
        rejected one stays of its kind (RFC 3264 section 8)."""
        medias = [*known, *[None] * (len(streams) - len(known))]
        sections = [
            _accepted(stream) if stream is not None else _rejected(media) if media else ["m=audio 0 RTP/AVP 0"]
            for stream, media in zip(streams, medias, strict=True)
        ]
        return self._render(address, "0 0", sections)

    def _render(self, address: str, timing: str, sections: list[list[str]]) -> bytes:
        family = "IP6" if ":" in address else "IP4"
        rest = [
            "s=callbridge",
            f"c=IN {family} {address}",
            f"t={timing if re.fullmatch(r'[0-9 ]+', timing) else '0 0'}",
            *(line for section in sections for line in section),
        ]
        text = "\r\n".join(rest) + "\r\n"
        if text != self._last:
            self._version, self._last = self._version + 1, text
        return f"v=0\r\no=callbridge {self._session_id} {self._version} IN {family} {address}\r\n{text}".encode()


def _rejected(media: Media) -> list[str]:
    return [f"m={media.kind} 0 {media.proto} {' '.join(media.formats)}"]


def _accepted(stream: LocalStream) -> list[str]:
    numbers = " ".join(str(item.payload_type) for item in stream.formats)
    lines = [f"m=audio {stream.port} {stream.proto} {numbers}"]
    for item in stream.formats:
        if item.name and not (item.name == "CN" and str(item.payload_type) in STATIC):
            lines.append("a=rtpmap:" + item.rtpmap.replace(item.name, SPELLING.get(item.name, item.name)))
        fmtp = item.fmtp if item.name in ECHOED_FMTP else OWN_FMTP.get(item.name, "")
        if fmtp:
            lines.append(f"a=fmtp:{item.payload_type} {fmtp}")
    if stream.ptime_ms:
        lines.append(f"a=ptime:{stream.ptime_ms}")
    if stream.label:
        lines.append(f"a=label:{stream.label}")
    if stream.crypto:
        lines.append(f"a=crypto:{stream.crypto}")
    if stream.rtcp_mux:
        lines.append("a=rtcp-mux")
    return [*lines, f"a={stream.direction}"]
