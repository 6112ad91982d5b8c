"""An hour of calls by SIPp, ten a second, held, cancelled, refused and lost: nothing may be left of them."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

from tests.ingress.sip_fakes import FakeHost, port_of, served
from tests.wire import sipp

pytestmark = [pytest.mark.soak, pytest.mark.skipif(sipp.SIPP is None, reason="sipp is not installed")]
SECONDS = float(os.environ.get("CALLBRIDGE_SOAK_S", "3600"))
ROUND = 10.0  # s of one scenario's calls
ROUNDS_WARM = 2
"Until caches, free lists and buffers have their size."


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def n_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class ForgetfulHost(FakeHost):
    """Keeps no call that is over, so that what grows is ours."""

    def forget(self) -> None:
        assert all(len(call.reasons) == 1 for call in self.calls)
        self.calls.clear()


async def test_an_hour_of_churn_leaves_nothing() -> None:
    host = ForgetfulHost()
    scenarios = ["basic", "hold", "offerless", "siprec", "cancel", "resent", "refused", "options"]
    rss: list[int] = []
    descriptors: list[int] = []
    async with served(host, rate_per_source=1000.0) as (ingress, _):
        port = port_of(ingress, "udp")
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while loop.time() < end:
            for scenario in scenarios:
                n = int(ROUND / len(scenarios) * 10) + 1
                await sipp.run(scenario, port, calls=n, rate=10)
            async with asyncio.timeout(40):
                while ingress.endpoint.n_dialogs:  # noqa: ASYNC110 - a lost last ACK takes 32 s
                    await asyncio.sleep(0.1)
            host.forget()
            gc.collect()
            rss.append(rss_bytes())
            descriptors.append(n_descriptors())
        async with asyncio.timeout(60):
            while ingress.endpoint.n_transactions:  # noqa: ASYNC110 - they linger for 32 s
                await asyncio.sleep(0.5)
        assert ingress.endpoint.deadline() is None
    shown = [value // 2**20 for value in rss[:: max(1, len(rss) // 10)]]
    print(f"rounds {len(rss)}, RSS {shown} MiB, descriptors {descriptors[-1]}")
    assert max(descriptors[ROUNDS_WARM:], default=0) <= descriptors[0] + 2
    settled = rss[ROUNDS_WARM:]
    assert not settled or settled[-1] < settled[0] * 1.05 + 4 * 2**20
