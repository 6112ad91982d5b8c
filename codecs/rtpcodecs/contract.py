"""What a payload format is. Sources: RFC 3551 and the format's own RFC.

Two clocks, never mixed: `clock_rate_hz` counts RTP timestamps, `sample_rate_hz` counts decoded samples. For G.722
they differ (8000 and 16000, RFC 3551 section 4.5.2); for Opus the first is always 48000 (RFC 7587 section 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]


class Decoder(Protocol):
    """One stream's decoder. Keeps state between packets; never shared by two streams."""

    def decode(self, payload: bytes) -> Samples:
        """Mono int16 samples at the codec's `sample_rate_hz`. Raises ValueError for a payload that is not of this
        format; the decoder stays usable. Lost audio is filled by whoever keeps what was heard (`Concealment`)."""
        ...


class Encoder(Protocol):
    """The reverse, for the call generator and tests."""

    def encode(self, samples: Samples) -> bytes:
        """One packet's payload from mono int16 samples at `sample_rate_hz`. All packets of one encoder are equally
        long. Raises ValueError for a length that the format does not have."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Codec:
    """A payload format. One per file, listed in `rtpcodecs.CODECS` by upper-case SDP encoding name. Equal to none but
    itself, so it can be a key."""

    name: str
    "SDP encoding name, upper case: PCMU, G722, OPUS, ..."
    clock_rate_hz: int
    sample_rate_hz: int
    "Of what `Decoder.decode` returns: 8000 or 16000."
    duration: Callable[[bytes], int]
    "RTP timestamp units that a payload lasts. Raises ValueError where that cannot be told."
    make_decoder: Callable[[str], Decoder]
    """A fresh decoder; the argument is the fmtp parameters as text, may be empty. Raises ValueError for parameters that
    we cannot serve, which `rtpcodecs.find` leaves out of an answer."""
    make_encoder: Callable[[], Encoder] | None = None
    static_payload_type: int | None = None
    "RFC 3551 section 6, or None for dynamic."
    table: NDArray[np.int16] | None = None
    "For one byte = one sample formats: 256 linear values. Lets the media plane decode all legs in one go."
    wire_encoding: str | None = None
    "Name under which providers take the payload bytes untouched: `mulaw`, `alaw`, or None."
    sdp_channels: int = 1
    "Channels as SDP must state them: Opus is always `opus/48000/2` (RFC 7587 section 7)."
    other_clock_hz: int | None = None
    "What some senders' timestamps count instead, whatever they say; None: nobody is known to."
