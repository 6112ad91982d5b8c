"""SIP messages: a hardened parse and byte-exact copying (RFC 3261 sections 7, 8.2.6 and 18.3; RFC 4475).

Values are kept as text and copied verbatim into responses and later requests: re-serialising a parsed From, To or
Contact is what breaks dialog matching at picky peers. `.authorization` of sipmessage is never used (exponential).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sipmessage.message import COMPACT_FORMS

from bridge.errors import SipError
from bridge.sip.syntax import (
    TOKEN,
    NameAddr,
    Via,
    is_balanced,
    is_host_clear,
    parse_name_addr,
    parse_via,
    scheme_of,
    split_outside,
)

MAX_HEAD_BYTES = 32 * 1024
"Start line and headers. Kamailio's default buffer for all of a message is 64 KiB; real INVITEs stay below 8 KiB."
MAX_HEADERS = 256
MAX_VALUES = 64
"Of one Contact line; more are a scanner's."
MAX_BODY_BYTES = 512 * 1024
SINGLE = frozenset({"from", "to", "call-id", "cseq", "max-forwards", "content-length", "content-type"})
REQUIRED = ("via", "from", "to", "call-id", "cseq")
MULTI_VALUE = frozenset({"via", "route", "record-route", "contact", "require", "supported", "allow", "proxy-require"})
KNOWN_METHODS = frozenset({
    "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER", "REGISTER",
    "SUBSCRIBE", "UPDATE",
})  # fmt: skip
"IANA's registry of SIP methods."
COMPACT = {short: name.lower() for short, name in COMPACT_FORMS.items()}


class Headers:
    """Header lines in order. Names are compared without case, compact names are already expanded."""

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self._lines = list(lines)
        self._index: dict[str, list[str]] = {}
        for name, value in self._lines:
            self._index.setdefault(name.lower(), []).append(value)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._lines)

    def get(self, name: str, default: str = "") -> str:
        """The first line of that name."""
        values = self._index.get(name.lower())
        return values[0] if values else default

    def lines(self, name: str) -> list[str]:
        """Every line of that name, as received."""
        return list(self._index.get(name.lower(), ()))

    def values(self, name: str) -> list[str]:
        """Every value of a comma-separated header, over all its lines."""
        return [value for line in self.lines(name) for value in split_outside(line, ",") if value]

    def tokens(self, name: str) -> frozenset[str]:
        """Lower-case values, for option tags and methods."""
        return frozenset(value.lower() for value in self.values(name))

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._index


@dataclass(slots=True)
class _Message:
    headers: Headers
    body: bytes
    via: Via = field(init=False)
    from_: NameAddr = field(init=False)
    to: NameAddr = field(init=False)
    cseq: int = field(init=False, default=0)
    cseq_method: str = field(init=False, default="")

    @property
    def call_id(self) -> str:
        return self.headers.get("Call-ID")

    @property
    def content_type(self) -> str:
        """Media type without parameters, lower case; empty without a body."""
        return self.headers.get("Content-Type").partition(";")[0].strip().lower() if self.body else ""


@dataclass(slots=True)
class Request(_Message):
    """A request that passed every check."""

    method: str = ""
    uri: str = ""


@dataclass(slots=True)
class Response(_Message):
    """A response that passed every check."""

    status: int = 0
    reason: str = ""


class BadMessage(SipError):
    """A message that cannot be taken. `request` is set where a response can still be built from it."""

    def __init__(self, reason: str, *, status: int = 400, request: Request | None = None) -> None:
        super().__init__(status, reason)
        self.request = request


def parse(data: bytes, *, is_stream: bool = False) -> Request | Response:
    """One message. Raises BadMessage for everything else, in linear time."""
    head, separator, body = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
    if not separator:
        raise BadMessage("No end of headers")
    if len(head) > MAX_HEAD_BYTES or len(body) > MAX_BODY_BYTES:
        raise BadMessage("Message Too Large", status=513)
    lines = _unfold(head)
    message = _start_line(lines[0])
    message.headers, problem = _header_lines(lines[1:])
    message.body = body
    try:
        _read_typed(message)
    except ValueError as error:
        raise BadMessage(str(error)) from None
    problem = problem or _first_problem(message, is_stream=is_stream)
    if problem is not None:
        raise BadMessage(problem[1], status=problem[0], request=message if isinstance(message, Request) else None)
    return message


def _unfold(head: bytes) -> list[str]:
    text = head.decode("utf-8", "replace")
    lines: list[str] = []
    for line in text.split("\r\n"):
        if "\r" in line or "\n" in line:
            # a bare CR or LF copied into a response would become a header of its own at a lenient peer
            raise BadMessage("Bare CR or LF in headers")
        if line[:1] in (" ", "\t") and len(lines) > 1:
            lines[-1] += " " + line.strip()
        else:
            lines.append(line)
    if len(lines) > MAX_HEADERS:
        raise BadMessage("Too many headers")
    return lines


STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6]\d\d)(?: (.*))?$", re.IGNORECASE)


def _start_line(line: str) -> Request | Response:
    match = STATUS_LINE.match(line)
    if match:
        return Response(Headers(), b"", status=int(match.group(1)), reason=(match.group(2) or "").strip())
    if line[:4].upper() == "SIP/" or line.count(" ") < 2:
        raise BadMessage("No SIP start line")
    method, _, rest = line.partition(" ")
    uri, _, version = rest.rpartition(" ")
    if not TOKEN.fullmatch(method):
        raise BadMessage("No SIP start line")
    return Request(Headers(), b"", method=method, uri=uri + (f" {version}" if version.upper() != "SIP/2.0" else ""))


def _header_lines(lines: list[str]) -> tuple[Headers, tuple[int, str] | None]:
    found: list[tuple[str, str]] = []
    singles: dict[str, str] = {}
    problem: tuple[int, str] | None = None
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.strip()
        if not colon or not TOKEN.fullmatch(name):
            problem = problem or (400, "Malformed header")
            continue
        name, value = COMPACT.get(name.lower(), name), value.strip()
        key = name.lower()
        if key in SINGLE:
            if singles.setdefault(key, value) != value:
                problem = problem or (400, f"Conflicting {name}")
                continue
            if found and any(have.lower() == key for have, _ in found):
                continue
        found.append((_pretty(name), value))
    return Headers(found), problem


PRETTY = {"call-id": "Call-ID", "cseq": "CSeq", "www-authenticate": "WWW-Authenticate", "rack": "RAck", "rseq": "RSeq"}


def _pretty(name: str) -> str:
    key = name.lower()
    return PRETTY.get(key) or "-".join(part.capitalize() for part in key.split("-"))


CSEQ = re.compile(r"(\d{1,40})\s+(\S+)$")


def _read_typed(message: Request | Response) -> None:
    headers = message.headers
    message.via = parse_via(split_outside(headers.get("Via"), ",")[0])
    message.from_ = parse_name_addr(headers.get("From"))
    message.to = parse_name_addr(headers.get("To"))
    match = CSEQ.match(headers.get("CSeq"))
    if match is None:
        raise ValueError("Malformed CSeq")
    message.cseq, message.cseq_method = int(match.group(1)), match.group(2)


def _first_problem(message: Request | Response, *, is_stream: bool) -> tuple[int, str] | None:
    """RFC 4475's list: what a well-cut message may still get wrong. Content-Length cuts the body here."""
    headers = message.headers
    if missing := [name for name in REQUIRED if not headers.get(name)]:
        return 400, f"Missing {missing[0].title()}"
    if isinstance(message, Request) and re.search(r" SIP/\d{1,4}\.\d{1,4}$", message.uri, re.IGNORECASE):
        return 505, "Version Not Supported"
    if not message.via.is_clean:
        return 400, "Malformed Via"
    if message.cseq >= 2**31:
        return 400, "CSeq out of range"
    for name in ("From", "To", "Contact"):
        for line in headers.lines(name):
            if fault := _address_problem(line):
                return 400, f"Malformed {name}: {fault}"
    if isinstance(message, Request) and (problem := _request_problem(message)):
        return problem
    return _cut_body(message, is_stream=is_stream)


