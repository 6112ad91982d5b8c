"""SRTP (RFC 3711, RFC 7714) under keys that SDES (`bridge.rtp.sdes`) or DTLS brought. The cipher work is libsrtp's.

A peer's MKI is taken out of its packets, which libsrtp's binding does not know. Roll-over counters cannot be read or
set, so a peer that restarts its counting is met with a fresh context under the same key, and one that has rolled over
with one that was led there, see `_Context`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from bridge.errors import MalformedPacket

REBUILD_AFTER = 20  # packets in a row that failed: 0.4 s at 20 ms
REBUILD_QUIET = 0.4  # s without one good packet: a stranger's junk between good packets never leads to a rebuild
SHORTEST_BYTES, LONGEST_BYTES = 16, 1500  # of a packet: header and authentication tag; what pylibsrtp takes
OLD_KEYS_FOR = 1.0  # s in which packets under the keys before may still come, reordered, once the new ones are used
MOST_ROLL_OVERS = 64  # 23 hours at 50 packets a second; 1.1 ms to search (measured)
SEARCH_EVERY, SEARCH_SELDOM = 1.0, 16.0  # s between searches: doubled while they find nothing


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """One direction's master key. `suite` is the SDP name, such as AES_CM_128_HMAC_SHA1_80."""

    suite: str
    key_and_salt: bytes
    mki: bytes = b""
    "Master key identifier that stands in each packet (RFC 3711 section 3.1), where the peer has one. We have none."
    further: tuple[SrtpKeys, ...] = ()
    "More master keys that the peer may change to at any packet; their MKIs are as long as this one's."


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


def fresh_keys(suite: str, random_bytes: Callable[[int], bytes]) -> SrtpKeys:
    """A new key, never the peer's. `random_bytes` must be cryptographic, as `secrets.token_bytes` is."""
    return SrtpKeys(suite, random_bytes(SUITES[suite].key_and_salt_bytes))


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
    """Checks and decrypts what one peer sends, any SSRC, RTP and RTCP, under any of its master keys."""

    def __init__(self, keys: SrtpKeys, *, before: SrtpReceiver | None = None) -> None:
        """`before`: what served until the peer told us other keys. Packets under the old ones are still on their way
        until it has our answer; they are taken up to OLD_KEYS_FOR after the first under the new."""
        self._keys = keys
        self._contexts = {key.mki: _Context(key) for key in (keys, *keys.further)}
        self._before = before
        self._before_until = float("inf")
        self.failures = 0
        "Packets refused: not authentic, replayed, or too long."
        if before is not None:
            before.forget_older()

    @property
    def rebuilds(self) -> int:
        """Times that a fresh context took over."""
        return sum(context.rebuilds for context in self._contexts.values())

    def unprotect(self, data: bytes, now: float) -> bytes:
        """The RTP packet in `data`, which arrived at `now`. Raises MalformedPacket if not authentic or seen before."""
        return self._open(data, now, "unprotect")

    def unprotect_rtcp(self, data: bytes, now: float) -> bytes:
        """The same for RTCP."""
        return self._open(data, now, "unprotect_rtcp")

    def forget_older(self) -> None:
        """Only the last but one keys are ever looked back to."""
        self._before = None

    def _open(self, data: bytes, now: float, method: str) -> bytes:
        bare, mki = self._without_mki(data, method) if self._keys.mki else (data, b"")
        context = self._contexts.get(mki)
        plain = _attempt(context.session, method, bare) if context is not None else None
        if plain is None and self._before is not None:
            plain = self._open_as_before(data, now, method)
            if plain is not None:
                return plain
        if plain is None and context is not None:
            plain = context.open_anew(bare, now, method)
        if plain is None or context is None:
            self.failures += 1
            raise MalformedPacket("SRTP: not authentic, replayed, or not under the agreed MKI")
        context.opened(now)
        if self._before is not None:
            self._before_until = min(self._before_until, now + OLD_KEYS_FOR)
        return plain

    def _without_mki(self, data: bytes, method: str) -> tuple[bytes, bytes]:
        """The packet as libsrtp knows it, and the master key identifier that stood in it (RFC 3711 section 3.1)."""
        suite = SUITES[self._keys.suite]
        end = len(data) - (suite.tag_bytes if method == "unprotect" else suite.rtcp_tag_bytes)
        start = end - len(self._keys.mki)
        return (data[:start] + data[end:], data[start:end]) if start >= 0 else (b"", b"")

    def _open_as_before(self, data: bytes, now: float, method: str) -> bytes | None:
        if now >= self._before_until:
            self._before = None
        if self._before is None:
            return None
        try:
            return self._before._open(data, now, method)
        except MalformedPacket:
            return None


