"""Subscribers as people run them: processes of their own, some of which are killed while a service publishes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.subscribe import replay
from tests.redis_server import RedisServer
from tests.test_subscribe import pending, write

N_CONSUMERS, N_KILLED = 10, 2
N_CALLS, N_EVENTS = 60, 30
CLAIM_AFTER = 1.5  # s
ALL_HANDLED = 60.0  # s; a loaded machine
CONSUMER = """
import asyncio, sys, time
from bridge.subscribe import subscribe

async def main(url, name, path):
    with open(path, "a", buffering=1) as told:
        async with subscribe(url, group="billing", consumer=name, claim_after=float(sys.argv[4]), count=20) as events:
            told.write("ready\\n")
            async for event in events:
                told.write(f"handled {event.call} {event.seq} {int(event.redelivered)}\\n")
                await asyncio.sleep(0.004)
                if await events.ack(event):
                    told.write(f"acknowledged {event.call} {event.seq}\\n")

asyncio.run(main(*sys.argv[1:4]))
"""
Key = tuple[str, int]


@dataclass
class Told:
    """What all consumers wrote down, whole lines only."""

    handled: dict[Key, list[bool]] = field(default_factory=lambda: defaultdict(list))
    "By call and number: for each time, whether it was marked redelivered."
    acknowledged: Counter[Key] = field(default_factory=Counter)
    ready: int = 0

    @classmethod
    def read(cls, paths: list[Path]) -> Told:
        told = cls()
        for path in paths:
            text = path.read_text() if path.exists() else ""
            for line in text[: text.rfind("\n") + 1].splitlines():
                what, *rest = line.split()
                if what == "handled":
                    told.handled[rest[0], int(rest[1])].append(rest[2] == "1")
                elif what == "acknowledged":
                    told.acknowledged[rest[0], int(rest[1])] += 1
                else:
                    told.ready += 1
        return told


@dataclass
class Group:
    """Ten consumers and what they wrote."""

    processes: list[subprocess.Popen[bytes]]
    paths: list[Path]

    def wait(self, seconds: float, *, ready: int = 0, handled: int = 0) -> Told:
        """Until so many are ready and so many different events are handled."""
        deadline = time.monotonic() + seconds
        while True:
            told = Told.read(self.paths)
            if (told.ready >= ready and len(told.handled) >= handled) or time.monotonic() > deadline:
                return told
            time.sleep(0.05)


@pytest.fixture
def group(redis_server: RedisServer, tmp_path: Path) -> Iterator[Group]:
    paths = [tmp_path / f"consumer-{n}" for n in range(N_CONSUMERS)]
    processes = [
        subprocess.Popen([sys.executable, "-c", CONSUMER, redis_server.url, path.name, str(path), str(CLAIM_AFTER)])
        for path in paths
    ]
    try:
        yield Group(processes, paths)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_of_ten_consumers_two_are_killed_and_every_event_is_handled_and_none_acknowledged_twice(
    redis_server: RedisServer, group: Group
) -> None:
    chance = random.Random(7)
    assert group.wait(ALL_HANDLED, ready=N_CONSUMERS).ready == N_CONSUMERS
    written = write(redis_server, N_CALLS, N_EVENTS)
    for process, n_handled in zip(chance.sample(group.processes, N_KILLED), (150, 700), strict=True):
        group.wait(ALL_HANDLED, handled=n_handled)
        process.send_signal(signal.SIGKILL)  # with an event in hand, and more that it has fetched
        process.wait()
    told = group.wait(ALL_HANDLED, handled=len(written))
    deadline = time.monotonic() + 10
    while (left := pending(redis_server, group="billing")) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = Told.read(group.paths)
    assert set(told.handled) == written
    assert left == 0
    assert set(told.acknowledged.values()) == {1}
    # a killed one may have acknowledged without having written it down: one event each
    assert len(written) - N_KILLED <= len(told.acknowledged) <= len(written)
    again = {key: marks for key, marks in told.handled.items() if len(marks) > 1}
    assert len(again) <= N_KILLED, "only what was in the hands of the dead may be handled twice"
    assert all(any(marks) for marks in again.values()), again
    assert any(mark for marks in told.handled.values() for mark in marks), "nothing was ever redelivered"


async def test_a_late_joiner_reads_a_call_from_its_start_while_others_have_long_read_it(
    redis_server: RedisServer, group: Group
) -> None:
    written = write(redis_server, 5, N_EVENTS)
    assert set(group.wait(ALL_HANDLED, handled=len(written)).handled) == written
    assert [event.seq async for event in replay(redis_server.url, "c3")] == list(range(1, N_EVENTS + 1))
