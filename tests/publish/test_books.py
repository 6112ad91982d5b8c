from __future__ import annotations

import json

from bridge.publish import events
from bridge.publish.books import Book
from bridge.publish.events import Event


def gate(cause: str | None, since: float) -> Event:
    return events.leg_gate("c", int(since * 1000), leg="a", role="caller", cause=cause, since=since)


def final(turn: int, text: str, start: float, end: float) -> Event:
    return events.transcript_final(
        "c", int(end * 1000), leg="a", role="caller", text=text, start=start, end=end, utterance=text, turn=turn,
        language="en", confidence=1, provider="p", words=[],
    )  # fmt: skip


def folded(*made: Event) -> Book:
    book = Book()
    for seq, event in enumerate(made, 1):
        book.fold(event, seq)
    return book


START = events.call_started("c", 0, ingress="sip", from_="", to="", legs=[{"leg": "a", "role": "caller"}])


def test_withheld_time_is_told_by_the_gates_up_to_the_last_sign_of_life() -> None:
    book = folded(START, gate(None, 0.0), gate("hold", 2.0), gate("silence", 5.0), gate(None, 6.0), gate("hold", 8.0))
    book.fold(events.dtmf("c", 9500, leg="b", role="agent", digit="1", duration_ms=1), 7)
    end = book.closing("c", 20_000)[-1]
    assert end.data["duration_s"] == 9.5
    leg = end.data["legs"]["a"]
    assert {cause: seconds for cause, seconds in leg["withheld_s"].items() if seconds} == {"hold": 4.5, "silence": 1.0}
    assert (leg["role"], leg["finals"]) == ("caller", 0)
    assert end.data["legs"]["b"]["role"] == "agent"


def test_a_turn_that_was_ended_is_not_ended_again() -> None:
    turn = events.turn_ended(
        "c", 3000, leg="a", role="caller", text="one", start=1, end=2, turn=1, reason="silence", latency_ms=1
    )
    book = folded(START, final(1, "one", 1, 2), turn, final(2, "two", 3, 4), final(2, "more", 4, 5))
    made = book.closing("c", 9000)
    assert [event.type for event in made] == ["turn.ended", "call.ended"]
    assert (made[0].text, made[0].start, made[0].end, made[0].data["turn"]) == ("two more", 3, 5, 2)
    assert made[1].data["legs"]["a"]["finals"] == 3


def test_what_the_call_said_of_itself_stands_before_what_its_events_show_but_for_the_finals_that_came_since() -> None:
    book = folded(START, gate("hold", 1.0), final(1, "one", 1, 2), final(1, "two", 3, 4))
    book.ledgers["a"] = {"role": "caller", "sent_s": 12.0, "withheld_s": {"hold": 3.0}, "finals": 1}
    assert book.closing("c", 9000)[-1].data["legs"]["a"] == {
        "role": "caller",
        "sent_s": 12.0,
        "withheld_s": {"hold": 3.0},
        "finals": 2,
    }


def test_a_leg_that_died_before_it_told_anything_has_every_field_of_a_ledger_and_a_sum_that_holds() -> None:
    leg = folded(START, gate("silence", 0.25), gate(None, 1.0)).closing("c", 9000)[-1].data["legs"]["a"]
    assert leg["received_s"] == 0.75 == sum(leg["withheld_s"].values())
    assert set(leg["withheld_s"]) == {"paused", "hold", "mute", "music", "tone", "silence"}
    assert set(leg["packets"]) == {"received", "lost", "late", "duplicate"}
    nothing = {"sent_s", "replayed_s", "padded_s", "concealed_s", "lost_s", "unsent_s", "absent_s", "connected_s"}
    nothing |= {"keepalives", "sessions", "provider_s", "billable_s", "finals"}
    assert set(leg) == nothing | {"role", "received_s", "withheld_s", "packets"}
    assert all(leg[name] == 0 for name in nothing)


def test_an_event_folded_twice_counts_once() -> None:
    book = folded(START, final(1, "x", 1, 2))
    book.fold(final(1, "x", 1, 2), 2)
    assert book.legs["a"].finals == 1


def test_a_book_survives_the_spool() -> None:
    book = folded(START, gate("hold", 1.0), final(1, "one", 1, 2), final(7, "two", 3, 4))
    book.ledgers["a"] = {"sent_s": 1.0}
    again = Book.from_json(json.loads(json.dumps(book.to_json())))
    assert again == book
