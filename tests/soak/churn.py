"""Calls without end, of every kind and at random, and the weather around them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from bridge.caller.call import place_calls
from bridge.caller.options import CallOptions
from bridge.caller.rtp_schedule import Faults, Mute
from bridge.clock import monotonic
from tests.flow.house import Running
from tests.flow.scenarios import NOT_ANSWERING, THANKS, WEASELS, WRONG, leg, plain
from tests.redis_server import Pair, RedisServer
from tests.soak.stand_in import StandIn

VERBS = ("hold", "resume", "mute", "unmute", "pause", "resume")
TALK = ((0.3, WRONG), (3.6, WEASELS))
HTTP_TIMEOUT = 10.0  # s; a loaded machine


def two_parties() -> CallOptions:
    """A recorded call."""
    legs = (leg("caller", ((0.3, WRONG),), cut_at=5.0), leg("agent", ((3.2, NOT_ANSWERING),), cut_at=5.0))
    return CallOptions("", legs, siprec=True)


KINDS: dict[str, CallOptions] = {
    "plain": plain(TALK).options,
    "short": plain(((0.2, THANKS),), cut_at=1.3).options,
    "cut in mid-word": plain(TALK, cut_at=5.0).options,
    "held twice": plain(TALK, holds=((1.0, 1.6), (3.4, 4.1))).options,
    "over a bad network": plain(TALK, faults=Faults(seed=1, loss=0.05, jitter_ms=30, reorder=0.02)).options,
    "with duplicates and another ssrc": plain(TALK, faults=Faults(duplicate=0.1, ssrc_changes=(3.0,))).options,
    "muted": plain(TALK, mutes=(Mute(1.5, 3.5, "stop"),)).options,
    "in G.722": plain(TALK, codec="G722").options,
    "in packets of 40 ms": plain(TALK, codec="PCMA", ptime_ms=40).options,
    "recorded": two_parties(),
}
WEIGHTS = (5, 3, 4, 2, 3, 1, 1, 1, 2, 2)


@dataclass
class Churn:
    """Places `rate` calls a second until told to stop. What happened is counted in `told`."""

    running: Running
    rate: float
    chance: random.Random
    told: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    async def run(self, seconds: float) -> None:
        """Returns once the last call is over."""
        async with asyncio.TaskGroup() as group:
            end = monotonic() + seconds
            while monotonic() < end:
                group.create_task(self._call())
                await asyncio.sleep(self.chance.expovariate(self.rate))

    async def _call(self) -> None:
        chance = self.chance
        kind = chance.choices(tuple(KINDS), WEIGHTS)[0]
        to = self.running.uri.replace("flow@", f"{chance.choice(('deepgram', 'deepgram', 'soniox'))}@")
        faults = replace(KINDS[kind].faults, seed=chance.getrandbits(30))
        options = replace(KINDS[kind], target=to, faults=faults)
        self.told[kind] += 1
        patience = None
        if chance.random() < 0.25:
            self.told["hung up at random"] += 1
            patience = chance.choice((0.0, 0.01, chance.uniform(0, 6)))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                for result in await place_calls(options):
                    self.reasons[result.reason] += 1

    # -- weather ----------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        def ask() -> Any:
            request = urllib.request.Request(self.running.http + path, method=method, data=body)
            try:
                with urllib.request.urlopen(request, timeout=HTTP_TIMEOUT) as response:
                    return json.loads(response.read() or b"null")
            except (OSError, ValueError):
                return None

        return await asyncio.to_thread(ask)

    async def agents(self) -> None:
        """Desktops: a verb for some leg, the end of some call, a call of plain RTP, a few times a second, for ever."""
        chance = self.chance
        while True:
            await asyncio.sleep(chance.expovariate(4.0))
            listed = await self._ask("GET", "/v1/calls")
            calls = [call for call in (listed or {}).get("calls", []) if call["state"] == "running" and call["legs"]]
            if chance.random() < 0.05:
                await self._ask("POST", "/v1/calls", b'{"legs":[{"role":"caller"},{"role":"agent","codec":"G722"}]}')
                self.told["external media"] += 1
            if not calls:
                continue
            call = chance.choice(calls)
            if call["ingress"] == "external" or chance.random() < 0.05:
                await self._ask("DELETE", f"/v1/calls/{call['id']}")
                self.told["ended by the API"] += 1
            else:
                leg = chance.choice(call["legs"])["leg"]
                await self._ask("POST", f"/v1/calls/{call['id']}/legs/{leg}/{chance.choice(VERBS)}")
                self.told["verbs"] += 1

    async def end_all(self) -> None:
        """Whatever nobody else ends."""
        for call in (await self._ask("GET", "/v1/calls") or {}).get("calls", []):
            await self._ask("DELETE", f"/v1/calls/{call['id']}")

    async def gauges(self) -> dict[str, float]:
        """What the service says it holds, by metric."""

        def ask() -> str:
            with urllib.request.urlopen(f"{self.running.http}/metrics", timeout=HTTP_TIMEOUT) as response:
                return str(response.read().decode())

        lines = [line.split() for line in (await asyncio.to_thread(ask)).splitlines() if "{" not in line]
        return {line[0].removeprefix("callbridge_"): float(line[1]) for line in lines if line[0].startswith("callb")}

    async def status(self) -> dict[str, Any]:
        return dict(await self._ask("GET", "/v1/status") or {})


async def weather(redis: Pair, providers: dict[str, StandIn], chance: random.Random, told: Counter[str]) -> None:
    """Redis and the providers break in every way, one thing at a time, for ever. Cancelled, it puts Redis right. What
    keeps the master away for longer than a sentinel's patience of half a second swaps it with its replica."""
    storms: list[Callable[[], Any]] = []

    async def swapped(old: RedisServer) -> None:
        """One that comes back must have all that there is before the other may go."""
        await asyncio.sleep(1.0)  # for the sentinel to make up its mind
        if await asyncio.to_thread(lambda: redis.master) is not old:
            told["redis failed over"] += 1
        await asyncio.to_thread(redis.wait_for_replica)

    async def redis_killed() -> None:
        master = await asyncio.to_thread(lambda: redis.master)
        await asyncio.to_thread(master.kill)
        await asyncio.sleep(chance.uniform(0, 3))
        await asyncio.to_thread(master.start)
        await swapped(master)

    async def redis_stopped() -> None:
        master = await asyncio.to_thread(lambda: redis.master)
        master.pause()
        try:
            await asyncio.sleep(chance.uniform(0.1, 4))
        finally:
            master.resume()
        await swapped(master)

    async def redis_full() -> None:
        master = await asyncio.to_thread(lambda: redis.master)
        with master.client() as client:
            await asyncio.to_thread(client.config_set, "maxmemory", "1")
            await asyncio.sleep(chance.uniform(0.1, 3))
            await asyncio.to_thread(client.config_set, "maxmemory", "0")

    async def provider_dropped() -> None:
        await asyncio.to_thread(chance.choice(list(providers.values())).drop)

    async def provider_refuses() -> None:
        provider = chance.choice(list(providers.values()))
        await asyncio.to_thread(provider.refuse, chance.choice((429, 503)))
        await asyncio.to_thread(provider.drop)
        await asyncio.sleep(chance.uniform(0.1, 4))
        await asyncio.to_thread(provider.serve)

    storms += [redis_killed, redis_stopped, redis_full, provider_dropped, provider_dropped, provider_refuses]
    while True:
        await asyncio.sleep(chance.uniform(1, 5))
        storm = chance.choice(storms)
        told[storm.__name__.replace("_", " ")] += 1
        await asyncio.shield(storm())
