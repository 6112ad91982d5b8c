from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.caller.rtp_schedule import Faults, Mute, Packet, RtpStream, Samples, StreamFormat


def as_bytes(samples: Samples) -> bytes:
    """An encoder that can be read back: 16 bit samples as they are."""
    return samples.tobytes()


def speech(seconds: float, rate_hz: int = 8000) -> Samples:
    """Every sample differs from its neighbours, so that a shifted frame is seen."""
    return (np.arange(round(seconds * rate_hz)) % 30000 + 1).astype(np.int16)


def everything(stream: RtpStream) -> list[Packet]:
    packets: list[Packet] = []
    while (due := stream.deadline()) is not None:
        packets += stream.take_due(due)
    return packets


def payload(packet: Packet) -> Samples:
    return np.frombuffer(packet.data[12:], np.int16)


def test_a_packet_leaves_when_its_last_sample_has_been_said() -> None:
    stream = RtpStream(speech(1.0), as_bytes, StreamFormat())
    assert stream.take_due(0.019) == []
    (first,) = stream.take_due(0.020)
    assert (first.start, first.due) == (0.0, 0.02)
    assert stream.deadline() == pytest.approx(0.04)


def test_a_late_caller_gets_all_packets_that_were_due() -> None:
    stream = RtpStream(speech(1.0), as_bytes, StreamFormat())
    assert len(stream.take_due(0.5)) == 25


def test_the_audio_arrives_whole_and_the_last_frame_is_filled_with_silence() -> None:
    samples = speech(0.95)
    packets = everything(RtpStream(samples[:-10], as_bytes, StreamFormat(ptime_ms=30)))
    sent = np.concatenate([payload(p) for p in packets])
    assert np.array_equal(sent[: len(samples) - 10], samples[:-10])
    assert not sent[len(samples) - 10 :].any()


@pytest.mark.parametrize(
    ("format_", "units"),
    [
        (StreamFormat(ptime_ms=10), 80),
        (StreamFormat(ptime_ms=60), 480),
        (StreamFormat(payload_type=9, sample_rate_hz=16000), 160),
        (StreamFormat(payload_type=111, clock_rate_hz=48000, sample_rate_hz=16000), 960),
    ],
)
def test_timestamps_count_the_clock_rate_and_not_the_sample_rate(format_: StreamFormat, units: int) -> None:
    packets = everything(RtpStream(speech(0.6, format_.sample_rate_hz), as_bytes, format_))
    steps = {(b.timestamp - a.timestamp) % 2**32 for a, b in itertools.pairwise(packets)}
    assert steps == {units}
    assert len(payload(packets[0])) == format_.sample_rate_hz * format_.ptime_ms // 1000


def test_the_header_says_what_the_packet_says() -> None:
    packet = everything(RtpStream(speech(0.1), as_bytes, StreamFormat(payload_type=8)))[1]
    first, second, sequence, timestamp, ssrc = struct.unpack_from("!BBHII", packet.data)
    assert (first, second) == (0x80, 8)
    assert (sequence, timestamp, ssrc) == (packet.sequence, packet.timestamp, packet.ssrc)


def test_a_talkspurt_begins_with_the_marker_bit() -> None:
    packets = everything(RtpStream(speech(2.0), as_bytes, StreamFormat(), mutes=(Mute(0.5, 1.0, "stop"),)))
    assert [round(p.start, 2) for p in packets if p.data[1] & 0x80] == [0.0, 1.0]


def test_a_mute_sends_digital_silence_in_place_of_what_was_said() -> None:
    samples = speech(2.0)
    packets = everything(RtpStream(samples, as_bytes, StreamFormat(), mutes=(Mute(0.5, 1.0),)))
    assert len(packets) == 100
    assert all((not payload(p).any()) == (0.5 <= p.start < 0.999) for p in packets)
    assert np.array_equal(payload(packets[50]), samples[8000:8160])


def test_a_mute_by_dtx_keeps_the_sequence_and_lets_the_timestamp_jump() -> None:
    packets = everything(RtpStream(speech(2.0), as_bytes, StreamFormat(), mutes=(Mute(0.5, 1.0, "stop"),)))
    before, after = packets[24], packets[25]
    assert (before.start, after.start) == (pytest.approx(0.48), pytest.approx(1.0))
    assert (after.sequence - before.sequence) % 65536 == 1
    assert (after.timestamp - before.timestamp) % 2**32 == 26 * 160


def test_comfort_noise_comes_at_once_and_then_once_a_second() -> None:
    packets = everything(RtpStream(speech(4.0), as_bytes, StreamFormat(), mutes=(Mute(0.5, 3.0, "comfort_noise"),)))
    noise = [p for p in packets if p.kind == "comfort_noise"]
    assert [round(p.start, 2) for p in noise] == [0.5, 1.5, 2.5]
    assert {(p.data[1], len(p.data)) for p in noise} == {(13, 13)}
    assert next(p for p in packets if p.start > 2.9).data[1] & 0x80


