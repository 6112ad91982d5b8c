"""Splitting multipart bodies (RFC 2046 section 5.1, RFC 5621), linear and capped.

The standard library's `email` unfolds, decodes and recurses; all that SIPREC needs is the parts as they are. Missing
closing boundary, preamble, blanks before the first boundary and a missing blank line are common and taken.
"""

from __future__ import annotations

from dataclasses import dataclass

from bridge.sip.syntax import parse_params, split_outside

MAX_PARTS = 16
MAX_PART_HEADERS = 32
MAX_DEPTH = 3  # multiparts within multiparts (RFC 5621 section 3.1 wants them understood)


@dataclass(frozen=True, slots=True)
class Part:
    """One body part."""

    content_type: str
    "Media type without parameters, lower case."
    disposition: str
    "Lower case, without parameters; empty if not said."
    content: bytes


def split(body: bytes, content_type: str) -> list[Part]:
    """The parts of a body, those of parts that are multipart themselves among them: one for what is not multipart, none
    for an empty one. Never raises; at most MAX_PARTS."""
    return _split(body, content_type, MAX_DEPTH)


def is_multipart(content_type: str) -> bool:
    """Of any subtype: an unknown one is taken as mixed (RFC 5621 section 3.2)."""
    return content_type.lower().startswith("multipart/")


def _split(body: bytes, content_type: str, depth: int) -> list[Part]:
    if not body:
        return []
    kind, *params = split_outside(content_type, ";")
    if not is_multipart(kind.strip()):
        return [Part(kind.strip().lower(), "", body)]
    boundary = parse_params(params).get("boundary", "")
    marker = b"--" + (boundary.encode() if boundary else _guess(body))
    if marker == b"--":
        return []
    pieces = (b"\r\n" + body).split(b"\n" + marker, MAX_PARTS + 1)
    parts: list[Part] = []
    for piece in pieces[1 : MAX_PARTS + 1]:
        if piece.startswith(b"--"):
            break
        parts += _parts(piece, depth)
    return parts[:MAX_PARTS]


def _guess(body: bytes) -> bytes:
    """The boundary as the body shows it, where Content-Type does not say."""
    line = body.lstrip().split(b"\n", 1)[0].rstrip()
    return line[2:] if line.startswith(b"--") else b""


def _parts(piece: bytes, depth: int) -> list[Part]:
    _, _, rest = piece.partition(b"\n")  # blanks after the boundary
    head, blank, content = rest.partition(b"\r\n\r\n")
    if not blank:
        head, blank, content = rest.partition(b"\n\n")
    if rest.startswith((b"\r\n", b"\n")):
        head, content = b"", rest.lstrip(b"\r\n")  # no headers: text/plain by RFC 2046, so of no use to us
    elif not blank:
        return []
    headers: dict[str, str] = {}
    for line in head.decode("utf-8", "replace").splitlines()[:MAX_PART_HEADERS]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    content, content_type = content.removesuffix(b"\r"), headers.get("content-type", "text/plain")
    if is_multipart(content_type) and depth > 0:
        return _split(content, content_type, depth - 1)
    disposition = headers.get("content-disposition", "").partition(";")[0].strip().lower()
    return [Part(content_type.partition(";")[0].strip().lower(), disposition, content)]
