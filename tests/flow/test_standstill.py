"""The whole process stands still for seconds (a paused virtual machine, a stuck disk), and the kernel keeps the RTP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallOptions, CallResult
from bridge.demo.verdict import compare, finals_of
from tests.redis_server import RedisServer, is_installed

from .house import Running, provider, service
from .scenarios import LIBRARY, NOT_ANSWERING, WEASELS, WRONG, plain

pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]
TALK = plain(((0.5, WRONG), (6.0, WEASELS), (10.5, NOT_ANSWERING)))
STOPPED = (5.2, 9.7)
"s; from silence into the second line, which is over by then."


SHORT_TALK = plain(((0.5, WRONG), (4.5, WEASELS)))
"Its BYE comes while the process stands still."
HELD = (9.2, 11.5)
"s; begins before the process goes on, and behind the second line."
HELD_TALK = plain(((0.5, WRONG), (5.6, WEASELS), (12.0, NOT_ANSWERING)))


async def play(calls_to_place: Sequence[CallOptions], running: Running) -> list[CallResult]:
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(place_calls(options)) for options in calls_to_place]
        await asyncio.sleep(STOPPED[0])
        os.kill(running.process.pid, signal.SIGSTOP)
        await asyncio.sleep(STOPPED[1] - STOPPED[0])
        os.kill(running.process.pid, signal.SIGCONT)
    return [result for call in calls for result in call.result()]


def test_words_said_while_the_process_stood_still_come_late_and_whole_and_at_their_time(tmp_path: Path) -> None:
    with RedisServer() as redis, provider(tmp_path) as stand_in, service(tmp_path, redis, stand_in.url) as running:
        calls = [replace(TALK.options, target=running.uri, codec=codec) for codec in ("PCMU", "G722")]
        results = asyncio.run(play(calls, running))
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


def test_a_hold_signalled_while_the_process_stood_still_begins_where_it_was_signalled(tmp_path: Path) -> None:
    (audio,) = HELD_TALK.options.legs
    options = replace(HELD_TALK.options, legs=(replace(audio, hold_music=LIBRARY[WRONG].samples),), holds=(HELD,))
    with RedisServer() as redis, provider(tmp_path) as stand_in, service(tmp_path, redis, stand_in.url) as running:
        calls = [replace(options, target=running.uri + transport) for transport in ("", ";transport=tcp")]
        results = asyncio.run(play(calls, running))
        events = running.collect(len(results))
    for result in results:
        told = events[result.sip_call_id]
        heard = compare(HELD_TALK.words(), finals_of(told, "caller"))
        assert (heard.missing, heard.surplus) == ((), ()), "what was said before it, and nothing of the music"
        assert heard.worst <= 0.03
        (since,) = [event.data["since"] for event in told if event.data.get("cause") == "hold"]
        assert since == pytest.approx(result.holds[0][0], abs=0.1)
        (ledger,) = told[-1].data["legs"].values()
        assert ledger["withheld_s"]["hold"] == pytest.approx(HELD[1] - HELD[0], abs=0.3)


def test_a_call_that_hangs_up_while_the_process_stands_still_lasted_until_then(tmp_path: Path) -> None:
    with RedisServer() as redis, provider(tmp_path) as stand_in, service(tmp_path, redis, stand_in.url) as running:
        calls = [replace(SHORT_TALK.options, target=running.uri + transport) for transport in ("", ";transport=tcp")]
        results = asyncio.run(play(calls, running))
        events = running.collect(len(results))
    for result in results:
        ended = events[result.sip_call_id][-1].data
        lasted = result.ended_at - result.answered_at
        assert STOPPED[0] + 1 < lasted < STOPPED[1] - 1
        assert ended["duration_s"] == pytest.approx(lasted, abs=0.1)
        (ledger,) = ended["legs"].values()
        assert ledger["received_s"] + ledger["absent_s"] == pytest.approx(ended["duration_s"], abs=0.05)
