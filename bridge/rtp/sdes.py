"""SDES (RFC 4568): SRTP keys as lines of a session description.

What we cannot serve is refused while the session is described: other suites (AES_256_CM above all, which PJSIP offers
first), keys that cannot be told apart, and anything sent in the clear or under derived keys. The next line is tried.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bridge.errors import SdpError
from bridge.rtp.srtp import SUITES, SrtpKeys

MOST_MKI_BYTES = 128  # RFC 4568 section 6.1
MOST_KEYS = 16
"Of one line; a context is kept for each."
LONGEST_LIFETIME = 1 << 48  # packets under one key (RFC 3711 section 9.2)
_CRYPTO = re.compile(r"([0-9]{1,9})[ \t]+([A-Za-z0-9_]+)[ \t]+(\S+)(?:[ \t]+(\S.*))?")
_MKI = re.compile(r"([0-9]{1,39}):([0-9]{1,3})")
_LIFETIME = re.compile(r"(2\^)?([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class CryptoLine:
    """One usable `a=crypto`. An answer repeats `tag` and suite, with a key of its own."""

    tag: int
    keys: SrtpKeys
    lifetime: int | None = None
    "Packets after which the peer must change its (first) key; not enforced on receipt."


def parse_crypto(value: str) -> CryptoLine:
    """What stands behind `a=crypto:`. Raises SdpError for a line that is malformed or that we cannot serve; the message
    never contains the key."""
    matched = _CRYPTO.fullmatch(value.strip())
    if matched is None:
        raise SdpError("a=crypto: not <tag> <suite> <key>")
    tag, name, keys, parameters = matched.groups()
    name = name.upper()
    if name not in SUITES:
        raise SdpError("a=crypto: suite is not supported")
    _check_parameters(parameters or "")
    texts = keys.split(";")
    if len(texts) > MOST_KEYS:
        raise SdpError("a=crypto: too many keys")
    (first, lifetime), *rest = [_parse_key(text, name) for text in texts]
    further = tuple(key for key, _ in rest)
    if further:
        _check_told_apart([first, *further])
    return CryptoLine(int(tag), replace(first, further=further), lifetime)


def choose_crypto(values: Iterable[str]) -> CryptoLine | None:
    """The first of the offered lines that we support, which often is not the first one (RFC 4568 section 5.1.2). None:
    the stream must be refused, or taken as plain RTP where its profile allows."""
    for value in values:
        try:
            return parse_crypto(value)
        except SdpError:
            continue
    return None


def format_crypto(tag: int, keys: SrtpKeys) -> str:
    """What to write behind `a=crypto:`."""
    return f"{tag} {keys.suite} inline:{base64.b64encode(keys.key_and_salt).decode()}"


def _check_parameters(text: str) -> None:
    """Session parameters (RFC 4568 section 6.3): what changes the packets must be served, and we serve none of it. The
    window size is the receiver's own affair, and parameters with a minus may be ignored."""
    for parameter in text.upper().split():
        is_harmless = parameter.startswith(("-", "WSH=")) or parameter == "KDR=0"
        if not is_harmless:
            raise SdpError("a=crypto: session parameter is not supported")


def _check_told_apart(keys: list[SrtpKeys]) -> None:
    """Several keys each have an MKI, all of one length (RFC 4568 section 6.1)."""
    marks = {key.mki for key in keys}
    if len(marks) < len(keys) or len({len(mark) for mark in marks}) > 1 or b"" in marks:
        raise SdpError("a=crypto: several keys without an MKI each, or not of one length")


def _parse_key(text: str, suite: str) -> tuple[SrtpKeys, int | None]:
    method, _, info = text.partition(":")
    if method.lower() != "inline":
        raise SdpError("a=crypto: only inline keys are supported")
    encoded, *rest = info.split("|")
    mki = _parse_mki(rest.pop()) if rest and ":" in rest[-1] else b""
    if len(rest) > 1:
        raise SdpError("a=crypto: more than a lifetime and an MKI")
    try:
        padding = "=" * (-len(encoded) % 4)  # some leave it out
        key_and_salt = base64.b64decode(encoded + padding, validate=True)
    except (binascii.Error, ValueError):
        raise SdpError("a=crypto: key is not base64") from None
    if len(key_and_salt) != SUITES[suite].key_and_salt_bytes:
        raise SdpError("a=crypto: key has the wrong length")
    return SrtpKeys(suite, key_and_salt, mki), _parse_lifetime(rest[0]) if rest else None


def _parse_mki(text: str) -> bytes:
    """`1:4` is 1 in four bytes (RFC 4568 section 6.1)."""
    matched = _MKI.fullmatch(text)
    length = int(matched[2]) if matched else 0
    if matched is None or not 0 < length <= MOST_MKI_BYTES or int(matched[1]).bit_length() > 8 * length:
        raise SdpError("a=crypto: impossible MKI")
    return int(matched[1]).to_bytes(length, "big")


def _parse_lifetime(text: str) -> int:
    matched = _LIFETIME.fullmatch(text)
    number = int(matched[2]) if matched else 0
    if matched and matched[1]:
        number = 1 << number if number <= 48 else 0
    if not 0 < number <= LONGEST_LIFETIME:
        raise SdpError("a=crypto: impossible lifetime")
    return number
