"""A bug in what handles one leg ends that leg; the pass and the tick go on for all others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.config import GateSettings, RtpSettings
from bridge.gate.ears import Ears, Heard
from bridge.media.outputs import Failure
from bridge.media.plane import Plane
from bridge.media.track import Track
from bridge.model import Cause
from bridge.rtp.frames import PayloadType
from rtpcodecs import CODECS
from rtpcodecs.contract import Samples
from tests.media.sender import SOURCE, Sender, arrivals, audio
from tests.media.test_plane import MULAW, open_leg, payloads


class Broken:
    """A decoder with a bug."""

    def decode(self, payload: bytes) -> Samples:
        raise RuntimeError("a bug")


def test_a_decoder_with_a_bug_costs_its_own_leg_and_no_other() -> None:
    plane = Plane(capacity=4, chunk_ms=100, rtp=RtpSettings())
    before = open_leg(plane)
    bad = plane.open_leg(MULAW, GateSettings(mode="off"), 99.9).row
    codec = replace(CODECS["GSM"], make_decoder=lambda fmtp: Broken(), duration=lambda payload: 160)
    types = {3: PayloadType(codec)}
    plane.incoming.receive_rtp(bad, types, events={}, comfort=frozenset(), remote=SOURCE, srtp=None)
    after = open_leg(plane)
    senders = {row: Sender(ssrc=row, rng=np.random.default_rng(row)) for row in (before, after)}
    senders[bad] = Sender(ssrc=9, payload_type=3)
    sent: dict[int, list[tuple[float, bytes]]] = {row: [] for row in senders}
    outputs = []
    for k in range(50):
        at = 100.02 + 0.02 * k
        batch = [(row, senders[row].packet(), at) for row in (before, bad, after)]
        for row, datagram, _ in batch:
            sent[row].append((at, datagram))
        plane.incoming.push(arrivals(batch))
        outputs += plane.tick(at)
    failures = [output for output in outputs if isinstance(output, Failure)]
    assert [failure.row for failure in failures] == [bad], "told once, then left alone"
    assert isinstance(failures[0].error, RuntimeError)
    for row in (before, after):
        heard = b"".join(chunk.data for chunk in audio(outputs) if chunk.row == row)
        heard += b"".join(chunk.data for chunk in audio(plane.close_leg(row, 101.1)))
        assert heard == payloads(sent[row])


class BrokenTrack(Track):
    """Has a bug where its audio is read."""

    def read(self, start: int, end: int) -> bytes:
        raise RuntimeError("a bug")


class BrokenEars(Ears):
    """Have a bug that one row meets."""

    row = -1

    def hear(self, rows: NDArray[np.int64], frames: NDArray[np.int16]) -> Heard:
        if self.row in rows:
            raise RuntimeError("a bug")
        return super().hear(rows, frames)


@pytest.mark.parametrize("where", ["sending", "hearing", "telling"])
def test_a_bug_that_one_leg_meets_when_a_burst_makes_room_for_itself_costs_the_others_nothing(where: str) -> None:
    plane = Plane(capacity=4, chunk_ms=100, rtp=RtpSettings())
    ears = plane._ears = BrokenEars(4, plane._hearing.earlier)
    rows = [open_leg(plane) for _ in range(3)]
    bad = rows[1]
    if where == "hearing":
        ears.row = bad
    else:
        plane._legs.track(bad).__class__ = BrokenTrack
    senders = {row: Sender(ssrc=row, rng=np.random.default_rng(row)) for row in rows}
    sent: dict[int, list[tuple[float, bytes]]] = {row: [] for row in rows}
    outputs = plane.tick(100.0)
    for k in range(200):  # 4 s without a tick
        at = 100.02 + 0.02 * k
        batch = [(row, senders[row].packet(), at) for row in rows]
        for row, datagram, _ in batch:
            sent[row].append((at, datagram))
        if where == "telling" and k == 100:
            plane.signal(bad, Cause.HOLD, True, at)
            plane.adjust(bad, GateSettings(mode="hold"), at)
        plane.incoming.push(arrivals(batch))
    for k in range(20):
        outputs += plane.tick(104.02 + 0.02 * k)
    assert {output.row for output in outputs if isinstance(output, Failure)} == {bad}
    for row in (rows[0], rows[2]):
        heard = b"".join(chunk.data for chunk in audio(outputs) if chunk.row == row)
        heard += b"".join(chunk.data for chunk in audio(plane.close_leg(row, 104.5)))
        assert heard == payloads(sent[row])


def test_packets_on_their_way_in_the_codec_before_a_re_offer_are_still_heard() -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    row = open_leg(plane)
    sender = Sender()
    sent = [(100.02 + 0.02 * k, sender.packet()) for k in range(20)]
    for n, (at, datagram) in enumerate(sent):
        if n == 10:
            types = {8: PayloadType(CODECS["PCMA"])}
            plane.incoming.receive_rtp(row, types, events={}, comfort=frozenset(), remote=SOURCE, srtp=None)
        plane.incoming.push(arrivals([(row, datagram, at)]))
    chunks = audio(plane.tick(100.5)) + audio(plane.close_leg(row, 100.5))
    assert b"".join(chunk.data for chunk in chunks) == payloads(sent)
    assert plane.books(row).malformed == 0
