"""A sender may go from one agreed payload type to another at any packet (RFC 3264 section 6.1)."""

from __future__ import annotations

import pytest

from bridge.config import GateSettings, RtpSettings
from bridge.media.outputs import Failure
from bridge.media.plane import Plane
from bridge.model import AudioFormat
from bridge.rtp.frames import PayloadType
from rtpcodecs import CODECS
from tests.media.sender import Sender, audio, deliver

TYPES = {0: PayloadType(CODECS["PCMU"]), 8: PayloadType(CODECS["PCMA"]), 3: PayloadType(CODECS["GSM"])}


@pytest.mark.parametrize("first", [0, 8])
def test_the_other_law_in_mid_stream_is_heard_as_the_first_was(first: int) -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    law = AudioFormat("mulaw" if first == 0 else "alaw", 8000)
    row = plane.open_leg(law, GateSettings(mode="off"), 0.0, told=[]).row
    plane.incoming.receive_rtp(row, TYPES, event=None, comfort=frozenset(), remote=None, srtp=None)
    sender, sent = Sender(), []
    for n in range(100):
        sender.payload_type = first if n // 10 % 2 == 0 else 8 - first
        sent.append((10.0 + (n + 1) * 0.02, sender.packet()))
    out = deliver(plane, row, sent, until=12.3)
    assert not [output for output in out if isinstance(output, Failure)]
    out += plane.close_leg(row, 12.4)
    books = plane.books(row)
    assert books.received_s == pytest.approx(2.0)
    assert sum(len(piece.data) for piece in audio(out)) >= 15_200
    assert books.malformed == 0


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_every_codec_can_be_looked_up_by(codec: object) -> None:
    assert {codec: 1}[codec] == 1
