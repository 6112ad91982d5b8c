"""Tape, timeline, formats, pace and the ledger's arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidState
from bridge.model import AudioFormat, Word
from bridge.stt import PROVIDERS
from bridge.stt.pace import Pace
from bridge.stt.repeats import Repeats
from bridge.stt.session import wire_format
from bridge.stt.tape import Tape
from bridge.stt.timeline import Piece, Timeline
from bridge.stt.utterances import Utterances
from bridge.stt.wire import converter, silence

MULAW = AudioFormat("mulaw", 8000)
ALAW = AudioFormat("alaw", 8000)
LINEAR = AudioFormat("linear16", 8000)


def test_a_tape_knows_call_time_over_a_gap_and_after_letting_go() -> None:
    tape = Tape(MULAW, 60)
    tape.append(bytes(8000), 5.0)
    tape.append(bytes(8000), 6.0)
    tape.append(bytes(8000), 30.0)
    assert tape.call_time(12000) == 6.5
    assert tape.end_time(16000) == 7.0
    assert tape.call_time(16000) == 30.0
    assert tape.cut_after(0) == 16000
    tape.release(20000)
    assert tape.call_time(20000) == 30.5
    assert (tape.start, tape.end) == (20000, 24000)
    with pytest.raises(InvalidState):
        tape.read(19999, 20001)


def test_a_tape_follows_drift_within_2_ms_and_holds_no_more_than_it_should() -> None:
    tape = Tape(MULAW, 2.0)
    for n in range(500):
        tape.append(bytes(160), n * 0.02001)
    assert abs(tape.call_time(tape.end - 160) - 499 * 0.02001) <= 0.0021
    assert tape.end - tape.start == 16000


@given(
    st.lists(st.tuples(st.integers(1, 400), st.integers(0, 1500)), min_size=1, max_size=30),
    st.sampled_from([MULAW, LINEAR]),
    st.data(),
)
def test_a_tape_gives_back_what_was_put_on_it_wherever_chunks_begin(
    steps: list[tuple[int, int]], audio: AudioFormat, data: st.DataObject
) -> None:
    tape, all_of_it, width = Tape(audio, 0.05), b"", audio.bytes_per_sample
    for n, (samples, release) in enumerate(steps):
        chunk = bytes((n + k) % 251 for k in range(samples * width))
        tape.append(chunk, n * 7.0)
        all_of_it += chunk
        tape.release(release)
        assert tape.end == len(all_of_it) // width
        assert tape.end - tape.start <= 400
        start = data.draw(st.integers(tape.start, tape.end))
        end = data.draw(st.integers(start, tape.end))
        assert tape.read(start, end) == all_of_it[start * width : end * width]


def test_what_is_sent_as_it_came_is_not_copied() -> None:
    tape, chunk = Tape(MULAW, 60), bytes(800)
    tape.append(chunk, 0.0)
    tape.append(bytes(800), 0.1)
    assert tape.read(0, 800) is chunk


def test_words_that_no_session_will_hear_again_are_forgotten() -> None:
    utterances = Utterances()
    for second in range(3600):
        utterances.publish([Word("word", second + 0.2, second + 0.6, 0.9)])
        utterances.settled(second + 1.0)
        assert not utterances.without_repeats([Word("Word", second + 0.25, second + 0.65, 0.9)])
    assert utterances.without_repeats([again := Word("word", 3500.2, 3500.6, 0.9)]) == (again,)
    utterances.settled(3602.0)
    assert not utterances.may_repeat


def test_a_final_is_known_again_among_the_last_hundreds_and_no_more_is_kept() -> None:
    repeats = Repeats()
    for n in range(2000):
        repeats.begin_message()
        assert not repeats.holds("word", n / 2, n / 2 + 0.4)
        assert not repeats.holds("word", n / 2, n / 2 + 0.4)  # within one message nothing is a repetition
    repeats.begin_message()
    assert repeats.holds("word", 999.5, 999.9)
    assert repeats.holds("word", 900.0, 900.4)
    assert not repeats.holds("words", 900.0, 900.4)
    assert not repeats.holds("word", 2.0, 2.4)


def test_half_a_sample_is_our_own_bug() -> None:
    with pytest.raises(InvalidState):
        Tape(LINEAR, 1.0).append(b"\x00", 0.0)


def test_a_word_over_a_long_pause_belongs_to_the_side_it_is_mostly_on() -> None:
    timeline = Timeline(8000)
    timeline.add(Piece(0.0, 0, 0.0))
    timeline.add(Piece(10.0, 80000, 30.0))
    assert timeline.call_span(9.5, 10.1) == pytest.approx((9.5, 10.0))
    assert timeline.call_span(9.9, 10.4) == pytest.approx((30.0, 30.4))
    assert timeline.call_span(10.0, 10.2) == pytest.approx((30.0, 30.2))
    assert timeline.call_span(9.8, 10.0) == pytest.approx((9.8, 10.0))


def test_a_word_over_a_small_cut_keeps_both_its_ends() -> None:
    timeline = Timeline(8000)
    timeline.add(Piece(0.0, 0, 0.0))
    timeline.add(Piece(1.0, 8000, 1.04))
    assert timeline.call_span(0.9, 1.2) == pytest.approx((0.9, 1.24))


@pytest.mark.parametrize("off", [0.0, 1e-9, 0.001, 0.02, 0.1])
def test_a_word_whose_edge_is_placed_a_little_beyond_a_small_cut_is_not_moved_to_its_other_side(off: float) -> None:
    timeline = Timeline(8000)
    timeline.add(Piece(0.0, 0, 0.0))
    timeline.add(Piece(1.0, 8000, 1.5))
    assert timeline.call_span(1.0 - off, 1.3) == pytest.approx((1.5 - off, 1.8))
    assert timeline.call_span(0.7, 1.0 + off) == pytest.approx((0.7, 1.0 + off))


def test_a_word_over_many_mutes_of_a_moment_keeps_both_its_ends() -> None:
    """Heard for 140 ms, muted for 100, again and again: on either side of each mute it has more than is missing."""
    timeline = Timeline(8000)
    for n in range(6):
        timeline.add(Piece(0.14 * n, 1120 * n, 0.24 * n))
    assert timeline.call_span(0.02, 0.69) == pytest.approx((0.02, 0.69 + 0.4))


def test_padding_takes_no_call_time() -> None:
    timeline = Timeline(8000)
    timeline.add(Piece(0.0, 0, 7.0, is_padding=True))
    timeline.add(Piece(0.5, 0, 7.0))
    assert timeline.call_span(0.1, 0.3) == (7.0, 7.0)
    assert timeline.call_span(0.6, 0.8) == pytest.approx((7.1, 7.3))
    assert timeline.position(0.4) == 0


@given(
    st.lists(st.tuples(st.integers(1, 4000), st.floats(0, 30)), min_size=1, max_size=8),
    st.floats(0, 5),
    st.floats(0, 1),
)
def test_call_time_never_runs_backwards_along_a_stream(
    pieces: list[tuple[int, float]], start: float, length: float
) -> None:
    timeline, stream, position, call = Timeline(8000), 0.0, 0, 0.0
    for samples, gap in pieces:
        call += gap
        timeline.add(Piece(stream, position, call))
        stream, position, call = stream + samples / 8000, position + samples, call + samples / 8000
    low, high = timeline.call_span(start, start + length)
    assert low <= high
    assert timeline.position(start) <= timeline.position(start + length)


@pytest.mark.parametrize("law", [MULAW, ALAW])
def test_g711_survives_the_way_through_linear_bit_for_bit(law: AudioFormat) -> None:
    to, back = converter(law, LINEAR), converter(LINEAR, law)
    assert to is not None
    assert back is not None
    codes = bytes(range(256))
    # 0x7F is mu-law's second zero: it comes back as the first.
    assert back(to(codes)).replace(b"\xff", b"\x7f") == codes.replace(b"\xff", b"\x7f")
    assert to(silence(law, 1)) in (b"\x00\x00", b"\x08\x00")


@pytest.mark.parametrize(("law", "theirs"), [(MULAW, "PCMU"), (ALAW, "PCMA")])
def test_g711_values_are_those_that_the_media_plane_decodes(law: AudioFormat, theirs: str) -> None:
    rtpcodecs = pytest.importorskip("rtpcodecs")
    to = converter(law, LINEAR)
    assert to is not None
    table = rtpcodecs.CODECS[theirs].table
    assert memoryview(to(bytes(range(256)))).cast("h").tolist() == table.tolist()


def test_auto_passes_through_and_the_rate_never_changes() -> None:
    wide = AudioFormat("linear16", 16000)
    assert wire_format("auto", MULAW) == MULAW
    assert converter(MULAW, wire_format("auto", MULAW)) is None
    assert wire_format("mulaw", wide) == AudioFormat("mulaw", 16000)


@given(st.lists(st.tuples(st.integers(1, 800), st.floats(0, 1)), max_size=60))
def test_a_pace_is_never_faster_than_it_says(steps: list[tuple[int, float]]) -> None:
    pace, now, sent = Pace(8000, chunk=800, is_replay=True, now=0.0), 0.0, 0
    for samples, wait in steps:
        now = max(now + wait, pace.ready_at(samples))
        pace.spend(samples, now)
        sent += samples
        assert sent <= 1.25 * 8000 * now + 4000 + 1e-6


def test_every_provider_can_be_built_from_its_defaults_and_checks_itself() -> None:
    for name, provider in PROVIDERS.items():
        settings = provider.settings_type()
        assert provider.name == name
        problems = provider.check(settings)
        assert [p for p in problems if "api_key" in p] == problems
        assert provider.policy(settings).close_timeout_s == 10.0
