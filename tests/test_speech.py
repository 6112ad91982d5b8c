from __future__ import annotations

from bridge.model import Word
from bridge.speech import within_call
from bridge.stt.events import Interim


def test_nothing_of_a_call_is_told_as_of_before_it() -> None:
    words = (Word("well", -0.5, -0.2, 0.9), Word("hello", -0.1, 0.3, 0.9), Word("there", 0.3, 0.6, 0.9))
    told = within_call(Interim(1, 1, "well hello there", -0.5, 0.6, words))
    assert (told.start, told.end) == (0.0, 0.6)
    assert [(word.text, word.start, word.end) for word in told.words] == [
        ("well", 0.0, 0.0), ("hello", 0.0, 0.3), ("there", 0.3, 0.6),
    ]  # fmt: skip
    early = within_call(Interim(1, 1, "well", -0.5, -0.2, words[:1]))
    assert (early.start, early.end) == (0.0, 0.0)


def test_a_result_within_the_call_is_left_as_it_is() -> None:
    told = Interim(1, 1, "hello", 0.0, 0.3, (Word("hello", 0.0, 0.3, 0.9),))
    assert within_call(told) is told
