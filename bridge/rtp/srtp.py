"""SRTP keys as SDES (RFC 4568) carries them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """One direction's master key. `suite` is the SDP name, such as AES_CM_128_HMAC_SHA1_80."""

    suite: str
    key_and_salt: bytes
