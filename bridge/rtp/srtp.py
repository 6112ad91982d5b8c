"""SRTP (RFC 3711, RFC 7714) under keys that SDES (RFC 4568) carries in SDP. The cipher work is libsrtp's.

What libsrtp cannot do is refused while the session is described: other suites (AES_256_CM above all, which PJSIP offers
first), more than one key, and anything sent in the clear. A peer's MKI is taken out of its packets. Roll-over counters
cannot be read or set, so a peer that restarts its counting is met with a fresh context under the same key, see
`SrtpReceiver`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bridge.errors import MalformedPacket, SdpError

REBUILD_AFTER = 20  # packets in a row that failed: 0.4 s at 20 ms
REBUILD_QUIET = 0.4  # s without one good packet: a stranger's junk between good packets never leads to a rebuild
SHORTEST_BYTES, LONGEST_BYTES = 16, 1500  # of a packet: header and authentication tag; what pylibsrtp takes
MOST_MKI_BYTES = 128  # RFC 4568 section 6.1
LAST_HEADER = b"\x80\x00\xff\xff\x00\x00\x00\x00"  # RTP, the last sequence number there is
LONGEST_LIFETIME = 1 << 48  # packets under one key (RFC 3711 section 9.2)
_CRYPTO = re.compile(r"([0-9]{1,9})[ \t]+([A-Za-z0-9_]+)[ \t]+(\S+)(?:[ \t]+(\S.*))?")
_MKI = re.compile(r"([0-9]{1,39}):([0-9]{1,3})")
_LIFETIME = re.compile(r"(2\^)?([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """One direction's master key. `suite` is the SDP name, such as AES_CM_128_HMAC_SHA1_80."""

    suite: str
    key_and_salt: bytes
    mki: bytes = b""
    "Master key identifier that stands in each packet (RFC 3711 section 3.1), where the peer has one. We have none."


@dataclass(frozen=True, slots=True)
class Suite:
    """A crypto suite that libsrtp has."""

    key_and_salt_bytes: int
    profile: str
    "Name of the constant in pylibsrtp.Policy."
    tag_bytes: int
    "Behind the MKI in a packet; 0: the cipher's own tag stands before it (RFC 7714 section 8)."
    rtcp_tag_bytes: int


SUITES: dict[str, Suite] = {
    "AES_CM_128_HMAC_SHA1_80": Suite(30, "SRTP_PROFILE_AES128_CM_SHA1_80", 10, 10),
    "AES_CM_128_HMAC_SHA1_32": Suite(30, "SRTP_PROFILE_AES128_CM_SHA1_32", 4, 10),
    "AEAD_AES_128_GCM": Suite(28, "SRTP_PROFILE_AEAD_AES_128_GCM", 0, 0),
    "AEAD_AES_256_GCM": Suite(44, "SRTP_PROFILE_AEAD_AES_256_GCM", 0, 0),
}
"By SDP name (RFC 4568 section 6.2, RFC 7714 section 14.2)."


@dataclass(frozen=True, slots=True)
class CryptoLine:
    """One usable `a=crypto`. An answer repeats `tag` and suite, with a key of its own."""

    tag: int
    keys: SrtpKeys
    lifetime: int | None = None
    "Packets after which the peer must change its key; not enforced on receipt."


def parse_crypto(value: str) -> CryptoLine:
    """What stands behind `a=crypto:`. Raises SdpError for a line that is malformed or that we cannot serve; the message
    never contains the key."""
    matched = _CRYPTO.fullmatch(value.strip())
    if matched is None:
        raise SdpError("a=crypto: not <tag> <suite> <key>")
    tag, name, key, parameters = matched.groups()
    suite = SUITES.get(name.upper())
    if suite is None:
        raise SdpError("a=crypto: suite is not supported")
    _check_parameters(parameters or "")
    key_and_salt, lifetime, mki = _parse_key(key, suite)
    return CryptoLine(int(tag), SrtpKeys(name.upper(), key_and_salt, mki), lifetime)


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


def fresh_keys(suite: str, random_bytes: Callable[[int], bytes]) -> SrtpKeys:
    """A new key, never the peer's. `random_bytes` must be cryptographic, as `secrets.token_bytes` is."""
    return SrtpKeys(suite, random_bytes(SUITES[suite].key_and_salt_bytes))


def _check_parameters(text: str) -> None:
    """Session parameters (RFC 4568 section 6.3): what changes the packets must be served, and we serve none of it."""
    for parameter in text.split():
        is_harmless = parameter.startswith(("-", "WSH=")) or parameter == "KDR=0"
        if not is_harmless:
            raise SdpError("a=crypto: session parameter is not supported")


def _parse_key(text: str, suite: Suite) -> tuple[bytes, int | None, bytes]:
    method, _, info = text.partition(":")
    if method.lower() != "inline" or ";" in info:
        raise SdpError("a=crypto: one inline key is supported")
    encoded, *rest = info.split("|")
    mki = _parse_mki(rest.pop()) if rest and ":" in rest[-1] else b""
    if len(rest) > 1:
        raise SdpError("a=crypto: more than a lifetime and an MKI")
    try:
        padding = "=" * (-len(encoded) % 4)  # some leave it out
        key_and_salt = base64.b64decode(encoded + padding, validate=True)
    except (binascii.Error, ValueError):
        raise SdpError("a=crypto: key is not base64") from None
    if len(key_and_salt) != suite.key_and_salt_bytes:
        raise SdpError("a=crypto: key has the wrong length")
    return key_and_salt, _parse_lifetime(rest[0]) if rest else None, mki


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


