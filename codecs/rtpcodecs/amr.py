"""AMR and AMR-WB (RFC 4867), octet-aligned and bandwidth-efficient, one channel. 20 ms a frame; 8 and 16 kHz.

A payload is a mode request (CMR), a table of contents with one entry per frame, and the frames' bits. libavcodec takes
frames as files store them (section 5.3): the entry as a whole byte, then the bits padded to a byte. CRC, robust
sorting, interleaving and more than one channel are refused before a decoder is made (`is_acceptable`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rtpcodecs.contract import Codec, Decoder
from rtpcodecs.fmtp import parameters
from rtpcodecs.lavc import LavcDecoder, open_decoder

NO_DATA = 15
QUALITY = 4  # bit of a stored frame's first byte: the frame is not damaged


@dataclass(frozen=True, slots=True)
class Family:
    """What AMR and AMR-WB differ in."""

    name: str
    sample_rate_hz: int
    lavc_name: str
    frame_bits: dict[int, int]
    "Speech bits by frame type; 0 where the entry carries none (3GPP TS 26.101 table 1a, 26.201 table 1a)."

    @property
    def frame_units(self) -> int:
        return self.sample_rate_hz // 50


AMR_BITS = {0: 95, 1: 103, 2: 118, 3: 134, 4: 148, 5: 159, 6: 204, 7: 244, 8: 39, NO_DATA: 0}
WB_BITS = {0: 132, 1: 177, 2: 253, 3: 285, 4: 317, 5: 365, 6: 397, 7: 461, 8: 477, 9: 40, 14: 0, NO_DATA: 0}
NARROW = Family("AMR", 8000, "libopencore_amrnb", AMR_BITS)
WIDE = Family("AMR-WB", 16000, "libopencore_amrwb", WB_BITS)


def is_acceptable(fmtp: str) -> bool:
    """Whether we can read what these parameters promise (RFC 4867 section 8.1)."""
    given = parameters(fmtp)
    if any(given.get(name, "0") not in ("", "0") for name in ("crc", "robust-sorting")):
        return False
    return "interleaving" not in given and given.get("channels", "1") == "1"


def is_octet_aligned(fmtp: str) -> bool:
    """Section 8.1: bandwidth-efficient unless said."""
    return parameters(fmtp).get("octet-align", "0") == "1"


def stored_frames(payload: bytes, family: Family, *, octet_aligned: bool) -> list[bytes]:
    """The frames of a payload as files store them. Raises ValueError where header, table and length disagree."""
    if octet_aligned:
        return _read_aligned(payload, family)
    return _read_packed(payload, family)


def _bits_of(frame_type: int, family: Family) -> int:
    if frame_type not in family.frame_bits:
        raise ValueError(f"{family.name}: frame type {frame_type} is reserved")
    return family.frame_bits[frame_type]


def _read_aligned(payload: bytes, family: Family) -> list[bytes]:
    """Section 4.4: everything on byte boundaries."""
    entries: list[int] = []
    at = 1
    while True:
        if at >= len(payload):
            raise ValueError(f"{family.name}: table of contents is cut off")
        entries.append(payload[at])
        at += 1
        if not entries[-1] & 0x80:
            break
    frames = []
    for entry in entries:
        size = (_bits_of((entry >> 3) & 15, family) + 7) // 8
        frames.append(bytes((entry & 0x7C,)) + payload[at : at + size])
        at += size
    if at != len(payload):
        raise ValueError(f"{family.name}: {len(payload)} bytes where the table of contents asks for {at}")
    return frames


def _read_packed(payload: bytes, family: Family) -> list[bytes]:
    """Section 4.3: 4 bits of CMR, 6 bits an entry, then the frames' bits without a gap."""
    bits = int.from_bytes(payload, "big")
    total = len(payload) * 8
    entries: list[int] = []
    at = 4
    while True:
        if at + 6 > total:
            raise ValueError(f"{family.name}: table of contents is cut off")
        entry = (bits >> (total - at - 6)) & 0x3F
        entries.append(entry)
        at += 6
        if not entry & 0x20:
            break
    frames = []
    for entry in entries:
        n_bits = _bits_of((entry >> 1) & 15, family)
        size = (n_bits + 7) // 8
        if at + n_bits > total:
            raise ValueError(f"{family.name}: shorter than its table of contents asks for")
        speech = (bits >> (total - at - n_bits)) & ((1 << n_bits) - 1)
        frames.append(bytes(((entry & 0x1F) << 2,)) + (speech << (size * 8 - n_bits)).to_bytes(size, "big"))
        at += n_bits
    if (at + 7) // 8 != len(payload):
        raise ValueError(f"{family.name}: {len(payload)} bytes where the table of contents asks for {(at + 7) // 8}")
    return frames


def _duration(family: Family) -> Callable[[bytes], int]:
    """Without the fmtp at hand: both layouts are tried; lengths hardly ever fit both, and then nearly always alike."""

    def duration(payload: bytes) -> int:
        try:
            return family.frame_units * len(_read_packed(payload, family))
        except ValueError:
            return family.frame_units * len(_read_aligned(payload, family))

    return duration


def _decoder(family: Family) -> Callable[[str], Decoder]:
    def make_decoder(fmtp: str) -> Decoder:
        if not is_acceptable(fmtp):
            raise ValueError(f"{family.name}: parameters that we do not take")
        octet_aligned = is_octet_aligned(fmtp)

        def split(payload: bytes) -> list[bytes]:
            return stored_frames(payload, family, octet_aligned=octet_aligned)

        return LavcDecoder(open_decoder(family.lavc_name, family.sample_rate_hz), split)

    return make_decoder


def _codec(family: Family) -> Codec:
    return Codec(
        name=family.name,
        clock_rate_hz=family.sample_rate_hz,
        sample_rate_hz=family.sample_rate_hz,
        duration=_duration(family),
        make_decoder=_decoder(family),
    )


AMR = _codec(NARROW)
AMR_WB = _codec(WIDE)
