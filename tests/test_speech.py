from __future__ import annotations

from bridge.model import Word
from bridge.speech import in_call_order
from bridge.stt.events import Interim


def test_nothing_of_a_call_is_told_as_of_before_it() -> None:
    words = (Word("well", -0.5, -0.2, 0.9), Word("hello", -0.1, 0.3, 0.9), Word("there", 0.3, 0.6, 0.9))
    told = in_call_order(Interim(1, 1, "well hello there", -0.5, 0.6, words))
    assert (told.start, told.end) == (0.0, 0.6)
    assert [(word.text, word.start, word.end) for word in told.words] == [
        ("well", 0.0, 0.0), ("hello", 0.0, 0.3), ("there", 0.3, 0.6),
    ]  # fmt: skip
    early = in_call_order(Interim(1, 1, "well", -0.5, -0.2, words[:1]))
    assert (early.start, early.end) == (0.0, 0.0)


def test_words_of_a_result_never_run_backwards() -> None:
    words = (Word("one", 1.0, 1.3, 0.9), Word("two", 0.4, 0.7, 0.9), Word("three", 1.4, 1.6, 0.9))
    told = in_call_order(Interim(1, 1, "one two three", 0.4, 1.6, words))
    assert [(word.text, word.start, word.end) for word in told.words] == [
        ("one", 1.0, 1.3), ("two", 1.0, 1.0), ("three", 1.4, 1.6),
    ]  # fmt: skip


def test_a_result_within_the_call_is_left_as_it_is() -> None:
    told = Interim(1, 1, "hello", 0.0, 0.3, (Word("hello", 0.0, 0.3, 0.9),))
    assert in_call_order(told) is told