def _address_problem(line: str) -> str:
    if not is_balanced(line):
        return "unbalanced"
    values = split_outside(line, ",")
    if len(values) > MAX_VALUES:
        return "too many values"
    for value in values:
        head, *params = split_outside(value, ";")
        if not head or not all(params):
            return "empty part"
        address = parse_name_addr(value)
        if address.uri != "*" and (not scheme_of(address.uri) or " " in address.uri):
            return "not a URI"
        if "<" not in head and "?" in head:
            return "headers outside brackets"  # RFC 3261 20.10, RFC 4475 regbadct
    return ""


def _request_problem(request: Request) -> tuple[int, str] | None:
    uri, max_forwards = request.uri, request.headers.get("Max-Forwards", "70")
    if not uri or re.search(r"[\x00-\x20<>]", uri) or not is_host_clear(uri):
        return 400, "Malformed Request-URI"
    if scheme_of(uri) in ("sip", "sips") and "?" in uri.partition("@")[2]:
        return 400, "Headers in Request-URI"  # RFC 3261 19.1.1: not allowed there
    if request.cseq_method != request.method:
        return 400 if request.method in KNOWN_METHODS else 501, "CSeq method does not match"
    if not re.fullmatch(r"\d{1,10}", max_forwards) or int(max_forwards) > 255:
        return 400, "Max-Forwards out of range"
    if request.method != "REGISTER" and "*" in request.headers.values("Contact"):
        return 400, "Malformed Contact: only REGISTER has *"  # RFC 3261 10.2.2
    expires = request.headers.get("Expires", "0")
    if expires.isdigit() and int(expires[:11]) >= 2**32:
        return 400, "Expires out of range"
    return None


def _cut_body(message: Request | Response, *, is_stream: bool) -> tuple[int, str] | None:
    stated = message.headers.get("Content-Length")
    if not stated:
        return (400, "Missing Content-Length") if is_stream else None
    if not re.fullmatch(r"[0-9]{1,7}", stated):
        return 400, "Malformed Content-Length"
    if int(stated) > len(message.body):
        return 400, "Body shorter than Content-Length"
    message.body = message.body[: int(stated)]
    return None


def serialise(start_line: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """A message from header lines; Content-Length is added. The caller vouches that no value holds CR or LF."""
    lines = [start_line, *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body
