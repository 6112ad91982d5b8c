"""Everything around the calls breaks while they run: Redis, the providers, the process itself. Judged from outside by
what stands in Redis, by what the providers got, and by what the callers really sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import aiohttp
import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallResult
from bridge.clock import monotonic
from bridge.demo.verdict import Event, compare, finals_of
from tests.redis_server import RedisServer, is_installed
from tests.soak.invariants import Streams, Table, check, ledgers, legs_of
from tests.soak.stand_in import StandIn, stand_in

from .house import Running, service, sip_call_id
from .scenarios import TWO, WEASELS, Scenario, plain

WORD_TOLERANCE = 0.020  # s, the contract
DURABLE = {"appendonly": "yes", "appendfsync": "always"}  # the persistence that the README asks for
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(180)]


@dataclass
class Outcome:
    """What is left when all is over."""

    results: list[CallResult]
    streams: Streams
    table: Table
    running: Running
    told: list[str] = field(default_factory=list)

    def events(self, result: CallResult) -> list[Event]:
        """Of one call."""
        return next((e for e in self.running.events.values() if sip_call_id(e) == result.sip_call_id), [])


async def play(running: Running, scenario: Scenario, *, calls: int, rate: float, to: str = "flow") -> list[CallResult]:
    target = running.uri.replace("flow@", f"{to}@")
    return await place_calls(replace(scenario.options, target=target, calls=calls, rate=rate))


def assert_words(outcome: Outcome, results: list[CallResult], scenario: Scenario) -> None:
    """Every word of every call, none twice, each at its time."""
    for n, result in enumerate(results):
        heard = compare(scenario.words(), finals_of(outcome.events(result), "caller"))
        assert (heard.missing, heard.surplus) == ((), ()), f"call {n}"
        assert heard.worst <= WORD_TOLERANCE, f"call {n}"


# -- Redis ------------------------------------------------------------------------------------------------------------

STORM = plain(TWO)
N_STORM = 20


async def storm(redis: RedisServer) -> None:
    """Killed, stopped, filled up, one behind the other while the calls speak."""
    await asyncio.sleep(2.5)
    await asyncio.to_thread(redis.kill)
    await asyncio.sleep(0.7)
    await asyncio.to_thread(redis.start)
    await asyncio.sleep(1.0)
    redis.pause()
    await asyncio.sleep(1.5)
    redis.resume()
    await asyncio.sleep(1.0)
    with redis.client() as client:
        await asyncio.to_thread(client.config_set, "maxmemory", "1")
        await asyncio.sleep(1.2)
        await asyncio.to_thread(client.config_set, "maxmemory", "0")


@pytest.fixture(scope="module")
def stormy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    folder = tmp_path_factory.mktemp("storm")
    with RedisServer(**DURABLE) as redis, stand_in(folder) as provider, service(folder, redis, provider.url) as running:

        async def run() -> list[CallResult]:
            async with asyncio.TaskGroup() as group:
                weather = group.create_task(storm(redis))
                calls = group.create_task(play(running, STORM, calls=N_STORM, rate=10))
            assert weather.done()
            return calls.result()

        results = asyncio.run(run())
        running.collect(N_STORM)
        streams = Streams.read(redis.url)
        table = check(streams, provider.connections(), legs=legs_of(running.log_lines()))
        yield Outcome(results, streams, table, running)


def test_redis_killed_stopped_and_full_loses_doubles_and_disorders_no_event(stormy: Outcome) -> None:
    assert stormy.streams.ended == N_STORM
    assert stormy.table.violations == []


def test_redis_was_really_away(stormy: Outcome) -> None:
    reasons = [line["reason"] for line in stormy.running.log_lines() if line.get("event") == "sink down"]
    assert any("maxmemory" in reason for reason in reasons), reasons
    assert len(reasons) >= 3, reasons


def test_no_call_is_disturbed_by_what_redis_does(stormy: Outcome) -> None:
    assert [result.reason for result in stormy.results] == ["done"] * N_STORM
    for entries in stormy.streams.calls.values():
        for ledger in ledgers(entries).values():
            assert ledger["lost_s"] == 0
            assert ledger["sessions"] == 1
            assert ledger["packets"]["lost"] == 0
    assert_words(stormy, stormy.results, STORM)


# -- the providers ----------------------------------------------------------------------------------------------------

DROPPED = plain(TWO)
N_DROPPED = 6  # of each provider
CUT = plain(((0.3, WEASELS),), cut_at=0.3 + 1.7)  # in the middle of `eaten`
BEFORE_CUT = ("Weasels", "have")
N_CUT = 50  # of each provider


@pytest.fixture(scope="module")
def dropped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """Both providers lose every connection twice, in mid-speech; then a hundred calls are hung up in mid-word."""
    folder = tmp_path_factory.mktemp("drops")
    route = {"[route]": {"match.to": "soniox", "stt.provider": "soniox"}}
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        providers = {name: stack.enter_context(stand_in(folder, name)) for name in ("deepgram", "soniox")}
        soniox = {"stt.soniox": {"url": providers["soniox"].url, "api_key": "flow"}}
        running = stack.enter_context(service(folder, redis, providers["deepgram"].url, **soniox, **route))
        yield asyncio.run(break_off(running, redis, providers))


async def break_off(running: Running, redis: RedisServer, providers: dict[str, StandIn]) -> dict[str, Outcome]:
    async def drop() -> list[str]:
        told = []
        for wait in (2.0, 3.9):  # in the first line, in the second
            await asyncio.sleep(wait)
            told += [f"{name} {provider.drop()}" for name, provider in providers.items()]
        return told

    async with asyncio.TaskGroup() as group:
        drops = group.create_task(drop())
        placed = {
            name: group.create_task(play(running, DROPPED, calls=N_DROPPED, rate=20, to=name)) for name in providers
        }
    await asyncio.sleep(0.5)
    async with asyncio.TaskGroup() as group:
        cut = {name: group.create_task(play(running, CUT, calls=N_CUT, rate=11, to=name)) for name in providers}
    n_calls = len(providers) * (N_DROPPED + N_CUT)
    await asyncio.to_thread(running.collect, n_calls)
    streams = Streams.read(redis.url)
    connections = [c for provider in providers.values() for c in provider.connections()]
    table = check(streams, connections, legs=legs_of(running.log_lines()))
    all_ = [result for task in (*placed.values(), *cut.values()) for result in task.result()]
    outcomes = {f"dropped {name}": Outcome(placed[name].result(), streams, table, running) for name in providers}
    outcomes |= {f"cut {name}": Outcome(cut[name].result(), streams, table, running) for name in providers}
    outcomes["all"] = Outcome(all_, streams, table, running, told=drops.result())
    return outcomes


def test_every_invariant_holds_though_the_providers_break(dropped: dict[str, Outcome]) -> None:
    assert dropped["all"].streams.ended == len(dropped["all"].results)
    assert dropped["all"].table.violations == []
    assert [r.reason for r in dropped["all"].results] == ["done"] * len(dropped["all"].results)


def test_all_connections_were_really_dropped_at_once_and_twice(dropped: dict[str, Outcome]) -> None:
    assert dropped["all"].told == [f"{name} {N_DROPPED}" for name in ("deepgram", "soniox")] * 2


@pytest.mark.parametrize("name", ["deepgram", "soniox"])
def test_all_connections_dropped_in_mid_speech_cost_no_word_double_none_and_move_none(
    dropped: dict[str, Outcome], name: str
) -> None:
    outcome = dropped[f"dropped {name}"]
    assert_words(outcome, outcome.results, DROPPED)


@pytest.mark.parametrize("name", ["deepgram", "soniox"])
def test_of_calls_hung_up_in_mid_word_every_last_word_is_published(dropped: dict[str, Outcome], name: str) -> None:
    outcome = dropped[f"cut {name}"]
    missing = {}
    for n, result in enumerate(outcome.results):
        said = [str(word[0]) for event in finals_of(outcome.events(result), "caller") for word in event.data["words"]]
        if tuple(said[: len(BEFORE_CUT)]) != BEFORE_CUT:
            missing[n] = said
    assert missing == {}


# -- the process itself -----------------------------------------------------------------------------------------------

N_KILLED = 8
ACCEPTED_AFTER = 0.1  # s, the contract: by then an event is written ahead
LEEWAY = 0.15  # s for the way of an event from the service to this test


@dataclass(frozen=True)
class Seen:
    """An event as the live feed showed it, before anybody could know whether it would survive."""

    call: str
    seq: int
    type: str
    text: str
    at: float


async def watch(http: str, seen: list[Seen]) -> None:
    """Follows the live feed until it breaks off."""
    with contextlib.suppress(aiohttp.ClientError):
        async with aiohttp.ClientSession() as client, client.get(f"{http}/v1/events") as response:
            async for line in response.content:
                if line.startswith(b"data:"):
                    e = json.loads(line[5:])
                    seen.append(Seen(e["call"], e["seq"], e["type"], e.get("text", ""), monotonic()))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outcome, list[Seen]]]:
    """`kill -9` in mid-speech, while Redis is away; then a new process on the same spool."""
    folder = tmp_path_factory.mktemp("killed")
    with RedisServer(**DURABLE) as redis, stand_in(folder) as provider:
        seen: list[Seen] = []
        with service(folder, redis, provider.url) as running:
            killed_at = asyncio.run(kill_in_mid_speech(running, redis, seen))
        redis.resume()
        with service(folder, redis, provider.url) as running:
            results = asyncio.run(play(running, CUT, calls=1, rate=1))
            running.collect(N_KILLED + 1)
            streams = Streams.read(redis.url)
            table = check(streams, legs=legs_of(running.log_lines()))
            accepted = [event for event in seen if event.at <= killed_at - ACCEPTED_AFTER - LEEWAY and event.seq]
            yield Outcome(results, streams, table, running), accepted


async def kill_in_mid_speech(running: Running, redis: RedisServer, seen: list[Seen]) -> float:
    """Answers when."""
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(running.http, seen))
        calls = group.create_task(play(running, STORM, calls=N_KILLED, rate=20))
        await asyncio.sleep(2.0)
        redis.pause()
        await asyncio.sleep(2.5)
        os.kill(running.process.pid, signal.SIGKILL)
        at = monotonic()
        calls.cancel()
        await asyncio.wait([calls])
        await watching
    return at


def test_of_what_was_accepted_before_kill_9_nothing_is_lost_or_doubled(killed: tuple[Outcome, list[Seen]]) -> None:
    outcome, accepted = killed
    assert len({event.call for event in accepted}) == N_KILLED
    stored = {
        Seen(call, entry.seq, entry.type, entry.fields.get("text", ""), 0.0)
        for call, entries in outcome.streams.calls.items()
        for entry in entries
    }
    lost = [event for event in accepted if replace(event, at=0.0) not in stored]
    assert lost == []
    assert outcome.table.violations == []


def test_calls_that_died_are_ended_as_crashed_and_new_ones_go_on(killed: tuple[Outcome, list[Seen]]) -> None:
    outcome, accepted = killed
    reasons = {call: entries[-1].data.get("reason") for call, entries in outcome.streams.calls.items()}
    assert {reasons.pop(call) for call in {event.call for event in accepted}} == {"crash"}
    assert list(reasons.values()) == ["hangup"]


N_FROZEN = 4
FROZEN = (2.0, 1.5)  # s after the first INVITE, and for how long: in the first line of every call


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Outcome, dict[str, int]]]:
    """The process stands still in mid-speech, as on a machine that is being moved; then SIGTERM while calls run."""
    folder = tmp_path_factory.mktemp("drained")
    with RedisServer() as redis, stand_in(folder) as provider, service(folder, redis, provider.url) as running:
        statuses: dict[str, int] = {}
        results = asyncio.run(freeze_and_drain(running, statuses))
        statuses["exit"] = running.process.wait(30)
        running.collect(N_FROZEN)
        streams = Streams.read(redis.url)
        table = check(streams, provider.connections(), legs=legs_of(running.log_lines()))
        yield Outcome(results, streams, table, running), statuses


async def freeze_and_drain(running: Running, statuses: dict[str, int]) -> list[CallResult]:
    async with asyncio.TaskGroup() as group:
        calls = group.create_task(play(running, STORM, calls=N_FROZEN, rate=20))
        await asyncio.sleep(FROZEN[0])
        running.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(FROZEN[1])
        running.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(1.0)
        running.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        async with aiohttp.ClientSession() as client:
            for path in ("/readyz", "/healthz"):
                async with client.get(running.http + path) as response:
                    statuses[path] = response.status
        (refused,) = await play(running, CUT, calls=1, rate=1)
        statuses["a new call"] = refused.status
    return calls.result()


def test_a_process_that_stands_still_for_a_while_loses_no_word_and_moves_none(
    drained: tuple[Outcome, dict[str, int]],
) -> None:
    outcome, _ = drained
    assert [result.reason for result in outcome.results] == ["done"] * N_FROZEN
    assert_words(outcome, outcome.results, STORM)
    assert outcome.table.violations == []


def test_a_drain_lets_calls_end_takes_no_new_ones_and_then_the_process_is_gone(
    drained: tuple[Outcome, dict[str, int]],
) -> None:
    outcome, statuses = drained
    assert statuses == {"/readyz": 503, "/healthz": 200, "a new call": 503, "exit": 0}
    reasons = {entries[-1].data["reason"] for entries in outcome.streams.calls.values()}
    assert reasons == {"hangup"}