def test_nothing_leaves_on_hold_and_the_talk_goes_on_where_the_call_is_then() -> None:
    samples = speech(2.0)
    stream = RtpStream(samples, as_bytes, StreamFormat())
    stream.take_due(0.5)
    stream.hold(True)
    assert stream.take_due(1.5) == []
    stream.hold(False)
    (packet,) = stream.take_due(1.52)
    assert np.array_equal(payload(packet), samples[12000:12160])


def test_hold_music_goes_round_until_the_hold_ends() -> None:
    music = speech(0.3)
    stream = RtpStream(speech(2.0), as_bytes, StreamFormat(), hold_music=music)
    stream.hold(True)
    packets = stream.take_due(1.0)
    assert {p.kind for p in packets} == {"music"}
    assert np.array_equal(np.concatenate([payload(p) for p in packets]), np.resize(music, 8000))


def test_a_frozen_clock_counts_only_what_was_sent() -> None:
    stream = RtpStream(speech(2.0), as_bytes, StreamFormat(), faults=Faults(frozen_clock=True))
    before = stream.take_due(0.5)[-1]
    stream.hold(True)
    stream.take_due(1.5)
    stream.hold(False)
    after = stream.take_due(2.0)[0]
    assert (after.timestamp - before.timestamp) % 2**32 == 160


def test_an_ssrc_change_begins_new_sequence_numbers_and_timestamps() -> None:
    packets = everything(RtpStream(speech(2.0), as_bytes, StreamFormat(), faults=Faults(ssrc_changes=(1.0,))))
    before, after = packets[49], packets[50]
    assert before.ssrc != after.ssrc
    assert (after.sequence - before.sequence) % 65536 != 1
    assert len({p.ssrc for p in packets}) == 2


def test_a_timestamp_jump_moves_the_timestamp_and_nothing_else() -> None:
    faults = Faults(timestamp_jumps=((1.0, 9999),))
    packets = everything(RtpStream(speech(2.0), as_bytes, StreamFormat(), faults=faults))
    assert (packets[50].timestamp - packets[49].timestamp) % 2**32 == 160 + 9999
    assert len(packets) == 100
    assert (packets[50].sequence - packets[49].sequence) % 65536 == 1


def test_loss_leaves_gaps_in_the_sequence_and_is_counted() -> None:
    stream = RtpStream(speech(20.0), as_bytes, StreamFormat(), faults=Faults(loss=0.05, seed=3))
    packets = everything(stream)
    assert len(packets) + stream.lost == 1000
    assert 25 <= stream.lost <= 80
    assert len({p.sequence for p in packets}) == len(packets)


def test_the_same_seed_does_the_same_wrong() -> None:
    faults = Faults(loss=0.1, jitter_ms=30, reorder=0.05, duplicate=0.05, seed=7)
    one, two = (everything(RtpStream(speech(3.0), as_bytes, StreamFormat(), faults=faults)) for _ in range(2))
    assert one == two


def test_reordered_packets_leave_behind_their_successor() -> None:
    packets = everything(RtpStream(speech(20.0), as_bytes, StreamFormat(), faults=Faults(reorder=0.05, seed=1)))
    overtaken = sum(b.start < a.start for a, b in itertools.pairwise(packets))
    assert 20 <= overtaken <= 80
    assert len({p.sequence for p in packets}) == 1000


@given(
    st.integers(0, 2**16),
    st.floats(0, 0.5),
    st.floats(0, 0.3),
    st.floats(0, 0.3),
    st.floats(0, 100),
    st.sampled_from([10, 20, 30, 40, 60]),
)
def test_whatever_goes_wrong_no_packet_leaves_before_it_was_said_nor_out_of_time(
    seed: int, loss: float, duplicate: float, reorder: float, jitter_ms: float, ptime_ms: int
) -> None:
    faults = Faults(seed=seed, loss=loss, duplicate=duplicate, reorder=reorder, jitter_ms=jitter_ms)
    stream = RtpStream(speech(1.2), as_bytes, StreamFormat(ptime_ms=ptime_ms), faults=faults)
    packets = everything(stream)
    assert stream.is_finished
    assert [p.due for p in packets] == sorted(p.due for p in packets)
    latest = jitter_ms / 1000 + 1.5 * ptime_ms / 1000
    assert all(ptime_ms / 1000 - 1e-9 <= p.due - p.start <= ptime_ms / 1000 + latest + 1e-6 for p in packets)
    assert len({p.sequence for p in packets}) + stream.lost == 1200 // ptime_ms
