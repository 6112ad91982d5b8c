"""The plane: from datagrams to audio with the right bytes at the right times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import GateSettings, RtpSettings
from bridge.gate.ears import FRAME, Heard
from bridge.gate.gate import Change
from bridge.media.incoming import Incoming
from bridge.media.outputs import Gate, Stirring
from bridge.media.plane import Plane
from bridge.model import AudioFormat, Cause
from bridge.rtp.frames import PayloadType
from bridge.rtp.packet import parse_rtp
from bridge.rtp.srtp import SrtpReceiver, SrtpSender, fresh_keys
from rtpcodecs import CODECS
from tests.media.sender import SOURCE, ByReceiver, Sender, arrivals, audio, deliver

MULAW = AudioFormat("mulaw", 8000)
SEND_ALL = GateSettings(mode="off")


def plane_with_leg(gate: GateSettings = SEND_ALL, *, capacity: int = 4) -> tuple[Plane, int]:
    plane = Plane(capacity=capacity, chunk_ms=100, rtp=RtpSettings())
    row = open_leg(plane, gate)
    return plane, row


def open_leg(plane: Plane, gate: GateSettings = SEND_ALL) -> int:
    row = plane.open_leg(MULAW, gate, 99.9).row
    types = {0: PayloadType(CODECS["PCMU"])}
    plane.incoming.receive_rtp(row, types, events={101: 8000}, comfort=frozenset({13}), remote=SOURCE, srtp=None)
    return row


def stream(sender: Sender, n: int, *, start: float = 100.0, delay: float = 0.0) -> list[tuple[float, bytes]]:
    return [(start + 0.02 * (k + 1) + delay, sender.packet()) for k in range(n)]


def payloads(sent: list[tuple[float, bytes]]) -> bytes:
    return b"".join(parse_rtp(datagram).payload for _, datagram in sent)


def test_what_is_sent_is_the_very_bytes_of_the_payloads_at_their_capture_time() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 100)
    chunks = audio(deliver(plane, row, sent, until=102.3))
    chunks += audio(plane.close_leg(row, 102.3))
    assert b"".join(chunk.data for chunk in chunks) == payloads(sent)
    position = 0
    for chunk in chunks:
        assert chunk.start == pytest.approx(100.0 + position / 8000, abs=1e-6)
        position += len(chunk.data)


def test_a_thousandth_leg_does_not_change_what_the_first_one_sends() -> None:
    plane = Plane(capacity=40, chunk_ms=100, rtp=RtpSettings())
    rows = [open_leg(plane) for _ in range(40)]
    senders = [Sender(ssrc=n, rng=np.random.default_rng(n)) for n in range(40)]
    streams = [stream(sender, 60, delay=0.001 * n) for n, sender in enumerate(senders)]
    heard: dict[int, bytes] = dict.fromkeys(rows, b"")
    for k in range(62):
        now = 100.0 + 0.02 * (k + 1) + 0.0405
        due = [(rows[n], entries[k][1], entries[k][0]) for n, entries in enumerate(streams) if k < 60]
        if due:
            plane.incoming.push(arrivals(due))
        for chunk in audio(plane.tick(now)):
            heard[chunk.row] += chunk.data
    for row in rows:
        for chunk in audio(plane.close_leg(row, 102.0)):
            heard[chunk.row] += chunk.data
    assert [heard[row] for row in rows] == [payloads(entries) for entries in streams]


def test_a_gap_in_timestamps_alone_is_silence_that_was_not_sent() -> None:
    plane, row = plane_with_leg()
    sender = Sender()
    before = stream(sender, 25)
    sender.skip(3.0)
    after = stream(sender, 25, start=103.5)
    chunks = audio(deliver(plane, row, before + after, until=104.3)) + audio(plane.close_leg(row, 104.3))
    assert b"".join(chunk.data for chunk in chunks) == payloads(before + after)
    resumed = next(chunk for chunk in chunks if chunk.start > 101)
    assert resumed.start == pytest.approx(103.5, abs=0.001)
    assert plane.books(row).packets == {"received": 50, "lost": 0, "late": 0, "duplicate": 0}
    assert plane.books(row).received_s == pytest.approx(1.0)


def test_a_clock_that_stood_still_during_hold_is_tied_to_real_time_again() -> None:
    plane, row = plane_with_leg()
    sender = Sender()
    before = stream(sender, 25)
    after = stream(sender, 25, start=105.0)  # timestamp and sequence go on as if nothing had happened
    chunks = audio(deliver(plane, row, before + after, until=105.9)) + audio(plane.close_leg(row, 105.9))
    assert b"".join(chunk.data for chunk in chunks) == payloads(before + after)
    resumed = next(chunk for chunk in chunks if chunk.start > 101)
    assert resumed.start == pytest.approx(105.0, abs=0.001)


def test_a_burst_after_a_network_stall_keeps_the_time_it_was_captured_at() -> None:
    plane, row = plane_with_leg()
    sender = Sender()
    sent = stream(sender, 25)
    stalled = [(101.1 + 0.0002 * k, sender.packet()) for k in range(30)]  # 0.6 s of audio in 6 ms
    rest = stream(sender, 25, start=101.1)
    chunks = audio(deliver(plane, row, sent + stalled + rest, until=101.8)) + audio(plane.close_leg(row, 101.8))
    position = 0
    for chunk in chunks:
        assert chunk.start == pytest.approx(100.0 + position / 8000, abs=0.001)
        position += len(chunk.data)
    assert position == 80 * 160


def test_loss_is_concealed_and_leaves_every_later_sample_at_its_time() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 100)
    lost = {10, 40, 41, 42, 77}
    kept = [entry for n, entry in enumerate(sent) if n not in lost]
    chunks = audio(deliver(plane, row, kept, until=102.3)) + audio(plane.close_leg(row, 102.3))
    data, truth = b"".join(chunk.data for chunk in chunks), payloads(sent)
    assert len(data) == len(truth)
    for n in set(range(100)) - lost:
        assert data[n * 160 : n * 160 + 160] == truth[n * 160 : n * 160 + 160]
    books = plane.books(row)
    assert books.packets == {"received": 95, "lost": 5, "late": 0, "duplicate": 0}
    assert books.concealed_s == pytest.approx(0.1)
    assert chunks[-1].start == pytest.approx(100.0 + (len(data) - len(chunks[-1].data)) / 8000, abs=0.001)


def test_reordered_packets_come_out_in_order_and_doubles_are_counted_once() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 50)
    mixed = [(at + (0.045 if n % 7 == 3 else 0.0), datagram) for n, (at, datagram) in enumerate(sent)]
    mixed += [(sent[20][0] + 0.001, sent[20][1]), (sent[21][0] + 0.3, sent[21][1])]
    chunks = audio(deliver(plane, row, mixed, until=101.5)) + audio(plane.close_leg(row, 101.5))
    assert b"".join(chunk.data for chunk in chunks) == payloads(sent)
    assert plane.books(row).packets == {"received": 50, "lost": 0, "late": 0, "duplicate": 2}


def test_a_packet_that_comes_after_it_was_given_up_is_late() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 50)
    late = [(at + (0.4 if n == 20 else 0.0), datagram) for n, (at, datagram) in enumerate(sent)]
    deliver(plane, row, late, until=101.5)
    assert plane.books(row).packets == {"received": 49, "lost": 1, "late": 1, "duplicate": 0}


@pytest.mark.parametrize("seed", range(4))
def test_jitter_of_30_ms_with_loss_moves_no_sample_by_more_than_20_ms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plane, row = plane_with_leg()
    sent = stream(Sender(), 500)
    path = [(at + rng.uniform(0, 0.03), datagram) for at, datagram in sent if rng.random() > 0.05]
    chunks = audio(deliver(plane, row, path, until=110.3)) + audio(plane.close_leg(row, 110.3))
    errors, position = [], (int(parse_rtp(path[0][1]).sequence) - 65500) * 160
    for chunk in chunks:
        errors.append(chunk.start - (100.0 + position / 8000))
        position += len(chunk.data)
    assert max(errors[5:]) < 0.010
    assert min(errors) > -0.001
    assert max(errors) < 0.030


def test_a_sender_whose_clock_runs_fast_stays_in_call_time_over_minutes() -> None:
    plane, row = plane_with_leg()
    sender = Sender()
    drift = 1 - 150e-6
    sent = [(100.0 + 0.02 * drift * (k + 1), sender.packet()) for k in range(6000)]
    chunks = audio(deliver(plane, row, sent, until=220.2))
    last = chunks[-1]
    sent_before = sum(len(chunk.data) for chunk in chunks[:-1])
    assert last.start == pytest.approx(100.0 + sent_before / 8000 * drift, abs=0.005)


def test_another_ssrc_goes_on_in_call_time() -> None:
    plane, row = plane_with_leg()
    before = stream(Sender(), 25)
    other = Sender(ssrc=99, seq=4, timestamp=12345, rng=np.random.default_rng(5))
    after = stream(other, 25, start=100.7)
    chunks = audio(deliver(plane, row, before + after, until=101.5)) + audio(plane.close_leg(row, 101.5))
    assert b"".join(chunk.data for chunk in chunks) == payloads(before + after)
    assert next(chunk for chunk in chunks if chunk.start > 100.6).start == pytest.approx(100.7, abs=0.001)


def test_a_stranger_cannot_take_over_a_running_stream() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 50)
    stranger = Sender(ssrc=666, rng=np.random.default_rng(6))
    for n, (at, datagram) in enumerate(sent):
        plane.incoming.push(arrivals([(row, stranger.packet(), at - 0.001)], ("203.0.113.9", 1)) if n else arrivals([]))
        plane.incoming.push(arrivals([(row, datagram, at)]))
    chunks = audio(plane.tick(101.1)) + audio(plane.close_leg(row, 101.1))
    assert b"".join(chunk.data for chunk in chunks) == payloads(sent)
    assert plane.books(row).foreign == 49


def test_another_port_of_the_same_host_cannot_take_over_a_stream_that_has_long_been_running() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 200)
    neighbour = Sender(ssrc=666, rng=np.random.default_rng(6))
    for at, datagram in sent:
        plane.incoming.push(arrivals([(row, datagram, at)]))
        if at > 103.0:  # by far longer than the pause after which another port is believed
            plane.incoming.push(arrivals([(row, neighbour.packet(), at + 0.001)], (SOURCE[0], SOURCE[1] + 2)))
        plane.tick(at + 0.005)
    assert plane.books(row).foreign == 50
    assert plane.books(row).received_s == pytest.approx(4.0)


def test_rtcp_of_a_stranger_is_not_believed() -> None:
    plane, row = plane_with_leg()
    reports: list[tuple[str, int]] = []
    plane.incoming.on_rtcp = lambda _, __, source, ___: reports.append(source)
    plane.incoming.push(arrivals([(row, Sender().packet(), 100.02)]))
    report = bytes((0x80, 201, 0, 1, 0, 0, 0, 1))
    for source in (("203.0.113.9", 1), (SOURCE[0], SOURCE[1] + 1)):
        plane.incoming.push(arrivals([(row, report, 100.03)], source))
    assert reports == [(SOURCE[0], SOURCE[1] + 1)]
    assert plane.books(row).foreign == 1


def test_hold_by_signalling_withholds_from_the_next_sample_and_resume_sends_no_pre_roll_of_it() -> None:
    plane, row = plane_with_leg(GateSettings(mode="hold"))
    sender = Sender()
    before, during, after = stream(sender, 50), stream(sender, 50, start=101.0), stream(sender, 50, start=102.0)
    out = deliver(plane, row, before, until=101.0)
    plane.signal(row, Cause.HOLD, True, 101.0)
    out += deliver(plane, row, during, until=102.0)
    plane.signal(row, Cause.HOLD, False, 102.0)
    out += deliver(plane, row, after, until=103.2) + plane.close_leg(row, 103.2)
    assert b"".join(chunk.data for chunk in audio(out)) == payloads(before + after)
    causes = [(output.change.cause, round(output.at, 2)) for output in out if isinstance(output, Gate)][1:]
    assert causes[:2] == [(Cause.HOLD, 101.0), (None, 102.0)]
    books = plane.books(row)
    assert books.withheld_s["hold"] == pytest.approx(1.0)
    assert books.received_s == pytest.approx(books.sent_s + sum(books.withheld_s.values()), abs=1e-9)


def test_a_hold_without_rtp_ends_when_it_is_signalled_to_end() -> None:
    plane, row = plane_with_leg(GateSettings(mode="hold"))
    out = deliver(plane, row, stream(Sender(), 50), until=101.0)
    plane.signal(row, Cause.HOLD, True, 101.0)
    out += deliver(plane, row, [], until=105.0)
    plane.signal(row, Cause.HOLD, False, 105.0)
    out += plane.tick(105.02)
    moved = [(output.change.cause, round(output.at, 1)) for output in out if isinstance(output, Gate)]
    assert moved == [(None, 99.9), (Cause.HOLD, 101.0), (None, 105.0)]


def test_comfort_noise_counts_as_received_silence() -> None:
    plane, row = plane_with_leg(GateSettings(mode="speech"))
    sender = Sender(payload_type=0)
    sent = stream(sender, 25)
    sender.payload_type, sender.units = 13, 1
    noise = [(100.52, sender.packet())]
    deliver(plane, row, sent + noise, until=103.5)
    books = plane.books(row)
    assert books.received_s == pytest.approx(3.4, abs=0.15)
    assert books.withheld_s["mute"] > 1.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_junk_on_the_wire_never_raises(datagrams: list[bytes]) -> None:
    plane, row = plane_with_leg()
    for n, datagram in enumerate(datagrams):
        plane.incoming.push(arrivals([(row, datagram, 100.0 + n * 0.02)]))
        plane.tick(100.0 + n * 0.02)
    assert plane.books(row).received_s >= 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.1), st.floats(0, 0.08))
def test_the_batch_path_and_the_packet_path_agree(seed: int, loss: float, jitter: float) -> None:
    rng = np.random.default_rng(seed)
    sent = stream(Sender(), 120)
    path = [(at + rng.uniform(0, jitter), datagram) for at, datagram in sent if rng.random() >= loss]
    results = []
    for kind in (Incoming, ByReceiver):
        plane = Plane(capacity=4, chunk_ms=100, rtp=RtpSettings())
        plane.incoming = kind(plane._legs, plane._make_room, rtp=RtpSettings())
        row = open_leg(plane)
        out = deliver(plane, row, path, until=103.0) + plane.close_leg(row, 103.0)
        results.append(([(chunk.data, round(chunk.start, 9)) for chunk in audio(out)], plane.books(row)))
    assert results[0] == results[1]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.1), st.floats(0, 0.08))
def test_srtp_gives_what_plain_rtp_does_and_forged_packets_are_dropped(seed: int, loss: float, jitter: float) -> None:
    keys = fresh_keys("AES_CM_128_HMAC_SHA1_80", lambda n: bytes(n))
    results = []
    for is_secured in (True, False):
        rng, sender = np.random.default_rng(seed), SrtpSender(keys)
        sent = [(at, sender.protect(data) if is_secured else data) for at, data in stream(Sender(seq=1), 120)]
        path = [(at + rng.uniform(0, jitter), datagram) for at, datagram in sent if rng.random() >= loss]
        plane, row = plane_with_leg()
        if is_secured:
            types = {0: PayloadType(CODECS["PCMU"])}
            plane.incoming.receive_rtp(
                row, types, events={101: 8000}, comfort=frozenset({13}), remote=SOURCE, srtp=SrtpReceiver(keys)
            )
            path += [(path[60][0] + 0.001, bytes([*path[61][1][:-1], path[61][1][-1] ^ 1]))]
        out = deliver(plane, row, path, until=103.0) + plane.close_leg(row, 103.0)
        books = plane.books(row)
        assert books.malformed == is_secured
        results.append(([(chunk.data, round(chunk.start, 9)) for chunk in audio(out)], replace(books, malformed=0)))
    assert results[0] == results[1]


def test_a_cause_heard_late_withholds_nothing_of_what_was_sent_already() -> None:
    plane = Plane(capacity=2, chunk_ms=100, rtp=RtpSettings())
    track = plane.open_leg(AudioFormat("mulaw", 8000), GateSettings(mode="off"), 0.0)
    plane.incoming.receive_rtp(
        track.row, {0: PayloadType(CODECS["PCMU"])}, events={}, comfort=frozenset(), remote=None, srtp=None
    )
    sender = Sender()
    out = deliver(plane, track.row, [(10.0 + (n + 1) * 0.02, sender.packet()) for n in range(50)], until=11.1)
    heard = int(plane.lanes.position[track.row]) - 2400
    for cause in (Cause.SILENCE, Cause.MUSIC, Cause.MUTE):
        plane._outgoing.apply(Change(track.row, False, cause, heard, "late", 0), 11.1)
    out += plane.tick(11.12)
    books = plane.books(track.row)
    handed = sum(len(piece.data) for piece in audio(out)) / 8000
    assert books.received_s == pytest.approx(handed + sum(books.withheld_s.values()))


def test_what_stirs_after_speech_is_put_out_for_its_leg() -> None:
    plane, row = plane_with_leg()
    for n, speech in enumerate([0.9, 0.9, 0.9, *[0.0] * 20, 0.2, 0.2], 1):
        one = (np.array([v]) for v in (row, speech, -30.0, False, False, False, False, False, False))
        plane.gates.hear(Heard(*one, {}), np.array([n * FRAME]))
    outputs = deliver(plane, row, stream(Sender(), 5), until=100.3)
    assert outputs.count(Stirring(row)) >= 2
