"""What every sink must do. The same tests run against each."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bridge.config import RedisSettings
from bridge.publish import events
from bridge.publish.contract import Part, Position, Record, Sink
from bridge.sinks import SINKS
from bridge.sinks.jsonl import Jsonl, JsonlSettings
from bridge.sinks.redis_streams import RedisStreams
from tests.redis_server import RedisServer

AT_MS = 1_690_000_000_000  # long ago: what began then may have expired
Stored = Callable[[str], list[int]]


def record(call: str, seq: int, *, is_last: bool = False, at_ms: int = AT_MS) -> Record:
    if is_last:
        event = events.call_ended(call, at_ms, reason="hangup", duration_s=1.0, legs={})
    elif seq == 1:
        event = events.call_started(call, at_ms, ingress="sip", from_="a", to="b", legs=[])
    else:
        event = events.dtmf(call, at_ms, leg="a", role="caller", digit=str(seq % 10), duration_ms=80)
    return Record(seq, at_ms, events.encode(event, seq, "test"), seq == 1, is_last)


def part(call: str, first: int, last: int, *, floor: int = 1, is_last: bool = False) -> Part:
    records = [record(call, seq, is_last=is_last and seq == last) for seq in range(first, last + 1)]
    return Part(call, records, floor)


@pytest.fixture(params=sorted(SINKS))
async def sink_and_stored(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Sink, Stored, Callable[[], Sink]]]:
    if request.param == "jsonl":
        path = tmp_path / "events.jsonl"

        def stored(call: str) -> list[int]:
            lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
            return [int(line["seq"]) for line in lines if line["call"] == call]

        def make() -> Sink:
            return Jsonl(JsonlSettings(path=str(path)))
    else:
        server: RedisServer = request.getfixturevalue("redis_server")

        def stored(call: str) -> list[int]:
            with server.client() as client:
                own = [int(fields["seq"]) for _, fields in client.xrange(f"callbridge:call:{call}")]
                entries = client.xrange("callbridge:events")
                assert own == [int(fields["seq"]) for _, fields in entries if fields["call"] == call]
                return own

        def make() -> Sink:
            return RedisStreams(RedisSettings(url=server.url))

    sink = make()
    yield sink, stored, make
    await sink.close()


Kit = tuple[Sink, Stored, Callable[[], Sink]]


async def test_a_batch_of_several_calls_is_taken_in_order(sink_and_stored: Kit) -> None:
    sink, stored, _ = sink_and_stored
    receipt = await sink.write(0, [part("a", 1, 3), part("b", 1, 2)])
    assert dict(receipt.held) == {"a": 3, "b": 2}
    assert (stored("a"), stored("b")) == ([1, 2, 3], [1, 2])


async def test_the_same_batch_again_changes_nothing(sink_and_stored: Kit) -> None:
    sink, stored, _ = sink_and_stored
    await sink.write(0, [part("a", 1, 3)])
    receipt = await sink.write(0, [part("a", 2, 5)])
    assert dict(receipt.held) == {"a": 5}
    assert stored("a") == [1, 2, 3, 4, 5]


async def test_nothing_is_taken_behind_a_gap_that_can_still_be_filled(sink_and_stored: Kit) -> None:
    sink, stored, _ = sink_and_stored
    await sink.write(0, [part("a", 1, 2)])
    receipt = await sink.write(0, [part("a", 5, 6, floor=1)])
    assert dict(receipt.held) == {"a": 2}
    assert receipt.gaps == 0
    assert stored("a") == [1, 2]


async def test_a_gap_that_nobody_can_fill_is_accepted_and_counted(sink_and_stored: Kit) -> None:
    sink, stored, _ = sink_and_stored
    await sink.write(0, [part("a", 1, 2)])
    receipt = await sink.write(0, [part("a", 5, 6, floor=5)])
    assert dict(receipt.held) == {"a": 6}
    assert receipt.gaps == 2
    assert stored("a") == [1, 2, 5, 6]


async def test_positions_tell_how_far_and_whether_ended(sink_and_stored: Kit) -> None:
    sink, _, make = sink_and_stored
    await sink.write(0, [part("a", 1, 3), part("b", 1, 4, is_last=True)])
    other = make()  # as the next process would see it
    positions = await other.positions(0, ["a", "b", "nobody"])
    await other.close()
    assert positions == {"a": Position(3), "b": Position(4, is_ended=True), "nobody": Position()}


async def test_the_generation_tells_of_a_new_connection(sink_and_stored: Kit) -> None:
    sink, _, _ = sink_and_stored
    await sink.open(0)
    before = sink.generation(0)
    await sink.open(0)
    assert sink.generation(0) == before
    await sink.close()
    await sink.open(0)
    assert sink.generation(0) != before


async def test_an_empty_batch_is_no_trouble(sink_and_stored: Kit) -> None:
    sink, _, _ = sink_and_stored
    assert dict((await sink.write(0, [])).held) == {}
    assert (await sink.tend(0)).length == 0
