from __future__ import annotations

import json

import pytest

from tests.bench.sink_provider import via
from tests.bench.turn_ends import TurnEnds, make_stamp, read_stamp


def entry(kind: str, text: str, **data: object) -> dict[bytes, bytes]:
    return {b"type": kind.encode(), b"text": text.encode(), b"data": json.dumps(data).encode()}


def test_a_stamp_is_read_back_to_the_microsecond() -> None:
    assert read_stamp(f"so it is {make_stamp(4711.000123)}") == pytest.approx(4711.000123, abs=1e-6)
    assert read_stamp("so it is at five") is None
    assert read_stamp("") is None


def test_a_final_is_timed_from_its_stamp() -> None:
    ends = TurnEnds(800)
    ends.take(entry("transcript.final", f"word {make_stamp(10.0)}"), 10.012)
    ends.take(entry("transcript.interim", f"word {make_stamp(10.0)}"), 11.0)
    ends.take(entry("transcript.final", "word"), 11.0)
    assert ends.finals == pytest.approx([0.012])
    assert ends.turns == []


def test_a_turn_is_timed_from_its_last_final_where_that_came_after_the_silence() -> None:
    ends = TurnEnds(800)
    text = f"word {make_stamp(7.0)} word {make_stamp(10.0)}"
    ends.take(entry("turn.ended", text, reason="silence", latency_ms=900), 10.02)
    assert ends.turns == pytest.approx([0.02])


def test_a_turn_is_timed_from_the_end_of_its_silence_where_the_final_came_before() -> None:
    ends = TurnEnds(800)
    ends.take(entry("turn.ended", make_stamp(10.0), reason="silence", latency_ms=700), 10.13)
    assert ends.turns == pytest.approx([0.03])


def test_a_turn_that_something_else_ended_is_not_timed() -> None:
    ends = TurnEnds(800)
    ends.take(entry("turn.ended", make_stamp(10.0), reason="hangup", latency_ms=700), 10.13)
    assert ends.turns == []


@pytest.mark.parametrize(
    ("at", "n", "packets_behind"),
    [(0, 800, 4), (640, 800, 0), (700, 800, 0), (639, 800, 1), (0, 801, 5), (96, 800, 4), (160, 800, 3)],
)
def test_a_chunk_is_timed_from_the_packet_that_completes_it(at: int, n: int, packets_behind: int) -> None:
    assert via(5.0, 4.5, at, n) == pytest.approx(0.5 - 0.02 * packets_behind)
