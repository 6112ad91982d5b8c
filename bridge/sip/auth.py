"""Digest authentication of callers (RFC 3261 section 22, RFC 7616, RFC 8760). Nonces are stateless: a time and an HMAC
over it; only who repeats a nonce count is remembered."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from bridge.sip.message import Request
from bridge.sip.syntax import parse_params, split_outside

ALGORITHMS = {"SHA-256": hashlib.sha256, "MD5": hashlib.md5}
"In order of preference; MD5 for old SBCs (RFC 8760 section 2.3). Basic is never offered (2.6)."
NONCE_LIFE = 300.0  # s; a later answer is `stale` and tried again by the client without asking its user
MAX_NONCES = 10_000
"Nonces whose counts are remembered; the oldest is forgotten first, and then taken for expired."
MAX_HEADER_CHARS = 4096
WINDOW = 64
"How far behind the highest count an unseen one may come: UDP reorders."


class Verdict(Enum):
    GOOD = auto()
    BAD = auto()
    "No credentials, or wrong ones."
    STALE = auto()
    "Right password, nonce too old."


@dataclass(slots=True)
class _Counts:
    highest: int = 0
    seen: int = 0
    "Bit n: `highest - n` was used."


class DigestServer:
    """Checks requests against names and passwords."""

    def __init__(self, users: Mapping[str, str], *, realm: str, secret: bytes) -> None:
        """`secret`: random, at least 16 bytes, kept as long as nonces shall be known."""
        self.users = dict(users)
        "May be replaced; nonces stay good."
        self._realm = realm
        self._secret = secret
        self._counts: dict[str, _Counts] = {}

    def challenge(self, now: float, *, is_stale: bool = False) -> list[tuple[str, str]]:
        """One WWW-Authenticate per algorithm for a 401."""
        nonce = self._nonce(now)
        stale = ", stale=true" if is_stale else ""
        return [
            ("WWW-Authenticate", f'Digest realm="{self._realm}", nonce="{nonce}", algorithm={name}, qop="auth"{stale}')
            for name in ALGORITHMS
        ]

    def check(self, request: Request, now: float) -> Verdict:
        """Of an INVITE or the like. ACK and CANCEL cannot be challenged and must not be asked about (22.1)."""
        for line in request.headers.lines("Authorization"):
            params = digest_params(line)
            if params.get("realm") == self._realm:
                return self._check(params, request.method, now)
        return Verdict.BAD

    def _check(self, params: Mapping[str, str], method: str, now: float) -> Verdict:
        algorithm = params.get("algorithm", "MD5").upper()
        nonce, qop, count = params.get("nonce", ""), params.get("qop", ""), params.get("nc", "")
        password = self.users.get(params.get("username", ""))
        if algorithm not in ALGORITHMS or qop not in ("", "auth") or not params.get("uri"):
            return Verdict.BAD
        expected = digest(
            algorithm, username=params.get("username", ""), realm=self._realm, password=password or "", method=method,
            uri=params["uri"], nonce=nonce, nc=count, cnonce=params.get("cnonce", ""), qop=qop,
        )  # fmt: skip
        is_right = hmac.compare_digest(expected.encode(), params.get("response", "").lower().encode())
        made_at = self._made_at(nonce)
        if password is None or not is_right or made_at is None:
            return Verdict.BAD
        if not -1.0 <= now - made_at <= NONCE_LIFE:
            return Verdict.STALE
        # a client without qop cannot count: its nonce serves once, then it is asked again
        return Verdict.GOOD if self._is_fresh(nonce, count if qop else "1") else Verdict.STALE

    def _nonce(self, now: float) -> str:
        stamp = f"{int(now * 1000):014x}"
        return stamp + self._sign(stamp)

    def _sign(self, stamp: str) -> str:
        return hmac.new(self._secret, stamp.encode(), hashlib.sha256).hexdigest()[:32]

    def _made_at(self, nonce: str) -> float | None:
        stamp, signature = nonce[:14], nonce[14:]
        if not re.fullmatch(r"[0-9a-f]{46}", nonce) or not hmac.compare_digest(self._sign(stamp), signature):
            return None
        return int(stamp, 16) / 1000

    def _is_fresh(self, nonce: str, count: str) -> bool:
        """True the first time that a nonce comes with this count (RFC 7616 section 3.4)."""
        if not re.fullmatch(r"[0-9a-fA-F]{1,8}", count) or int(count, 16) == 0:
            return False
        number = int(count, 16)
        counts = self._counts.get(nonce)
        if counts is None:
            while len(self._counts) >= MAX_NONCES:
                del self._counts[next(iter(self._counts))]
            counts = self._counts[nonce] = _Counts()
        if number > counts.highest:
            counts.seen = (counts.seen << min(number - counts.highest, WINDOW) | 1) & ((1 << WINDOW) - 1)
            counts.highest = number
            return True
        bit = 1 << (counts.highest - number) if counts.highest - number < WINDOW else 0
        if not bit or counts.seen & bit:
            return False
        counts.seen |= bit
        return True


def digest_params(value: str) -> dict[str, str]:
    """The parameters of a Digest header, in linear time; empty for another scheme."""
    scheme, _, rest = value[:MAX_HEADER_CHARS].strip().partition(" ")
    return parse_params(split_outside(rest, ",")) if scheme.lower() == "digest" else {}


def digest(
    algorithm: str, *, username: str, realm: str, password: str, method: str, uri: str, nonce: str,
    nc: str = "", cnonce: str = "", qop: str = "",
) -> str:  # fmt: skip
    """The response value (RFC 7616 section 3.4.1), as lower-case hex."""

    def hashed(*parts: str) -> str:
        return ALGORITHMS[algorithm](":".join(parts).encode("utf-8", "surrogatepass")).hexdigest()

    secret, what = hashed(username, realm, password), hashed(method, uri)
    return hashed(secret, nonce, nc, cnonce, qop, what) if qop else hashed(secret, nonce, what)
