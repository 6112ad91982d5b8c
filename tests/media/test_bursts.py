"""More audio at once than the ring holds: what may be sent is sent before it is written over."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.config import GateSettings
from bridge.media.outputs import Gate, Speaking
from bridge.model import Cause
from rtpcodecs.g711 import linear_to_ulaw
from tests.gate.sounds import recording, silence
from tests.media.sender import Sender, arrivals, audio, deliver
from tests.media.test_plane import open_leg, payloads, plane_with_leg

WORDS = "agent-goodbye"


@pytest.mark.parametrize("units", [160, 480, 1600])
def test_a_burst_longer_than_the_ring_is_sent_byte_for_byte(units: int) -> None:
    plane, row = plane_with_leg()
    neighbour = open_leg(plane)
    sender, other = Sender(units=units), Sender(ssrc=8, units=units)
    chunks, sent, n = [], [], 0
    for k in range(5):  # the loop stood still: at each of its next ticks 25 packets wait
        for _ in range(25):
            n += 1
            at = 100.0 + n * units / 8000
            sent.append((at, sender.packet()))
            plane.incoming.push(arrivals([(row, sent[-1][1], at), (neighbour, other.packet(), at)]))
        chunks += audio(plane.tick(130.0 + 0.02 * k))
    for k in range(100):
        chunks += audio(plane.tick(130.1 + 0.02 * k))
    chunks += audio(plane.close_leg(row, 133.0))
    heard = b"".join(chunk.data for chunk in chunks if chunk.row == row)
    assert heard == payloads(sent)
    books = plane.books(row)
    assert books.received_s == pytest.approx(len(heard) / 8000 + sum(books.withheld_s.values()))


def test_a_hole_that_releases_more_than_the_ring_at_once_loses_nothing_of_it() -> None:
    plane, row = plane_with_leg()
    sender = Sender(units=480)
    sent = [(100.06, sender.packet()), (100.12, sender.packet())]
    chunks = []
    for at, data in sent:
        plane.incoming.push(arrivals([(row, data, at)]))
        chunks += audio(plane.tick(at))
    sender.packet()  # lost
    for n in range(120):  # 7.2 s within a moment, behind the hole
        sent.append((100.24 + n * 1e-4, sender.packet()))
        plane.incoming.push(arrivals([(row, sent[-1][1], sent[-1][0])]))
    for k in range(200):
        chunks += audio(plane.tick(100.26 + 0.02 * k))
    chunks += audio(plane.close_leg(row, 105.0))
    heard = b"".join(chunk.data for chunk in chunks)
    assert heard[: 2 * 480] == payloads(sent[:2])
    assert heard[3 * 480 :] == payloads(sent[2:])


@pytest.mark.parametrize("stall", [2.0, 4.0, 6.0])
def test_a_word_said_while_the_loop_stood_still_is_heard_and_the_silence_around_it_is_not_sent(stall: float) -> None:
    plane, row = plane_with_leg(GateSettings(mode="speech"))
    word = recording(WORDS)
    loud = np.flatnonzero(np.abs(word.astype(int)) > 500)
    word = word[loud[0] : loud[-1] + 1]
    sound = linear_to_ulaw(np.concatenate([silence(1.3), word, silence(8.0)])).tobytes()
    sender, chunks = Sender(), []
    pieces = [sound[at : at + 160] for at in range(0, len(sound) - 159, 160)]
    sent = [(100.02 + 0.02 * n, sender.packet(piece)) for n, piece in enumerate(pieces)]
    stands_still = range(50, 50 + round(stall * 50))
    for n, (at, data) in enumerate(sent):
        plane.incoming.push(arrivals([(row, data, at)]))
        if n not in stands_still:
            chunks += audio(plane.tick(at))
    chunks += audio(plane.close_leg(row, sent[-1][0]))
    heard = b"".join(chunk.data for chunk in chunks)
    spoken = linear_to_ulaw(word).tobytes()
    assert spoken in heard
    assert len(heard) < len(word) + 8000
    before = heard.index(spoken)  # all of one piece: an offset in it is one in time
    in_word = sound.index(spoken) / 8000
    assert chunks[0].start + before / 8000 == pytest.approx(100.0 + in_word, abs=1e-3)
    books = plane.books(row)
    assert books.sent_s == pytest.approx(len(heard) / 8000, abs=1e-6)


@pytest.mark.parametrize("stall", [0.3, 2.0])
def test_a_word_said_right_before_the_hang_up_is_sent_though_no_tick_has_heard_it(stall: float) -> None:
    plane, row = plane_with_leg(GateSettings(mode="speech"))
    word = recording(WORDS)
    loud = np.flatnonzero(np.abs(word.astype(int)) > 500)
    word = word[loud[0] : loud[0] + 2240]  # 0.28 s
    sound = linear_to_ulaw(np.concatenate([silence(3.0), word])).tobytes()
    sender, chunks = Sender(), []
    sent = [(100.02 + 0.02 * n, sender.packet(sound[n * 160 : n * 160 + 160])) for n in range(len(sound) // 160)]
    ends_at = sent[-1][0]
    for at, data in sent:
        plane.incoming.push(arrivals([(row, data, at)]))
        if at < ends_at - stall:
            chunks += audio(plane.tick(at))
    last = plane.close_leg(row, ends_at)
    voices = [output.is_speaking for output in last if isinstance(output, Speaking)]
    assert voices[:1] == [True]
    heard = b"".join(chunk.data for chunk in chunks + audio(last))
    assert heard.endswith(linear_to_ulaw(word).tobytes())
    assert len(heard) < len(word) + 8000
    books = plane.books(row)
    assert books.received_s == pytest.approx(books.sent_s + sum(books.withheld_s.values()))


@pytest.mark.parametrize("cause", [Cause.HOLD, Cause.MUTE])
def test_a_word_said_right_before_a_hold_or_mute_is_sent_though_it_was_not_heard_or_waits_for_a_packet(
    cause: Cause,
) -> None:
    plane, row = plane_with_leg(GateSettings(mode="speech"))
    word = recording(WORDS)
    loud = np.flatnonzero(np.abs(word.astype(int)) > 500)
    sound = linear_to_ulaw(np.concatenate([silence(3.0), word[loud[0] : loud[0] + 3200]])).tobytes()
    sender = Sender()
    sent = [(100.02 + 0.02 * n, sender.packet(sound[n * 160 : n * 160 + 160])) for n in range(len(sound) // 160)]
    lost = len(sent) - 4
    for n, (at, data) in enumerate(sent):
        if n != lost:
            plane.incoming.push(arrivals([(row, data, at)]))
        if at < 102.9:
            plane.tick(at)
    plane.signal(row, cause, True, sent[-1][0])
    heard = b"".join(chunk.data for chunk in audio(plane.tick(sent[-1][0] + 0.01)))
    assert heard.endswith(sound[-3 * 160 :])
    assert sound[3 * 8000 : lost * 160] in heard


def test_what_is_held_at_the_hang_up_is_not_heard_any_more() -> None:
    plane, row = plane_with_leg(GateSettings(mode="speech"))
    word = linear_to_ulaw(recording(WORDS)[:8000]).tobytes()
    plane.signal(row, Cause.HOLD, True, 100.0)
    sender = Sender()
    for n in range(len(word) // 160):
        plane.incoming.push(arrivals([(row, sender.packet(word[n * 160 : n * 160 + 160]), 100.02 + 0.02 * n)]))
    assert audio(plane.close_leg(row, 101.0)) == []


@pytest.mark.parametrize("stall", [0.8, 1.5, 2.5])
def test_a_loop_that_stood_still_takes_what_waits_for_no_absence(stall: float) -> None:
    plane, row = plane_with_leg(GateSettings(mode="speech"))
    word = recording(WORDS)
    loud = np.flatnonzero(np.abs(word.astype(int)) > 500)
    sound = linear_to_ulaw(np.concatenate([silence(1.0), word[loud[0] : loud[-1] + 1], silence(2.0)])).tobytes()
    sender = Sender()
    pieces = [sound[at : at + 160] for at in range(0, len(sound) - 159, 160)]
    sent = [(100.02 + 0.02 * n, sender.packet(piece)) for n, piece in enumerate(pieces)]
    gates, taken, now = [], 0, 100.0
    while now < sent[-1][0]:
        now += 0.02 if not 101.5 < now < 101.52 else stall
        for _ in range(25):  # what one beat reads of a socket; the rest waits in the kernel
            if taken == len(sent) or sent[taken][0] > now:
                break
            at, data = sent[taken]
            plane.incoming.push(arrivals([(row, data, at)]))
            taken += 1
        gates += [out for out in plane.tick(now) if isinstance(out, Gate)]
    assert [gate.change.reason for gate in gates if gate.change.reason == "no rtp"] == []
    assert [gate.at for gate in gates] == sorted(gate.at for gate in gates)


@pytest.mark.parametrize(("held_up", "apart"), [(0.7, 0.0), (2.4, 0.002)])
@pytest.mark.parametrize("mode", ["off", "speech"])
def test_a_stream_that_begins_with_a_burst_has_its_times_by_the_packets_behind_it(
    held_up: float, apart: float, mode: str
) -> None:
    plane, row = plane_with_leg(GateSettings(mode=mode))
    word = recording(WORDS)
    word = word[np.flatnonzero(np.abs(word.astype(int)) > 500)[0] :]
    sound = linear_to_ulaw(np.concatenate([silence(0.2), word])).tobytes()
    pieces = [sound[at : at + 160] for at in range(0, len(sound) - 159, 160)]
    sender = Sender()
    sent = [(max(100.02 + 0.02 * n, 100.0 + held_up + apart * n), sender.packet(p)) for n, p in enumerate(pieces)]
    chunks = audio(deliver(plane, row, sent, until=sent[-1][0] + 0.1)) + audio(plane.close_leg(row, sent[-1][0] + 0.1))
    assert linear_to_ulaw(word).tobytes()[:8000] in b"".join(chunk.data for chunk in chunks)
    for chunk in chunks:
        assert chunk.start == pytest.approx(100.0 + sound.index(chunk.data) / 8000, abs=1e-3)


@pytest.mark.parametrize("is_a_burst", [False, True])
def test_a_clock_that_leaps_back_by_hours_moves_no_audio_by_hours_even_at_the_very_end(is_a_burst: bool) -> None:
    plane, row = plane_with_leg()
    sender = Sender()
    sent = [(100.02 + 0.02 * n, sender.packet()) for n in range(50)]
    sender.skip(-5 * 3600.0)  # what a gateway that changes its source does, the SSRC and the numbers going on
    sent += [(101.02, sender.packet()) for _ in range(5)] if is_a_burst else [(101.02, sender.packet())]
    out = deliver(plane, row, sent, until=101.03) + plane.close_leg(row, 101.03)
    assert b"".join(chunk.data for chunk in audio(out)) == payloads(sent)
    for chunk in audio(out):
        assert 100.0 - 1e-6 <= chunk.start <= 101.1
