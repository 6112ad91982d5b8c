"""The demo's judge must not be lenient: each thing that can go wrong fails its own check and no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bridge.caller.options import CallResult
from bridge.demo import scene as scenes
from bridge.demo.scene import Scene, SpokenWord
from bridge.demo.verdict import Event, Session, compare, judge
from bridge.emulator import recordings

SCENE: Scene = scenes.build(recordings.load())
CALL = CallResult(ok=True, reason="done", status=200, answered_at=100.0, ended_at=150.0, holds=(SCENE.hold,))


def final(seq: int, role: str, words: list[SpokenWord], *, shift: float = 0.0) -> Event:
    told = [[w.text, w.start + shift, w.end + shift, 0.9] for w in words]
    return Event("transcript.final", seq, f"leg-{role}", role, data={"words": told, "turn": seq})


def ledger(role: str) -> dict[str, Any]:
    withheld = {"hold": 10.2, "silence": 10.0, "mute": 2.7, "music": 3.0}
    sent = 20.0
    return {
        "role": role, "received_s": sent + sum(withheld.values()), "sent_s": sent, "replayed_s": 0.0, "padded_s": 0.0,
        "unsent_s": 0.0, "withheld_s": withheld, "billable_s": sent, "keepalives": 3,
    }  # fmt: skip


def good_events() -> list[Event]:
    events = [Event("call.started", 1)]
    for role in ("caller", "agent"):
        words = list(SCENE.expected[role])
        events.append(final(len(events) + 1, role, words))
        events.append(Event("turn.ended", len(events) + 1, f"leg-{role}", role, data={"turn": len(events)}))
    legs = {role: ledger(role) for role in ("caller", "agent")}
    return [*events, Event("call.ended", len(events) + 1, data={"legs": legs})]


def session(*, audio_in_hold: int = 0, gap: float = 4.0) -> Session:
    frames = [(t / 10, "audio", 800) for t in range(5, 200)]
    t = 20.0
    while t < 45.0:
        t += gap
        frames.append((t, "KeepAlive", 20))
    frames += [(25.0, "audio", audio_in_hold)] if audio_in_hold else []
    return Session(seconds=20.0, frames=tuple(sorted(frames)), opened=0.3, closed=50.0)


def failed(
    *, call: CallResult = CALL, events: list[Event] | None = None, sessions: list[Session] | None = None
) -> list[str]:
    found = judge(
        SCENE, call, good_events() if events is None else events,
        [session(), session()] if sessions is None else sessions, "deepgram",
    )  # fmt: skip
    return [check.what for check in found if not check.ok]


def test_a_call_in_which_everything_happened_passes() -> None:
    assert failed() == []


def changed(events: list[Event], n: int, **changes: Any) -> list[Event]:
    return [replace(e, **changes) if i == n else e for i, e in enumerate(events)]


def with_ledger(role: str, **changes: Any) -> list[Event]:
    events = good_events()
    events[-1].data["legs"][role] |= changes
    return events


def test_a_word_that_is_missing_fails() -> None:
    events = changed(good_events(), 1, data={"words": good_events()[1].data["words"][1:], "turn": 2})
    assert failed(events=events) == ["every word of the caller is in Redis"]


def test_a_word_that_stands_30_ms_off_fails() -> None:
    events = good_events()
    events[3] = final(4, "agent", list(SCENE.expected["agent"]), shift=0.03)
    assert failed(events=events) == ["the agent's words stand within 20 ms of when they were said"]


def test_a_word_said_into_the_hold_that_comes_out_fails() -> None:
    events = good_events()
    events[1].data["words"].append(["weasels", 24.0, 24.5, 0.9])
    (what,) = failed(events=events)
    assert what.startswith("none of the")


def test_an_event_that_is_there_twice_fails() -> None:
    events = good_events()
    assert any("each is there once" in what for what in failed(events=[*events[:2], events[1], *events[2:]]))


def test_words_behind_the_end_fail() -> None:
    events = good_events()
    swapped = [*events[:-2], replace(events[-1], seq=events[-2].seq), replace(events[-2], seq=events[-1].seq)]
    assert any("which is the last event" in what for what in failed(events=swapped))


def test_a_final_without_a_turn_fails() -> None:
    assert failed(events=changed(good_events(), 2, data={"turn": 77})) == ["every turn ended"]


def test_audio_during_the_hold_fails() -> None:
    (what,) = failed(sessions=[session(), session(audio_in_hold=800)])
    assert what.startswith("no audio reached the provider")


def test_a_provider_that_waits_for_six_seconds_fails() -> None:
    (what,) = failed(sessions=[session(), session(gap=6.0)])
    assert "sign of life" in what


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"received_s": 46.0}, "ledger adds up"), ({"sent_s": 20.5, "received_s": 46.4}, "provider counted")],
)
def test_books_that_do_not_balance_fail(changes: dict[str, float], words: str) -> None:
    (what,) = failed(events=with_ledger("caller", **changes))
    assert words in what


def test_a_mute_that_was_not_seen_as_one_fails() -> None:
    withheld = {"hold": 10.2, "silence": 12.7, "music": 3.0}
    assert failed(events=with_ledger("caller", withheld_s=withheld)) == ["the caller's mute was withheld as such"]


def test_a_call_that_did_not_run_fails_in_everything_that_hangs_on_it() -> None:
    dead = CallResult(ok=False, reason="refused: 503", status=503)
    found = failed(call=dead, events=[], sessions=[])
    assert found[0] == "the call was placed, held, taken back and hung up"
    assert len(found) > 10


def test_words_are_compared_by_what_they_say_and_when() -> None:
    said = [SpokenWord("Yes.", 1.0, 1.2), SpokenWord("yes,", 3.0, 3.2)]
    words = [["Yes", 3.01, 3.2, 1], ["yes!", 1.0, 1.25, 1], ["no", 5, 6, 1]]
    heard = compare(said, [Event("transcript.final", 1, data={"words": words})])
    assert (heard.n_heard, heard.missing, heard.surplus) == (2, (), ("no",))
    assert heard.worst == pytest.approx(0.05)
