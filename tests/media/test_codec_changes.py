"""A sender may go from one agreed payload type to another at any packet (RFC 3264 section 6.1)."""

from __future__ import annotations

import pytest

from bridge.config import GateSettings, RtpSettings
from bridge.media.outputs import Failure, TelephoneEvent
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
    plane.incoming.receive_rtp(row, TYPES, events={}, comfort=frozenset(), remote=None, srtp=None)
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


@pytest.mark.parametrize("is_after_audio", [False, True])
def test_key_presses_count_the_clock_that_was_agreed_for_them_not_that_of_the_audio(is_after_audio: bool) -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    row = plane.open_leg(AudioFormat("linear16", 16000), GateSettings(mode="off"), 0.0).row
    types, events = {96: PayloadType(CODECS["OPUS"])}, {101: 48000, 102: 8000}
    plane.incoming.receive_rtp(row, types, events=events, comfort=frozenset(), remote=None, srtp=None)
    sender = Sender(payload_type=96, units=960)
    sent = [(10.02, sender.packet(b"\xf8\xff\xfe"))] if is_after_audio else []
    for n, sender.payload_type in enumerate([101, 102]):
        sent.append((10.04 + 0.02 * n, sender.packet(bytes(4))))
    out = deliver(plane, row, sent, until=10.2)
    assert [output.clock_hz for output in out if isinstance(output, TelephoneEvent)] == [48000, 8000]


def test_a_number_that_meant_audio_and_now_means_key_presses_is_not_heard_as_audio() -> None:
    """RFC 3264 section 8.3.2 forbids it; who maps payload types anew with each offer does it all the same."""
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    row = plane.open_leg(AudioFormat("mulaw", 8000), GateSettings(mode="off"), 0.0, told=[]).row
    for types, event in (({0: TYPES[0], 101: TYPES[8]}, 96), ({0: TYPES[0]}, 101)):
        plane.incoming.receive_rtp(row, types, events={event: 8000}, comfort=frozenset(), remote=None, srtp=None)
    sender, sent = Sender(), []
    for n in range(50):
        sender.payload_type, sender.units = (101, 4) if 20 <= n < 30 else (0, 160)
        sent.append((10.0 + (n + 1) * 0.02, sender.packet()))
        sender.timestamp = 0xFFFF_F000 + (n + 1) * 160 & 0xFFFF_FFFF
    out = deliver(plane, row, sent, until=11.3)
    assert sum(isinstance(output, TelephoneEvent) for output in out) == 10
    plane.close_leg(row, 11.4)
    assert plane.books(row).received_s == pytest.approx(40 * 0.02)
