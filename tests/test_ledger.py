"""The books of a leg while it runs and after: the sum that the contract promises."""

from __future__ import annotations

import pytest

from bridge.ledger import ledger
from bridge.media.outputs import Books
from bridge.stt.ledger import SttLedger

PACKETS = {"received": 227, "lost": 0, "late": 0, "duplicate": 0}
BOOKS = Books(4.54, 3.61, {"silence": 0.888}, 0.0, PACKETS, 0, 0)


def unexplained(told: dict[str, float], withheld: float) -> float:
    return told["received_s"] - (told["sent_s"] - told["replayed_s"] - told["padded_s"] + withheld + told["unsent_s"])


@pytest.mark.parametrize("waiting", [0.0, 0.1])
def test_what_the_gate_has_not_decided_on_yet_is_unsent_while_the_leg_runs(waiting: float) -> None:
    spent = SttLedger(sent_s=3.61 - waiting, unsent_s=waiting)
    told = ledger("caller", BOOKS, spent, lasted_s=5.0, is_over=False)
    assert told["unsent_s"] == pytest.approx(waiting + 0.042)
    assert unexplained(told, 0.888) == pytest.approx(0.0, abs=1e-6)


def test_the_last_books_hide_nothing() -> None:
    told = ledger("caller", BOOKS, SttLedger(sent_s=3.61), lasted_s=5.0, is_over=True)
    assert told["unsent_s"] == 0.0
    assert unexplained(told, 0.888) == pytest.approx(0.042)
