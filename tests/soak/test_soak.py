"""`make soak`: calls with chaos on all sides for SOAK_SECONDS (30 min), and what must hold at the end.

SOAK_RATE (10) is the number of calls placed in a second; SOAK_SEED makes a run again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.clock import monotonic
from tests.flow.house import Running, service
from tests.flow.test_chaos import ACCEPTED_AFTER, DURABLE, LEEWAY, Seen, watch
from tests.redis_server import Pair, RedisServer, is_installed
from tests.soak.churn import Churn, weather
from tests.soak.invariants import Streams, check, legs_of
from tests.soak.on_disk import events_on_disk
from tests.soak.stand_in import StandIn, stand_in

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
RATE = float(os.environ.get("SOAK_RATE", "10"))
SEED = int(os.environ.get("SOAK_SEED", "0")) or random.SystemRandom().getrandbits(30)
KILLS = 20
HELD = ("sip_dialogs", "sip_transactions", "rtp_ports")  # transactions linger for 32 s
SETTLE = 60.0  # s for the last words, for Redis to take what waited, and for closed sockets to go
KEEP_S = 10  # of the spool: what is kept for healing must be small against what would be a leak
WARM_UP = 3  # tenths of the run, after which memory must be flat
GROWTH = 0.10  # of resident memory that the rest of the run may add
GROWTH_BYTES = 24 << 20  # and what an allocator may add however short the run
pytestmark = [
    pytest.mark.soak,
    pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"),
    pytest.mark.timeout(0),
]


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Samples:
    """Resident memory over time."""

    bytes: list[int] = field(default_factory=list)

    async def take(self, pid: int) -> None:
        """Twice a second, for ever."""
        while True:
            self.bytes.append(resident_bytes(pid))
            await asyncio.sleep(0.5)

    def tenths(self) -> list[int]:
        """The median of each tenth of the run."""
        n = max(len(self.bytes) // 10, 1)
        return [sorted(self.bytes[at : at + n])[n // 2] for at in range(0, 10 * n, n)]


@contextlib.contextmanager
def providers(folder: Path) -> Iterator[dict[str, StandIn]]:
    """Both, saying a word every half second of what they get: cheap, and a word missing is audio missing."""
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(stand_in(folder, name, recogniser="scripted", keep_audio_bytes=0, throttle=0))
            for name in ("deepgram", "soniox")
        }


@contextlib.contextmanager
def serving(folder: Path, redis: RedisServer, stood_in: dict[str, StandIn], *, follow: str = "") -> Iterator[Running]:
    """`follow`: the URL of whoever knows which Redis is the master; else it is `redis`."""
    sections: dict[str, dict[str, object]] = {
        "[route]": {"match.to": "soniox", "stt.provider": "soniox"},
        "stt.soniox": {"url": stood_in["soniox"].url, "api_key": "flow", "park_after_s": 2.0},
        "spool": {"keep_s": KEEP_S},
        "redis": {"url": follow or redis.url},
        "sip": {"rate_per_source": 1000},
        "rtp": {"ports": [10000, 19999]},
    }
    with service(folder, redis, stood_in["deepgram"].url, **sections) as running:
        yield running


def all_stored(url: str) -> Streams:
    """Once every call that began has ended."""
    deadline = monotonic() + SETTLE
    while True:
        streams = Streams.read(url)
        if streams.ended == len(streams.shared) or monotonic() > deadline:
            return streams
        time.sleep(0.5)


async def settle(
    churn: Churn, pid: int, files_before: int | None = None, tasks_before: float | None = None
) -> dict[str, float]:
    """What is left of all that was, once it had time to go."""
    await churn.end_all()
    deadline = monotonic() + SETTLE
    while True:
        gauges = await churn.gauges()
        left = {name: gauges[name] for name in ("calls_running", "legs", *HELD)}
        left["tasks"] = 0 if tasks_before is None else max(gauges["tasks"] - tasks_before, 0)
        left["open files"] = 0 if files_before is None else max(open_files(pid) - files_before, 0)
        if not any(left.values()) or monotonic() > deadline:
            return left
        await asyncio.sleep(0.5)


async def live(running: Running, redis: Pair, stood_in: dict[str, StandIn], churn: Churn) -> Samples:
    samples = Samples()
    async with asyncio.TaskGroup() as group:
        beside = [
            group.create_task(samples.take(running.process.pid)),
            group.create_task(churn.agents()),
            group.create_task(weather(redis, stood_in, random.Random(SEED + 1), churn.told)),
        ]
        await churn.run(SECONDS)
        for task in beside:
            task.cancel()
    await asyncio.sleep(5)  # a storm that was under way
    await asyncio.to_thread(redis.wait_for_replica)
    return samples


def test_calls_with_chaos_on_all_sides_leave_every_invariant_standing(tmp_path: Path) -> None:
    with (
        Pair(**DURABLE) as redis,
        providers(tmp_path) as stood_in,
        serving(tmp_path, redis.master, stood_in, follow=redis.url) as running,
    ):
        pid, churn = running.process.pid, Churn(running, RATE, random.Random(SEED))
        asyncio.run(churn.run(1.0))  # what is opened once and stays
        asyncio.run(settle(churn, pid))
        time.sleep(1.5)  # sockets that are being closed
        files_before, threads_before = open_files(pid), threads(pid)
        tasks_before = asyncio.run(churn.gauges())["tasks"]
        samples = asyncio.run(live(running, redis, stood_in, churn))
        left = asyncio.run(settle(churn, pid, files_before, tasks_before))
        streams = all_stored(redis.master.url)
        connections = [c for provider in stood_in.values() for c in provider.connections()]
        table = check(streams, connections, legs=legs_of(running.log_lines()))
        errors = [line for line in running.log_lines() if line.get("level") in ("error", "critical")]
        tenths = samples.tenths()
        early, late = tenths[WARM_UP], tenths[-1]
        table["every call that began has ended"].see(streams.ended == len(streams.shared), f"{streams.ended}")
        table["no call, leg, dialog, transaction, port, task or open file is left"].see(
            not any(left.values()), str(left)
        )
        table["no thread is left"].see(threads(pid) <= threads_before + 4, f"{threads_before} to {threads(pid)}")
        allowed = early * (1 + GROWTH) + GROWTH_BYTES
        table["resident memory is flat"].see(late <= allowed, f"{early >> 20} MB to {late >> 20} MB")
        table["no error in the log"].see(not errors, str(errors[:3]))
        table["every provider connection is closed"].see(not any(c.is_open for c in connections), "some are open")
        print(f"\nsoak: seed {SEED}, {SECONDS:g} s, {len(streams.shared)} calls")
        print("  resident memory by tenths of the run, MB:", *(n >> 20 for n in tenths))
        print("\n".join(f"  {n:>8}  {what}" for what, n in sorted(churn.told.items())))
        print("  callers say:", dict(churn.reasons.most_common(8)))
        print(table.text())
        assert table.violations == []


# -- kill -9 ----------------------------------------------------------------------------------------------------------


@dataclass
class Killed:
    """What was known at the moments of death."""

    seen: list[Seen] = field(default_factory=list)
    "Events that the live feed had shown for long enough to be accepted."
    on_disk: dict[tuple[str, int], dict[str, str]] = field(default_factory=dict)
    "All that any of the spools held."
    died: set[str] = field(default_factory=set)
    "Calls that the spool knew of, and not their end."

    def take(self, folder: Path) -> None:
        """Looks at what the process that was just killed has left."""
        found = events_on_disk(folder / "spool")
        ended = {call for (call, _), fields in found.items() if fields["type"] == "call.ended"}
        self.on_disk |= found
        self.died |= {call for call, _ in found} - ended


async def until_killed(running: Running, redis: RedisServer, churn: Churn, killed: Killed) -> None:
    """Calls, and at a random moment `kill -9`; Redis may be away just then."""
    watched: list[Seen] = []
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(running.http, watched))
        calls = group.create_task(churn.run(3600))
        await asyncio.sleep(churn.chance.uniform(1.0, 3.0))
        if churn.chance.random() < 0.5:
            redis.pause()
        await asyncio.sleep(churn.chance.uniform(0.0, 2.0))
        os.kill(running.process.pid, signal.SIGKILL)
        at = monotonic()
        killed.take(running.log.parent)
        redis.resume()
        calls.cancel()
        await asyncio.wait([calls, watching])
    killed.seen += [event for event in watched if event.seq and event.at <= at - ACCEPTED_AFTER - LEEWAY]


def test_twenty_times_kill_9_loses_and_doubles_nothing_that_was_accepted(tmp_path: Path) -> None:
    killed = Killed()
    chance, told = random.Random(SEED), Counter[str]()
    with RedisServer(**DURABLE) as redis, providers(tmp_path) as stood_in:
        for _ in range(KILLS):
            with serving(tmp_path, redis, stood_in) as running:
                asyncio.run(until_killed(running, redis, Churn(running, RATE, chance, told), killed))
        with serving(tmp_path, redis, stood_in) as running:
            streams = all_stored(redis.url)
            table = check(streams)
        stored = {(call, entry.seq): entry.fields for call, entries in streams.calls.items() for entry in entries}
        kept = table["what the spool held at kill -9 stands in Redis, unchanged"]
        for key, fields in killed.on_disk.items():
            kept.see(stored.get(key) == fields, f"{key} {fields['type']}")
        shown = table["what was shown live 100 ms before kill -9 stands in Redis, unchanged"]
        for event in killed.seen:
            fields = stored.get((event.call, event.seq), {})
            shown.see((fields.get("type"), fields.get("text", "")) == (event.type, event.text), f"{event}")
        crashed = table["a call that died is ended once, with reason crash, and no other is"]
        for call, entries in streams.calls.items():
            reasons = [entry.data["reason"] for entry in entries if entry.type == "call.ended"]
            crashed.see((reasons == ["crash"]) == (call in killed.died), f"{call}: {reasons}")
        table["every call that began has ended"].see(streams.ended == len(streams.shared), f"{streams.ended}")
        print(
            f"\n{KILLS} times kill -9: seed {SEED}, {len(streams.shared)} calls, {len(killed.died)} of them died,",
            end="",
        )
        print(f" {len(killed.on_disk)} events in the spools, {len(killed.seen)} seen live")
        print(table.text())
        assert table.violations == []
        assert killed.died
        assert killed.on_disk
