from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.dtmf import DIGITS, LONGEST_MS, pressed
from bridge.sip.message import Request, parse


def info(body: bytes, kind: str = "application/dtmf-relay") -> Request:
    head = (
        "INFO sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@x>;tag=1\r\n"
        "To: <sip:b@x>;tag=2\r\nCall-ID: 1\r\nCSeq: 1 INFO\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    message = parse(head.encode() + body)
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("body", "kind", "key"),
    [
        (b"Signal=5\r\nDuration=160\r\n", "application/dtmf-relay", ("5", 160)),
        (b"Signal= 5\r\nDuration= 160 ", "Application/DTMF-Relay;x=1", ("5", 160)),
        (b"signal=*\nduration=90", "application/dtmf-relay", ("*", 90)),
        (b"Signal=11\r\n", "application/dtmf-relay", ("#", 250)),
        (b"Signal=d\r\nDuration=-1", "application/dtmf-relay", ("D", 250)),
        (b"Signal=1\r\nDuration=99999\r\n", "application/dtmf-relay", ("1", LONGEST_MS)),
        (b"9", "application/dtmf", ("9", 250)),
        (b"#\r\n", "application/dtmf", ("#", 250)),
        (b"Signal=!\r\nDuration=160\r\n", "application/dtmf-relay", None),
        (b"Signal=\r\n", "application/dtmf-relay", None),
        (b"Duration=160\r\n", "application/dtmf-relay", None),
        (b"5", "text/plain", None),
        (b"", "application/dtmf", None),
    ],
)
def test_both_spellings_are_read(body: bytes, kind: str, key: tuple[str, int] | None) -> None:
    assert pressed(info(body, kind)) == key


@given(st.binary(max_size=300))
def test_any_body_is_a_key_or_none(body: bytes) -> None:
    key = pressed(info(body))
    assert key is None or (key[0] in DIGITS and 0 <= key[1] <= LONGEST_MS)
