"""Speex, narrow band (RFC 5574): 8 kHz, 20 ms a frame, one or more frames in a payload."""

from __future__ import annotations

from rtpcodecs.contract import Codec, Decoder, Samples
from rtpcodecs.lavc import decode_packet, open_decoder

FRAME_SAMPLES = 160
NARROW_BITS = (5, 43, 119, 160, 220, 300, 364, 492, 79)
"Length of a frame by its submode, 5 bits of header included (the Speex manual, table 9.2)."
WIDE_BITS = (4, 36, 112, 192, 352)
"The same for a wide-band layer, which a narrow-band receiver skips (manual, table 10.1)."
TERMINATOR, IN_BAND, CUSTOM_IN_BAND = 15, 14, 13


def frame_count(payload: bytes) -> int:
    """Frames in a payload. Raises ValueError where it does not parse.

    The bit stream has no length field: it is walked by the size of each submode until the terminator (RFC 5574 section
    3.2) or until there is no room for another header.
    """
    bits = int.from_bytes(payload, "big")
    total = len(payload) * 8
    at = frames = 0
    while total - at >= 5:
        wide, submode = (bits >> (total - at - 1)) & 1, (bits >> (total - at - 5)) & 15
        if wide:
            submode >>= 1  # a wide-band layer has 1 + 3 bits of header
            if submode >= len(WIDE_BITS):
                raise ValueError("SPEEX: unknown wide-band submode")
            at += WIDE_BITS[submode]
        elif submode == TERMINATOR:
            break
        elif submode in (IN_BAND, CUSTOM_IN_BAND):
            raise ValueError("SPEEX: in-band requests are not taken")
        elif submode >= len(NARROW_BITS):
            raise ValueError("SPEEX: unknown submode")
        else:
            at += NARROW_BITS[submode]
            frames += 1
        if at > total:
            raise ValueError("SPEEX: truncated frame")
    if not frames:
        raise ValueError("SPEEX: no frame")
    return frames


def _duration(payload: bytes) -> int:
    return FRAME_SAMPLES * frame_count(payload)


class SpeexDecoder:
    """A Decoder through libavcodec, which walks the frames of a payload itself and must find as many as we do."""

    def __init__(self) -> None:
        self._context = open_decoder("speex", 8000)

    def decode(self, payload: bytes) -> Samples:
        expected = _duration(payload)
        samples = decode_packet(self._context, payload)
        if len(samples) != expected:
            raise ValueError("SPEEX: frames do not add up")
        return samples


def _decoder(fmtp: str) -> Decoder:
    return SpeexDecoder()


SPEEX = Codec(name="SPEEX", clock_rate_hz=8000, sample_rate_hz=8000, duration=_duration, make_decoder=_decoder)
