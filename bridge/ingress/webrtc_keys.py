"""SRTP keys out of a finished DTLS handshake (RFC 5764 section 4.2), from aiortc's transport."""

from __future__ import annotations

from typing import Any

from bridge.errors import InvalidState
from bridge.rtp.srtp import SrtpKeys

EXTRACTOR = b"EXTRACTOR-dtls_srtp"
SUITES = {
    b"SRTP_AEAD_AES_256_GCM": "AEAD_AES_256_GCM",
    b"SRTP_AEAD_AES_128_GCM": "AEAD_AES_128_GCM",
    b"SRTP_AES128_CM_SHA1_80": "AES_CM_128_HMAC_SHA1_80",
}
"By OpenSSL's name; in SDP's words."


def session_keys(dtls: Any) -> tuple[SrtpKeys, SrtpKeys]:
    """(the peer's, ours). Raises InvalidState before the handshake's end and for a profile we do not know."""
    profile = dtls._ssl.get_selected_srtp_profile() if dtls._ssl is not None else b""
    known = next((each for each in dtls._srtp_profiles if each.openssl_profile == profile), None)
    if known is None or profile not in SUITES:
        raise InvalidState("no SRTP profile was agreed on")
    n_bytes = 2 * (known.key_length + known.salt_length)
    material = dtls._ssl.export_keying_material(EXTRACTOR, n_bytes)
    client, server = (SrtpKeys(SUITES[profile], known.get_key_and_salt(material, side)) for side in (0, 1))
    return (client, server) if dtls._role == "server" else (server, client)
