"""Cutting SIP header values, in linear time, for any input (RFC 3261 section 25.1).

sipmessage's typed headers are too strict for what real peers send in Via, From and Contact, and its patterns for quoted
strings are greedy across values; these few cuts look at quotes and brackets only. URIs are parsed by sipmessage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sipmessage import URI

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+")
MAX_URI_CHARS = 2048
"Longer ones are never parsed, only copied; ours is a service, not a browser."


QUOTED = r'"(?:[^"\\]|\\.)*+"'
"A quoted-string. Possessive, as all repeats here: what was taken is never given back, so time stays linear."
OPAQUE = rf"{QUOTED}?|<[^>]*+>?"
"What separators have no meaning in; an unterminated one reaches to the end."
SEGMENT = {separator: re.compile(rf'(?:[^"<{separator}]|{OPAQUE})*+', re.DOTALL) for separator in ",;"}
"All up to the next separator."
BALANCED = re.compile(rf'{QUOTED}|<[^<>"]*+>', re.DOTALL)
BRACKET = re.compile(rf'(?:[^"<]|{QUOTED}?)*+<', re.DOTALL)
"All up to the first < outside quotes."


def split_outside(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators (`,` or `;`) that stand outside quoted strings and <...>, stripped."""
    if separator not in text:
        return [text.strip()]
    if '"' not in text and "<" not in text:
        return [part.strip() for part in text.split(separator)]
    parts, end = [], -1
    while end < len(text):
        match = SEGMENT[separator].match(text, end + 1)
        assert match is not None  # it matches nothing, too
        parts.append(match.group().strip())
        end = match.end()
    return parts


def is_balanced(text: str) -> bool:
    """Every quoted string and every <...> is closed."""
    return not re.search(r'["<>]', BALANCED.sub("", text))


def parse_params(parts: list[str]) -> dict[str, str]:
    """`name=value` parts to a dict with lower-case names; the first of equal names counts. Quotes are taken off."""
    params: dict[str, str] = {}
    for part in parts:
        name, _, value = part.partition("=")
        params.setdefault(name.strip().lower(), unquote(value.strip()))
    return params


def unquote(text: str) -> str:
    """A quoted-string's content; other text as it is."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


@dataclass(frozen=True, slots=True)
class NameAddr:
    """From, To, Contact or Route: display name, URI as text, header parameters."""

    name: str
    uri: str
    params: dict[str, str]

    @property
    def tag(self) -> str:
        return self.params.get("tag", "")


def parse_name_addr(value: str) -> NameAddr:
    """Never raises; a value that is not a name-addr gives an empty or odd `uri`."""
    head, *params = split_outside(value, ";")
    name, bracket, rest = head, "", ""
    opening = _bracket(head)
    if opening >= 0:
        name, bracket, rest = head[:opening], "<", head[opening + 1 :]
    uri = rest.partition(">")[0] if bracket else head
    return NameAddr(name=unquote(name.strip()) if bracket else "", uri=uri.strip(), params=parse_params(params))


def _bracket(text: str) -> int:
    match = BRACKET.match(text)
    return match.end() - 1 if match else -1


VIA = re.compile(
    r"SIP\s*/\s*(\d{1,4}\.\d{1,4})\s*/\s*([A-Za-z0-9\-.!%*_+`'~]+)\s+"
    r"(\[[0-9A-Za-z:.%]+\]|[^\s:;,\[\]]+)\s*(?::\s*(\d{1,5}))?$"
)


@dataclass(frozen=True, slots=True)
class Via:
    """The topmost Via."""

    transport: str
    host: str
    port: int | None
    params: dict[str, str]
    is_clean: bool = True
    "SIP/2.0 and no empty parameter; other ones can be answered, but only with a refusal."

    @property
    def branch(self) -> str:
        return self.params.get("branch", "")

    @property
    def sent_by(self) -> str:
        return f"{self.host.lower()}:{self.port or 5060}"


def parse_via(value: str) -> Via:
    """Raises ValueError for what is no Via."""
    head, *params = split_outside(value, ";")
    match = VIA.match(head)
    if match is None:
        raise ValueError("Via is not valid")
    version, transport, host, port = match.groups()
    number = int(port) if port else None
    if number is not None and not 0 < number < 65536:
        raise ValueError("Via port is out of range")
    return Via(transport.upper(), host, number, parse_params(params), version == "2.0" and all(params))


def scheme_of(uri: str) -> str:
    """Lower-case scheme, empty if there is none."""
    match = SCHEME.match(uri)
    return match.group(1).lower() if match else ""


def is_host_clear(uri: str) -> bool:
    """False for a SIP URI whose host could be read in two ways: an IPv6 address without brackets (RFC 5118 4.1)."""
    if scheme_of(uri) not in ("sip", "sips"):
        return True
    authority = uri.partition(":")[2].rpartition("@")[2].split(";")[0].split("?")[0]
    return authority.count(":") <= 1 or authority.startswith("[")


def host_port(uri: str) -> tuple[str, int | None, str]:
    """Host without brackets, port and transport parameter of a sip or sips URI. Raises ValueError for others."""
    if len(uri) > MAX_URI_CHARS:
        raise ValueError("URI is too long")
    try:
        parsed = URI.parse(uri.partition("?")[0])
        host, port, params = parsed.host, parsed.port, dict(_pairs(uri))
    except ValueError:
        # hosts with underscores and odd parameters, which sipmessage refuses and peers use
        host, port, params = _lenient(uri)
    if port is not None and not 0 < port < 65536:
        raise ValueError("URI port is out of range")
    return host.strip("[]"), port, params.get("transport", "").lower()


def _pairs(uri: str) -> list[tuple[str, str]]:
    tail = uri.rpartition("@")[2].partition("?")[0]
    return list(parse_params(tail.split(";")[1:]).items())


HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:;?@<>\"\[\]]+)(?::(\d{1,5}))?$")


def _lenient(uri: str) -> tuple[str, int | None, dict[str, str]]:
    scheme, _, rest = uri.partition(":")
    if scheme.lower() not in ("sip", "sips"):
        raise ValueError("not a SIP URI")
    authority = rest.rpartition("@")[2].partition("?")[0].split(";")[0]
    match = HOST_PORT.match(authority)
    if match is None:
        raise ValueError("URI is not valid")
    return match.group(1), int(match.group(2)) if match.group(2) else None, dict(_pairs(uri))
