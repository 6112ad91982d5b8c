"""The whole process stands still for seconds (a paused virtual machine, a stuck disk), and the kernel keeps the RTP."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallResult
from bridge.demo.verdict import compare, finals_of
from tests.redis_server import RedisServer, is_installed

from .house import Running, provider, service
from .scenarios import NOT_ANSWERING, WEASELS, WRONG, plain

pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]
TALK = plain(((0.5, WRONG), (6.0, WEASELS), (10.5, NOT_ANSWERING)))
STOPPED = (5.2, 9.7)
"s; from silence into the second line, which is over by then."


async def play(running: Running) -> list[CallResult]:
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(place_calls(replace(TALK.options, target=running.uri, codec=codec)))
            for codec in ("PCMU", "G722")
        ]
        await asyncio.sleep(STOPPED[0])
        os.kill(running.process.pid, signal.SIGSTOP)
        await asyncio.sleep(STOPPED[1] - STOPPED[0])
        os.kill(running.process.pid, signal.SIGCONT)
    return [result for call in calls for result in call.result()]


def test_words_said_while_the_process_stood_still_come_late_and_whole_and_at_their_time(tmp_path: Path) -> None:
    with RedisServer() as redis, provider(tmp_path) as stand_in, service(tmp_path, redis, stand_in.url) as running:
        results = asyncio.run(play(running))
        events = running.collect(len(results))
    for result in results:
        told = events[result.sip_call_id]
        heard = compare(TALK.words(), finals_of(told, "caller"))
        assert (heard.missing, heard.surplus) == ((), ())
        assert heard.worst <= 0.03
        (ledger,) = told[-1].data["legs"].values()
        assert ledger["packets"]["lost"] == 0
        assert ledger["sent_s"] < 11, "the silence was withheld all the same"
        assert not any(event.data.get("reason") == "no rtp" for event in told if event.type == "leg.gate")