def _open_session(keys: SrtpKeys, direction: str) -> Any:
    """A libsrtp session for any SSRC. Raises ValueError for keys of an unknown suite or the wrong length."""
    import pylibsrtp

    suite = SUITES.get(keys.suite)
    if suite is None or len(keys.key_and_salt) != suite.key_and_salt_bytes:
        raise ValueError("SRTP: unknown suite or wrong key length")
    policy = pylibsrtp.Policy(
        key=keys.key_and_salt,
        ssrc_type=getattr(pylibsrtp.Policy, direction),
        srtp_profile=getattr(pylibsrtp.Policy, suite.profile),
    )
    return pylibsrtp.Session(policy=policy)


class SrtpReceiver:
    """Checks and decrypts what one peer sends, any SSRC, RTP and RTCP.

    A peer that restarts (the same SSRC, sequence numbers from the beginning) looks like a forger or a replay for good.
    So when `REBUILD_AFTER` packets in a row have failed and none succeeded for `REBUILD_QUIET`, each further
    one is also tried on a fresh context under the same key, which takes over if the packet is authentic there. A stream
    that still flows is never touched, and junk alone never replaces a context.
    """

    def __init__(self, keys: SrtpKeys) -> None:
        self._keys = keys
        self._session = _open_session(keys, "SSRC_ANY_INBOUND")
        self._failed_in_a_row = 0
        self._last_good = float("-inf")
        self.failures = 0
        "Packets refused: not authentic, replayed, or too long."
        self.rebuilds = 0
        "Times that a fresh context took over."

    def unprotect(self, data: bytes, now: float) -> bytes:
        """The RTP packet in `data`, which arrived at `now`. Raises MalformedPacket if not authentic or seen before."""
        return self._open(data, now, "unprotect")

    def unprotect_rtcp(self, data: bytes, now: float) -> bytes:
        """The same for RTCP."""
        return self._open(data, now, "unprotect_rtcp")

    def _open(self, data: bytes, now: float, method: str) -> bytes:
        if self._keys.mki:
            data = self._without_mki(data, method)
        plain = _attempt(self._session, method, data)
        if plain is None:
            plain = self._open_anew(data, now, method)
        self._failed_in_a_row = 0
        self._last_good = now
        return plain

    def _without_mki(self, data: bytes, method: str) -> bytes:
        suite, mki = SUITES[self._keys.suite], self._keys.mki
        end = len(data) - (suite.tag_bytes if method == "unprotect" else suite.rtcp_tag_bytes)
        start = end - len(mki)
        if start < 0 or data[start:end] != mki:
            self.failures += 1
            raise MalformedPacket("SRTP: not under the agreed MKI")
        return data[:start] + data[end:]

    def _open_anew(self, data: bytes, now: float, method: str) -> bytes:
        self._failed_in_a_row += 1
        if method == "unprotect" and self._failed_in_a_row % REBUILD_AFTER == 1:
            plain = self._open_rolled_over(data)
            if plain is not None:
                return plain
        if self._failed_in_a_row > REBUILD_AFTER and now - self._last_good >= REBUILD_QUIET:
            session = _open_session(self._keys, "SSRC_ANY_INBOUND")
            plain = _attempt(session, method, data)
            if plain is not None:
                self._session = session
                self.rebuilds += 1
                return plain
        self.failures += 1
        raise MalformedPacket("SRTP: not authentic, or replayed")

    def _open_rolled_over(self, data: bytes) -> bytes | None:
        """A stream that is first heard behind the wrap of its sequence number has rolled over once (RFC 3711 section
        3.3.1), which libsrtp cannot be told. A packet made under the peer's own key, just before the wrap, leads it
        there; the receiver's context is only touched once `data` has proved authentic so."""
        if not SHORTEST_BYTES <= len(data) <= LONGEST_BYTES or data[2] & 0x80:
            return None
        before = _open_session(self._keys, "SSRC_ANY_OUTBOUND").protect(LAST_HEADER + data[8:12])
        trial = _open_session(self._keys, "SSRC_ANY_INBOUND")
        if _attempt(trial, "unprotect", before) is None or _attempt(trial, "unprotect", data) is None:
            return None
        _attempt(self._session, "unprotect", before)
        return _attempt(self._session, "unprotect", data)


def _attempt(session: Any, method: str, data: bytes) -> bytes | None:
    import pylibsrtp

    try:
        plain: bytes = getattr(session, method)(bytes(data))
    except (pylibsrtp.Error, ValueError):  # ValueError: longer than pylibsrtp's 1500 bytes
        return None
    return plain


class SrtpSender:
    """Protects what we send under our own key: the call generator's RTP, and RTCP of every leg."""

    def __init__(self, keys: SrtpKeys) -> None:
        self._session = _open_session(keys, "SSRC_ANY_OUTBOUND")

    def protect(self, data: bytes) -> bytes:
        """An RTP packet, protected. Raises ValueError for what libsrtp will not take: no RTP, too long, or a sequence
        number that was used before."""
        return _protected(self._session.protect, data)

    def protect_rtcp(self, data: bytes) -> bytes:
        """The same for an RTCP compound."""
        return _protected(self._session.protect_rtcp, data)


def _protected(protect: Callable[[bytes], bytes], data: bytes) -> bytes:
    import pylibsrtp

    try:
        return protect(data)
    except pylibsrtp.Error as error:
        raise ValueError(f"SRTP: {error}") from None
