"""Two ways lead into the plane: all legs' ordinary packets together, and each leg's receiver. They must not differ."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import GateSettings, RtpSettings
from bridge.media.incoming import Incoming
from bridge.media.outputs import Audio, Books, Failure
from bridge.media.plane import Plane
from bridge.model import AudioFormat
from bridge.rtp.frames import PayloadType
from bridge.rtp.packet import RtpPacket
from rtpcodecs import CODECS
from tests.media.sender import SOURCE, ByReceiver, audio, deliver
from tests.rtpcodecs.voice import vowel

CODED = ("PCMU", "PCMA", "G722", "OPUS", "L16", "GSM")
PACKETS = 30
PTIME = 0.02
FIRST_TYPE = 96
FATES = ("good",) * 8 + (
    "lost",
    "late",
    "twice",
    "swapped",
    "pause",
    "blank",
    "marked",
    "broken",
    "long",
    "other type",
    "extended",
)


def encoded(name: str, ptime_ms: int) -> list[bytes]:
    codec = CODECS[name]
    assert codec.make_encoder is not None
    encoder, n = codec.make_encoder(), codec.sample_rate_hz * ptime_ms // 1000
    said = vowel(codec.sample_rate_hz, PACKETS * ptime_ms / 1000)
    return [encoder.encode(said[at : at + n]) for at in range(0, len(said), n)]


PAYLOADS = {(name, ptime): encoded(name, ptime) for name in CODED for ptime in (20, 40)}


def sent(name: str, fates: list[str]) -> list[tuple[float, bytes]]:
    """(arrival, datagram) of a stream whose packets met these fates."""
    other = CODED[(CODED.index(name) + 1) % len(CODED)]
    out, clock, at, seq = [], 0, 100.0, 65530
    for n, fate in enumerate(fates):
        of = other if fate == "other type" else name
        codec, payload = CODECS[of], PAYLOADS[of, 40 if fate == "long" else 20][n]
        if fate == "pause":
            clock, at = clock + CODECS[name].clock_rate_hz, at + 1.0
        if fate == "blank":
            clock, at = clock + CODECS[name].clock_rate_hz // 50, at + PTIME
        packet = RtpPacket(FIRST_TYPE + CODED.index(of), seq, clock & 0xFFFFFFFF, 7, payload, fate == "marked")
        if fate == "broken":
            packet = packet._replace(payload=payload[:1] + b"\xff" * 3)
        if fate == "extended":
            packet = packet._replace(csrc=(1, 2))
        units = codec.duration(payload) * CODECS[name].clock_rate_hz // codec.clock_rate_hz
        clock, at, seq = clock + units, at + units / CODECS[name].clock_rate_hz, (seq + 1) & 0xFFFF
        delay = {"late": 0.5, "swapped": 0.03}.get(fate, 0.0)
        if fate != "lost":
            out += [(at + delay, packet.build())] * (2 if fate == "twice" else 1)
    return out


def heard(kind: type[Incoming], name: str, datagrams: list[tuple[float, bytes]]) -> tuple[list[Audio], Books]:
    codec = CODECS[name]
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    plane.incoming = kind(plane._legs, plane._make_room, rtp=RtpSettings())
    form = AudioFormat(codec.wire_encoding or "linear16", codec.sample_rate_hz)
    row = plane.open_leg(form, GateSettings(mode="off"), 99.9).row
    types = {FIRST_TYPE + n: PayloadType(CODECS[other]) for n, other in enumerate(CODED)}
    plane.incoming.receive_rtp(row, types, events={}, comfort=frozenset(), remote=SOURCE, srtp=None)
    out = deliver(plane, row, datagrams, until=max(at for at, _ in datagrams) + 1.0)
    assert not [output for output in out if isinstance(output, Failure)]
    out += plane.close_leg(row, datagrams[-1][0] + 1.0)
    return audio(out), plane.books(row)


@pytest.mark.parametrize("name", CODED)
@settings(max_examples=25, deadline=None)
@given(fates=st.lists(st.sampled_from(FATES), min_size=3, max_size=PACKETS))
def test_whichever_way_a_packet_takes_the_same_is_heard_at_the_same_time(name: str, fates: list[str]) -> None:
    datagrams = sent(name, ["good", *fates][:PACKETS])

    together, by_receiver = (heard(kind, name, datagrams) for kind in (Incoming, ByReceiver))

    assert b"".join(piece.data for piece in together[0]) == b"".join(piece.data for piece in by_receiver[0])
    assert [piece.start for piece in together[0]] == pytest.approx([piece.start for piece in by_receiver[0]], abs=1e-9)
    assert together[1] == by_receiver[1]


@pytest.mark.parametrize("name", CODED)
def test_an_undisturbed_stream_needs_its_receiver_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    codec = CODECS[name]
    form = AudioFormat(codec.wire_encoding or "linear16", codec.sample_rate_hz)
    track = plane.open_leg(form, GateSettings(mode="off"), 99.9)
    types = {FIRST_TYPE + CODED.index(name): PayloadType(codec)}
    plane.incoming.receive_rtp(track.row, types, events={}, comfort=frozenset(), remote=SOURCE, srtp=None)
    receiver, taken = track.receiver, []
    assert receiver is not None
    push = receiver.push
    monkeypatch.setattr(receiver, "push", lambda packet, at: taken.append(packet) or push(packet, at))

    deliver(plane, track.row, sent(name, ["good"] * PACKETS), until=101.0)

    assert len(taken) == 1
    assert plane.books(track.row).received_s == pytest.approx(PACKETS * PTIME)


def test_packets_on_their_way_while_the_type_changes_are_decoded_as_what_they_are() -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    row = plane.open_leg(AudioFormat("mulaw", 8000), GateSettings(mode="off"), 99.9).row
    old, new = {FIRST_TYPE + CODED.index(name): PayloadType(CODECS[name]) for name in ("PCMU", "PCMA")}.items()
    for kind in (new, old):  # PCMA was agreed, and then PCMU alone
        plane.incoming.receive_rtp(row, dict([kind]), events={}, comfort=frozenset(), remote=SOURCE, srtp=None)

    out = deliver(plane, row, sent("PCMA", ["good"] * 10), until=101.0)

    out += plane.close_leg(row, 101.0)
    said = CODECS["PCMU"].make_decoder("").decode(b"".join(piece.data for piece in audio(out))).astype(int)
    meant = CODECS["PCMA"].make_decoder("").decode(b"".join(PAYLOADS["PCMA", 20][:10])).astype(int)
    assert np.abs(said - meant).max() <= 512  # half of mu-law's widest step