class _Context:
    """What libsrtp keeps under one master key.

    A peer that restarts (the same SSRC, sequence numbers from the beginning) looks like a forger or a replay for good.
    So when `REBUILD_AFTER` packets in a row have failed and none succeeded for `REBUILD_QUIET`, each further
    one is also tried on a fresh context under the same key, which takes over if the packet is authentic there. A stream
    that still flows is never touched, and junk alone never replaces a context.
    """

    def __init__(self, keys: SrtpKeys) -> None:
        self._keys = keys
        self.session = _open_session(keys, "SSRC_ANY_INBOUND")
        self._failed_in_a_row = 0
        self._last_good = float("-inf")
        self._search_every = SEARCH_EVERY
        self._search_at = float("-inf")
        self.rebuilds = 0

    def opened(self, now: float) -> None:
        """A packet was authentic."""
        self._failed_in_a_row = 0
        self._last_good = now
        self._search_every = SEARCH_EVERY

    def open_anew(self, data: bytes, now: float, method: str) -> bytes | None:
        """What the context as it is refuses, if another one under the same key can open it."""
        self._failed_in_a_row += 1
        may_replace = self._failed_in_a_row > REBUILD_AFTER and now - self._last_good >= REBUILD_QUIET
        if method == "unprotect" and self._failed_in_a_row % REBUILD_AFTER == 1:
            plain = self._open_rolled_over(data, self._n_roll_overs(now, may_replace), may_replace=may_replace)
            if plain is not None:
                return plain
        if may_replace:
            session = _open_session(self._keys, "SSRC_ANY_INBOUND")
            plain = _attempt(session, method, data)
            if plain is not None:
                self._take_over(session)
                return plain
        return None

    def _n_roll_overs(self, now: float, may_replace: bool) -> int:
        """How far to search now: all of it takes a millisecond, which strangers' junk must not make us spend often."""
        is_unheard = self._last_good == float("-inf")
        if now < self._search_at or not (is_unheard or may_replace):
            return 1
        self._search_at, self._search_every = now + self._search_every, min(2 * self._search_every, SEARCH_SELDOM)
        return MOST_ROLL_OVERS

    def _take_over(self, session: Any) -> None:
        self.session = session
        self.rebuilds += 1

    def _open_rolled_over(self, data: bytes, most: int, *, may_replace: bool) -> bytes | None:
        """A stream that is first heard, or heard again, behind wraps of its sequence number has rolled over (RFC 3711
        section 3.3.1), which libsrtp cannot be told. Packets made under the peer's own key, a third of a turn apart,
        lead it there; the context itself is only touched once `data` has proved authentic so."""
        if not SHORTEST_BYTES <= len(data) <= LONGEST_BYTES:
            return None
        maker = _open_session(self._keys, "SSRC_ANY_OUTBOUND")
        trial = _open_session(self._keys, "SSRC_ANY_INBOUND")
        sequence, leads = int.from_bytes(data[2:4], "big"), []
        for n in range(3 * most):
            at = (0xFFFF, 0x5555, 0xAAAA)[n % 3]
            lead = _attempt(maker, "protect", b"\x80\x00" + at.to_bytes(2, "big") + bytes(4) + data[8:12])
            if lead is None or _attempt(trial, "unprotect", lead) is None:
                return None
            leads.append(lead)
            if 0 < (sequence - at) & 0xFFFF <= 0x5556:
                plain = _attempt(trial, "unprotect", data)
                if plain is not None:
                    return self._follow(leads, data) or (self._replaced(trial, plain) if may_replace else None)
        return None

    def _follow(self, leads: list[bytes], data: bytes) -> bytes | None:
        """Where the context has heard this stream, it refuses the leads: then `data` may be a replay."""
        if any(_attempt(self.session, "unprotect", lead) is None for lead in leads):
            return None
        return _attempt(self.session, "unprotect", data)

    def _replaced(self, session: Any, plain: bytes) -> bytes:
        self._take_over(session)
        return plain


def _attempt(session: Any, method: str, data: bytes) -> bytes | None:
    try:
        plain: bytes = getattr(session, method)(data)
    except _refusals():
        return None
    return plain


@cache
def _refusals() -> tuple[type[Exception], ...]:
    """Asked for only where something was refused: a packet has no time for an import."""
    import pylibsrtp

    return pylibsrtp.Error, ValueError  # ValueError: longer than pylibsrtp's 1500 bytes


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
