"""Bodies of several parts (RFC 2046, RFC 5621)."""

from __future__ import annotations

import pytest

from bridge.sip.multipart import MAX_PARTS, Part, split

SDP = b"v=0\r\nm=audio 4000 RTP/AVP 0\r\n"
PLAIN = (
    b"--in\r\nContent-Type: text/plain\r\n\r\nhi\r\n--in\r\nContent-Type: application/sdp\r\n\r\n" + SDP + b"\r\n--in--"
)


def wrapped(content: bytes, kind: str, boundary: str) -> bytes:
    marker = boundary.encode()
    return b"--%s\r\nContent-Type: %s\r\n\r\n%s\r\n--%s--\r\n" % (marker, kind.encode(), content, marker)


@pytest.mark.parametrize("subtype", ["mixed", "related", "alternative", "X-Whatever"])
def test_every_subtype_is_read(subtype: str) -> None:
    assert split(PLAIN, f"Multipart/{subtype};boundary=in") == [
        Part("text/plain", "", b"hi"),
        Part("application/sdp", "", SDP),
    ]


def test_parts_within_parts_are_found_and_too_deep_ones_are_left() -> None:
    body, kind = PLAIN, "multipart/related;boundary=in"
    for n in range(3):
        body, kind = wrapped(body, kind, f"out{n}"), f'multipart/mixed;boundary="out{n}"'
        assert [part.content_type for part in split(body, kind)] == ["text/plain", "application/sdp"]
    body, kind = wrapped(body, kind, "one"), "multipart/mixed;boundary=one"
    assert [part.content_type for part in split(body, kind)] == ["multipart/related"]


def test_no_nesting_makes_more_parts_than_are_allowed() -> None:
    inner = b"".join(b"--b\r\nContent-Type: x/y\r\n\r\n.\r\n" for _ in range(50))
    outer = b"".join(b"--a\r\nContent-Type: multipart/mixed;boundary=b\r\n\r\n" + inner for _ in range(50))
    assert len(split(outer, "multipart/mixed;boundary=a")) == MAX_PARTS
