"""Opus (RFC 7587; RFC 6716). The RTP clock is always 48 kHz; we hand out 16 kHz mono, which is all a recogniser uses.

libopus decodes at 16 kHz and mixes to mono. Packets of one or two bytes are DTX: libopus answers them with its comfort
noise. In-band FEC is not used: a lost packet is concealed as in every other format.
"""

from __future__ import annotations

from rtpcodecs.contract import Codec, Decoder, Encoder, Samples
from rtpcodecs.lavc import LavcEncoder
from rtpcodecs.libopus import LibopusDecoder, library
from rtpcodecs.opus_lavc import LavcOpusDecoder

CLOCK_HZ = 48000
RATE_HZ = 16000
LONGEST_PACKET = 5760  # 120 ms at 48 kHz (RFC 6716 section 3.2.5, [R5])
ENCODER_MS = (10, 20, 40, 60)

_SILK = (480, 960, 1920, 2880)  # 10, 20, 40, 60 ms
_HYBRID = (480, 960)
_CELT = (120, 240, 480, 960)  # 2.5, 5, 10, 20 ms
FRAME_UNITS = _SILK * 3 + _HYBRID * 2 + _CELT * 4
"RTP units of one frame by the TOC byte's configuration number (RFC 6716 table 2)."


PACKET_UNITS = tuple(FRAME_UNITS[toc >> 3] * (1, 2, 2, 0)[toc & 3] for toc in range(256))
"The same of a packet by its TOC byte; 0: the number of frames stands in the next byte."


def duration(payload: bytes) -> int:
    """Units of 1/48000 s, from the TOC byte (RFC 6716 section 3.1). Raises ValueError for an impossible one."""
    if not payload:
        raise ValueError("OPUS: empty payload")
    return PACKET_UNITS[payload[0]] or _counted(payload)


def _counted(payload: bytes) -> int:
    if len(payload) < 2:
        raise ValueError("OPUS: no frame count")
    units = FRAME_UNITS[payload[0] >> 3] * (payload[1] & 0x3F)
    if not 0 < units <= LONGEST_PACKET:
        raise ValueError("OPUS: longer than 120 ms or empty")
    return units


class OpusDecoder:
    """A Decoder of mono or stereo Opus to 16 kHz mono."""

    def __init__(self) -> None:
        opus = library()
        self._decoder = LibopusDecoder(opus, RATE_HZ) if opus else LavcOpusDecoder()

    def decode(self, payload: bytes) -> Samples:
        n_samples = duration(payload) * RATE_HZ // CLOCK_HZ
        return self._decoder.decode(payload, n_samples)


def _encoder_options(n_samples: int) -> dict[str, str]:
    frame_ms = n_samples * 1000 / RATE_HZ
    if frame_ms not in ENCODER_MS:
        raise ValueError(f"OPUS: {frame_ms:g} ms is not a packet's length")
    return {"application": "voip", "frame_duration": f"{frame_ms:g}"}


def _decoder(fmtp: str) -> Decoder:
    return OpusDecoder()


def _encoder() -> Encoder:
    return LavcEncoder("libopus", RATE_HZ, _encoder_options)


OPUS = Codec(
    name="OPUS",
    clock_rate_hz=CLOCK_HZ,
    sample_rate_hz=RATE_HZ,
    duration=duration,
    make_decoder=_decoder,
    make_encoder=_encoder,
    sdp_channels=2,
)
