"""From an m-line to what the media plane must know, and back to our side of it: codecs, keys, direction."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import rtpcodecs
from bridge.ingress.contract import MediaOffer, PayloadFormat
from bridge.rtp.sdes import CryptoLine, choose_crypto, format_crypto
from bridge.rtp.srtp import SrtpKeys, fresh_keys
from bridge.sip.answer import Choice, LocalStream, answer_direction, choose
from bridge.sip.sdp import Format, Media
from rtpcodecs.contract import Codec

DYNAMIC_FIRST = 96
OFFERED_SUITE = "AES_CM_128_HMAC_SHA1_80"
"The one that every stack has (RFC 4568 section 6.2)."
TELEPHONE_EVENT = Format(101, "TELEPHONE-EVENT", 8000)
"101 is what nearly everybody uses for it."


@dataclass(frozen=True, slots=True)
class Stream:
    """An m-line that we take."""

    choice: Choice
    media: MediaOffer
    proto: str
    direction: str
    "As the peer offered it."
    label: str = ""
    crypto: CryptoLine | None = None
    own_keys: SrtpKeys | None = None
    ptime_ms: int | None = None

    def local(self, address: tuple[str, int], wanted: str) -> LocalStream:
        """Our side of it, for the answer."""
        crypto = format_crypto(self.crypto.tag, self.own_keys) if self.crypto and self.own_keys else ""
        return LocalStream(
            address=address[0],
            port=address[1],
            formats=self.choice.formats,
            direction=answer_direction(self.direction, wanted),
            proto=self.proto,
            label=self.label,
            crypto=crypto,
            rtcp_mux=self.media.rtcp_mux,
            ptime_ms=self.ptime_ms if self.ptime_ms and 10 <= self.ptime_ms <= 60 else None,
        )


def codec_of(item: Format) -> Codec | None:
    """The codec of an offered format; None if we have none, or not with these parameters."""
    codec = rtpcodecs.find(item.name, item.clock_hz, fmtp=item.fmtp) if item.name else None
    return codec if codec is not None and item.channels in (1, codec.sdp_channels) else None


def take(
    media: Media, *, srtp: str, codecs: Sequence[str] = (), before: Stream | None = None, keeps_label: bool = False
) -> Stream | None:
    """What we take of an m-line; None rejects it. `srtp`: off, optional or required. `codecs`: these only, in this
    order. `before`: the same m-line as it was, whose key of ours is kept while the suite stays (RFC 4568 section
    7.1.4)."""
    choice = None
    if media.is_audio:
        choice = choose(media, lambda item: codec_of(item) is not None, preferred=upper(codecs))
    # under RTP/AVP keys are an offer that may be passed over (RFC 8643): taken where plain RTP would be refused
    wants_keys = srtp == "required" or (media.is_secure and srtp != "off")
    crypto = choose_crypto(media.crypto) if wants_keys else None
    if choice is None or (media.is_secure and crypto is None) or (srtp == "required" and crypto is None):
        return None
    own = before.own_keys if before is not None else None
    if crypto is not None and (own is None or own.suite != crypto.keys.suite):
        own = fresh_keys(crypto.keys.suite, secrets.token_bytes)
    return Stream(
        choice=choice,
        media=agreed(choice, media, crypto, own if crypto else None),
        proto=media.proto,
        direction=media.direction,
        label=media.label if keeps_label else "",
        crypto=crypto,
        own_keys=own if crypto else None,
        ptime_ms=media.ptime_ms,
    )


def agreed(choice: Choice, media: Media, crypto: CryptoLine | None, own: SrtpKeys | None) -> MediaOffer:
    """What will be sent to us."""
    return MediaOffer(
        formats=payload_formats(choice.audio),
        remote=media.remote,
        telephone_events={item.payload_type: item.clock_hz for item in choice.events},
        comfort_noise=frozenset({13, 19}) | {item.payload_type for item in choice.comfort_noise},
        srtp=crypto.keys if crypto else None,
        srtp_own=own,
        rtcp_mux=media.rtcp_mux,
        rtcp=media.rtcp,
    )


def payload_formats(formats: Iterable[Format]) -> tuple[PayloadFormat, ...]:
    """With their codecs; unknown ones are left out."""
    found = ((item, codec_of(item)) for item in formats)
    return tuple(PayloadFormat(item.payload_type, codec, item.fmtp) for item, codec in found if codec is not None)


def our_offer(*, srtp: str, codecs: Sequence[str] = ()) -> Stream | None:
    """The m-line that we offer to an INVITE without one: every codec we have that needs no parameters, or those of
    `codecs`; None where none of them can be. Secure where `srtp` is `required`: an answer to AVP could not be."""
    formats: list[Format] = []
    offered = [rtpcodecs.CODECS[name] for name in upper(codecs)] if codecs else rtpcodecs.CODECS.values()
    for codec in offered:
        number = codec.static_payload_type
        if number is None and codec.name == "OPUS":
            number = DYNAMIC_FIRST
        if number is not None:
            formats.append(Format(number, codec.name, codec.clock_rate_hz, codec.sdp_channels))
    if not formats:
        return None
    choice = Choice(tuple(formats), TELEPHONE_EVENT, comfort_noise=(Format(13, "CN", 8000),))
    media = MediaOffer(
        payload_formats(formats), telephone_events={TELEPHONE_EVENT.payload_type: TELEPHONE_EVENT.clock_hz}
    )
    if srtp != "required":
        return Stream(choice, media, "RTP/AVP", "sendrecv")
    own = fresh_keys(OFFERED_SUITE, secrets.token_bytes)
    return Stream(choice, media, "RTP/SAVP", "sendrecv", crypto=CryptoLine(1, own), own_keys=own)


def widened(stream: Stream, codecs: Sequence[str]) -> Stream:
    """A stream as we offer it within a call: what was agreed first, then all else that we have, or of `codecs`, as the
    next source, often music on hold, may have nothing else (RFC 6337 section 5.2.5)."""
    choice, ours = stream.choice, our_offer(srtp="off", codecs=codecs)
    used = {item.payload_type for item in choice.formats}
    names = {item.name for item in choice.audio}
    more = [item for item in (ours.choice.audio if ours else ()) if item.name not in names]
    audio = (*choice.audio, *(item for item in more if item.payload_type not in used))
    event = choice.telephone_event
    if event is None and TELEPHONE_EVENT.payload_type not in used:
        event = TELEPHONE_EVENT
    return replace(stream, direction="sendrecv", choice=replace(choice, audio=audio, telephone_event=event))


def upper(codecs: Sequence[str]) -> list[str]:
    """Encoding names of the configuration, as the table has them."""
    return [name.upper() for name in codecs]
