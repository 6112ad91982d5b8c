"""A call that runs while somebody floods the house: nothing of it may change, and whoever calls properly gets in."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallResult
from bridge.demo.verdict import Event, compare, finals_of
from tests.redis_server import RedisServer, is_installed

from .house import ROOT, Running, provider, service
from .scenarios import THANKS, WRONG, plain

RATE = 5  # calls a second that one source may make
SECONDS = 5.0
LATE = 0.8  # s into the attack at which a second caller calls
WORD_TOLERANCE = 0.020  # s, the contract
VICTIM = plain(((0.5, WRONG), (3.9, THANKS)))
SECOND = plain(((0.5, "caller-weasels"),))
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


@dataclass
class Siege:
    results: dict[str, CallResult]
    events: dict[str, list[Event]]
    attacker: dict[str, int]
    metrics: dict[str, float]
    log: list[dict[str, object]]


async def besiege(running: Running, rtp: list[int]) -> tuple[dict[str, CallResult], dict[str, int]]:
    results: dict[str, CallResult] = {}

    async def call(name: str, after: float) -> None:
        await asyncio.sleep(after)
        options = {"victim": VICTIM, "second": SECOND}[name].options
        (results[name],) = await place_calls(replace(options, target=running.uri))

    told = {"sip": int(running.uri.rpartition(":")[2]), "rtp": rtp, "seconds": SECONDS, "neighbour": True}
    async with asyncio.TaskGroup() as group:
        group.create_task(call("victim", 0))
        await asyncio.sleep(0.3)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.wire.attacker", json.dumps(told), cwd=ROOT, stdout=asyncio.subprocess.PIPE
        )
        group.create_task(call("second", LATE))
        output, _ = await process.communicate()
    return results, json.loads(output)


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder = tmp_path_factory.mktemp("siege")
    sections: dict[str, dict[str, object]] = {"sip": {"rate_per_source": RATE}, "service": {"drain_s": 1}}
    with (
        RedisServer() as redis,
        provider(folder) as stand_in,
        service(folder, redis, stand_in.url, **sections) as running,
    ):
        rtp = tomllib.loads(Path(folder, "callbridge.toml").read_text())["rtp"]["ports"]
        results, attacker = asyncio.run(besiege(running, rtp))
        deadline = time.monotonic() + 20
        wanted = {result.sip_call_id for result in results.values()}
        found: dict[str, list[Event]] = {}
        while time.monotonic() < deadline:
            found = {name: events for name, events in running.collect(0).items() if name in wanted}
            if len(found) == len(wanted) and all(events[-1].type == "call.ended" for events in found.values()):
                break
            time.sleep(0.1)
        events = {name: found[result.sip_call_id] for name, result in results.items()}
        yield Siege(results, events, attacker, metrics(running.http), running.log_lines())


def metrics(http: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{http}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


@pytest.mark.parametrize("name", ["victim", "second"])
def test_every_word_of_a_proper_call_is_there_in_its_place_and_none_of_the_attackers(siege: Siege, name: str) -> None:
    assert siege.results[name].ok, siege.results[name].reason
    heard = compare({"victim": VICTIM, "second": SECOND}[name].words("caller"), finals_of(siege.events[name], "caller"))
    assert (heard.missing, heard.surplus) == ((), ())
    assert heard.worst <= WORD_TOLERANCE
    assert siege.events[name][-1].data["reason"] == "hangup"


@pytest.mark.parametrize("name", ["victim", "second"])
def test_its_packets_are_its_own(siege: Siege, name: str) -> None:
    ((sent,), ledger) = siege.results[name].legs, siege.events[name][-1].data["legs"]["leg1"]
    packets = ledger["packets"]
    assert packets["received"] + packets["late"] + packets["duplicate"] == sent.packets
    assert packets["lost"] == 0


def test_the_flood_was_one_and_met_refusals(siege: Siege) -> None:
    attacker = siege.attacker
    print(attacker)
    assert attacker["media"] > 1000
    assert attacker["invites"] > 100 * SECONDS
    assert attacker["503"] > attacker["invites"] / 2
    assert siege.metrics['callbridge_packets_total{kind="foreign"}'] > 500


def test_the_service_logs_no_error_and_not_a_line_for_every_packet(siege: Siege) -> None:
    assert [line for line in siege.log if line["level"] in ("error", "critical")] == []
    assert len(siege.log) < (RATE * SECONDS + RATE) * 10 + 200
