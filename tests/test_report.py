from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from bridge.publish import events
from bridge.publish.events import Event, Published, fields, parse
from bridge.publish.report import Stretch
from bridge.report import as_json, as_text, build, clean, lane_signs, read, tail
from tests.redis_server import RedisServer

AT = 1_790_000_000_000


def call(*, is_ended: bool = True) -> list[Event]:
    def gate(leg: str, role: str, cause: str | None, since: float) -> Event:
        reason = "hangover" if cause == "silence" else ""
        return events.leg_gate(
            "c1", AT + int(since * 1000), leg=leg, role=role, cause=cause, since=since, reason=reason
        )

    def final(leg: str, role: str, text: str, start: float, end: float, turn: str) -> Event:
        return events.transcript_final(
            "c1", AT + int(end * 1000), leg=leg, role=role, text=text, start=start, end=end, utterance=f"u{start}",
            turn=turn, language="en", confidence=0.9, provider="deepgram", words=[],
        )  # fmt: skip

    made = [
        events.call_started(
            "c1", AT, ingress="siprec", from_="+1", to="+2\x1b[2J", correlation={"sip_call_id": "x@y"},
            legs=[{"leg": "l1", "role": "caller", "codec": "PCMU"}, {"leg": "l2", "role": "agent", "codec": "PCMA"}],
        ),
        gate("l1", "caller", None, 0.0),
        gate("l2", "agent", "silence", 0.0),
        final("l1", "caller", "hello", 1.0, 1.5, "t1"),
        events.transcript_interim(
            "c1", AT + 1600, leg="l1", role="caller", text="the", start=2, end=2.1, utterance="u2", revision=1, words=[]
        ),
        final("l1", "caller", "there", 2.0, 2.5, "t1"),
        gate("l2", "agent", None, 4.0),
        events.turn_ended(
            "c1", AT + 3300, leg="l1", role="caller", text="hello there", start=1.0, end=2.5, turn="t1",
            reason="silence", latency_ms=210,
        ),
        gate("l1", "caller", "hold", 5.0),
        final("l2", "agent", "good day\x07", 4.5, 5.5, "t2"),
        events.stt_lost("c1", AT + 6000, leg="l2", role="agent", provider="deepgram", reason="NET-0001", gap_s=0.5),
    ]  # fmt: skip
    if is_ended:
        ledger = {"role": "caller", "received_s": 10.0, "sent_s": 5.0, "withheld_s": {"hold": 5.0}, "finals": 2}
        made.append(events.call_ended("c1", AT + 10_000, reason="hangup", duration_s=10.0, legs={"l1": ledger}))
    return made


def published(made: list[Event]) -> list[Published]:
    return [parse(fields(event, seq, "host"), entry=f"{event.at_ms}-{seq}") for seq, event in enumerate(made, 1)]


def test_the_text_counts_what_moved_each_legs_gate() -> None:
    assert "gate moved by\nagent        hangover 1\n" in as_text(build(published(call())))


def test_lanes_are_the_gates_of_each_leg_to_the_end_of_the_call() -> None:
    report = build(published(call()))
    assert report.legs["l1"].lane == [Stretch(0.0, 5.0, ""), Stretch(5.0, 10.0, "hold")]
    assert report.legs["l2"].lane == [Stretch(0.0, 4.0, "silence", "hangover"), Stretch(4.0, 10.0, "")]
    assert report.legs["l1"].speech == [(1.0, 1.5), (2.0, 2.5)]
    assert lane_signs(report.legs["l1"].lane, 10.0, 10) == "#####HHHHH"
    assert lane_signs([], 10.0, 3) == "   "


def test_the_transcript_is_by_turn_and_shows_turns_that_never_ended() -> None:
    report = build(published(call(is_ended=False)))
    assert [(line.role, line.text, line.reason, line.latency_ms) for line in report.transcript] == [
        ("caller", "hello there", "silence", 210),
        ("agent", "good day\x07", "", None),
    ]
    assert report.reason == ""


def test_what_is_missing_in_the_stream_is_told() -> None:
    whole = published(call())
    report = build([*whole[:3], *whole[5:]])
    assert report.missing == 2
    assert "2 events are missing" in as_text(report)


def test_the_text_has_everything_and_nothing_that_a_terminal_would_obey() -> None:
    text = as_text(build(published(call())))
    for part in (
        "call c1",
        "siprec",
        "ended: hangup",
        "sip_call_id: x@y",
        "withheld_s.hold",
        "10.000",
        "good day",
        "NET-0001",
    ):
        assert part in text
    assert "\x1b" not in text
    assert "\x07" not in text
    assert clean("a\x1b[31m\u202eb") == "a [31m b"


def test_a_call_that_runs_has_no_ledger_yet() -> None:
    assert "no ledger" in as_text(build(published(call(is_ended=False))))


def test_the_json_holds_the_whole_report() -> None:
    plain = json.loads(as_json(build(published(call()))))
    assert plain["from"] == "+1"
    assert plain["legs"]["l1"]["ledger"]["withheld_s"] == {"hold": 5.0}
    assert plain["transcript"][0]["text"] == "hello there"


async def test_a_call_is_read_from_redis_and_a_foreign_entry_does_not_matter(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.xadd("callbridge:call:c1", {"x": "y"}, id="1-1")
        for seq, event in enumerate(call(), 1):
            client.xadd("callbridge:call:c1", fields(event, seq, "host"), id=f"{AT + 20_000}-{seq}")
    report = await read(redis_server.url, "c1")
    assert report is not None
    assert (report.n_events, report.missing, report.duration_s) == (12, 0, 10.0)
    assert await read(redis_server.url, "nobody") is None


async def lines(made: list[Event], **options: bool) -> list[str]:
    async def source() -> AsyncIterator[Published]:
        for event in published(made):
            await asyncio.sleep(0)
            yield event

    return [line async for line in tail(source(), **options)]


async def test_tail_prints_a_line_for_each_turn_and_the_words_left_over_at_the_end() -> None:
    printed = await lines(call())
    assert [line.split()[1:3] for line in printed[1:4:2]] == [["0:01.0", "caller"], ["0:04.5", "agent"]]
    assert "hello there" in printed[1]
    assert "NET-0001" in printed[2]
    assert "good day" in printed[3]
    assert "ended  hangup" in printed[-1]
    assert len(printed) == 5
    assert not any("\x1b" in line for line in printed)


async def test_tail_draws_no_arrow_between_numbers_that_nobody_knows() -> None:
    started = events.call_started("c1", AT, ingress="external", from_="", to="", correlation={}, legs=[])
    (line,) = await lines([started])
    assert line.endswith("  started  external")


async def test_tail_shows_interims_only_when_asked_and_colours_only_on_a_terminal() -> None:
    printed = await lines(call(), interim=True, colour=True)
    assert any("~ the" in line for line in printed)
    assert any(line.startswith("\x1b[36m") and "hello there" in line for line in printed)


async def test_tail_as_json_is_one_object_per_event() -> None:
    printed = [json.loads(line) for line in await lines(call(), as_json=True)]
    assert [entry["type"] for entry in printed if "interim" in entry["type"]] == []
    assert printed[0]["data"]["ingress"] == "siprec"
    assert printed[3]["start"] == 1.0
    assert len(printed) == 11
