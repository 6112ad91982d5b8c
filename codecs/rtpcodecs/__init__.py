"""Payload formats of telephone audio. A new one is one file, and one line in `CODECS`.

Importing this package does not import PyAV; the first decoder that needs it does.
"""

from __future__ import annotations

from rtpcodecs import amr
from rtpcodecs.amr import AMR, AMR_WB
from rtpcodecs.contract import Codec
from rtpcodecs.g711 import PCMA, PCMU
from rtpcodecs.g722 import G722, G722_16K
from rtpcodecs.g729 import G729
from rtpcodecs.gsm import GSM
from rtpcodecs.ilbc import ILBC
from rtpcodecs.l16 import L16_8K, L16_16K
from rtpcodecs.opus import OPUS
from rtpcodecs.speex import SPEEX

CODECS: dict[str, Codec] = {
    "PCMU": PCMU,
    "PCMA": PCMA,
    "G722": G722,
    "OPUS": OPUS,
    "L16": L16_16K,
    "G729": G729,
    "GSM": GSM,
    "ILBC": ILBC,
    "AMR": AMR,
    "AMR-WB": AMR_WB,
    "SPEEX": SPEEX,
}
"By SDP encoding name, upper case."

OTHER_RATES: tuple[Codec, ...] = (L16_8K, G722_16K)
"Formats whose name stands in `CODECS` at another clock rate."


def find(name: str, clock_rate_hz: int, *, fmtp: str = "") -> Codec | None:
    """The codec that an `a=rtpmap` (name in any case, clock rate) and its `a=fmtp` describe; None if we cannot take it,
    so that an answer leaves it out."""
    name = name.upper()
    if name.startswith("AMR") and not amr.is_acceptable(fmtp):
        return None
    candidates = (*OTHER_RATES, *(codec for codec in (CODECS.get(name),) if codec))
    return next((c for c in candidates if c.name == name and c.clock_rate_hz == clock_rate_hz), None)


def find_static(payload_type: int) -> Codec | None:
    """The codec of a payload type without rtpmap (RFC 3551 section 6), or None."""
    return next((codec for codec in CODECS.values() if codec.static_payload_type == payload_type), None)
