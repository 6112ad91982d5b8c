"""Chromium's microphone over WHIP into `callbridge serve`, a provider stand-in that listens, words in real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.demo.verdict import Event
from bridge.emulator.recordings import load
from tests.flow.house import Running, provider, service
from tests.redis_server import RedisServer, is_installed
from tests.web.chromium import chromium, find_chromium

RATE_HZ = 48000
LEAD = 2.5  # s of silence before the first line: the connection is up by then
MUTED = 12.0  # s
BEFORE, AFTER = "agent-patience", "agent-goodbye"
DURING = "agent-having-problems"
UNPROCESSED = """const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
media.getUserMedia = ({ audio }) => open({ audio: { ...audio, echoCancellation: false } });"""
"""The stand-in finds recordings by their signal, and Chromium's echo canceller bends it."""
RIGHT = 0.040  # s; the two lines' distance, the browser's own clock and buffers included
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(180)]


class Tape:
    """A WAV for the fake microphone: one line, 13 s with another one in it that nobody may hear, one more line."""

    def __init__(self, path: Path) -> None:
        library = load()
        before, during, after = (library[name] for name in (BEFORE, DURING, AFTER))
        self.mute_at = LEAD + before.seconds + 2.0
        self.at = {BEFORE: LEAD, DURING: self.mute_at + 3.0, AFTER: self.mute_at + MUTED + 2.0}
        self.seconds = self.at[AFTER] + after.seconds + 1.5
        samples = np.zeros(round(self.seconds * RATE_HZ), np.int16)
        for recording in (before, during, after):
            start = round(self.at[recording.name] * RATE_HZ)
            n = round(recording.seconds * RATE_HZ)
            source = recording.samples.astype(float)
            at = np.arange(n) * len(source) / n
            samples[start : start + n] = np.interp(at, np.arange(len(source)), source)
        with wave.open(str(path), "wb") as out:
            out.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
            out.writeframes(samples.tobytes())


class Played:
    """One call that is muted and ended, one whose browser is killed; both at once."""

    def __init__(self, running: Running, folder: Path) -> None:
        find_chromium()
        self.tape = Tape(folder / "microphone.wav")
        self.shown = ""
        asyncio.run(self._play(running, folder / "microphone.wav"))
        with contextlib.suppress(KeyError):  # these calls have no SIP Call-ID; `running.events` has them all the same
            running.collect(2)
        by_end = {events[-1].data.get("reason"): events for events in running.events.values()}
        self.muted: list[Event] = by_end.get("hangup", [])
        self.killed: list[Event] = by_end.get("timeout", [])

    async def _play(self, running: Running, microphone: Path) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._mute_and_end(running, microphone))
            group.create_task(self._kill(running, microphone))

    async def _mute_and_end(self, running: Running, microphone: Path) -> None:
        async with chromium(microphone=microphone) as context:
            page = await self._call(running, context)
            begun = time.monotonic()
            await asyncio.sleep(self.tape.mute_at - 0.8)
            mute = page.get_by_role("button", name="Mute", exact=True)
            await mute.first.click()
            await asyncio.sleep(MUTED)
            await mute.first.click()
            await asyncio.sleep(max(0.0, begun + self.tape.seconds - time.monotonic()))
            self.shown = await page.locator(".card.mine .words").inner_text()
            await page.get_by_role("button", name="End call").first.click()
            await page.get_by_role("button", name="Call from this browser").wait_for(state="visible")
            await asyncio.sleep(0.5)

    async def _kill(self, running: Running, microphone: Path) -> None:
        async with chromium(microphone=microphone) as context:
            await self._call(running, context)
            await asyncio.sleep(LEAD + 1.0)
            assert context.browser is not None
            session = await context.browser.new_browser_cdp_session()
            told = await session.send("SystemInfo.getProcessInfo")
            for process in told["processInfo"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process["id"], signal.SIGKILL)

    async def _call(self, running: Running, context: Any) -> Any:
        page = await context.new_page()
        await page.add_init_script(UNPROCESSED)
        await page.goto(running.http)
        await page.get_by_role("button", name="Call from this browser").click()
        await page.get_by_text("You are on the line").wait_for()
        return page


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("whip")
    with (
        RedisServer() as redis_server,
        provider(folder) as stand_in,
        service(folder, redis_server, stand_in.url) as running,
    ):
        yield Played(running, folder)


def words(events: list[Event]) -> list[tuple[str, float]]:
    """(bare word, start) of every final."""
    found = [word for event in events if event.type == "transcript.final" for word in event.data["words"]]
    return [(str(text).strip(".,!?").lower(), float(start)) for text, start, *_ in found]


def test_words_from_the_microphone_stand_in_redis_and_on_the_page(played: Played) -> None:
    heard = [text for text, _ in words(played.muted)]
    expected = [word.text for name in (BEFORE, AFTER) for word in load()[name].words]
    assert heard == expected
    assert load()[BEFORE].text.split()[0].strip(".,") in played.shown


def test_12_muted_seconds_cost_nothing_and_the_words_after_them_have_the_right_time(played: Played) -> None:
    heard = words(played.muted)
    library = load()
    n = len(library[BEFORE].words)
    distance = heard[n][1] - heard[0][1]
    tape = played.tape.at
    expected = tape[AFTER] + library[AFTER].words[0].start - tape[BEFORE] - library[BEFORE].words[0].start
    assert distance == pytest.approx(expected, abs=RIGHT)
    (ledger,) = played.muted[-1].data["legs"].values()
    assert ledger["withheld_s"]["mute"] > MUTED - 1.6  # `mute_after_ms` of it is told as silence
    spoken = sum(library[name].seconds for name in (BEFORE, AFTER))
    assert ledger["sent_s"] < spoken + 3.0
    print(f"distance {distance - expected:+.3f} s, sent {ledger['sent_s']} of {ledger['received_s']} s")


def test_the_call_ends_with_its_last_words_published(played: Played) -> None:
    kinds = [event.type for event in played.muted]
    assert kinds[-1] == "call.ended"
    assert kinds.count("call.ended") == 1
    assert "turn.ended" in kinds


def test_a_killed_browser_ends_its_call_within_15_s(played: Played) -> None:
    assert played.killed, "no call ended as a timeout"
    lived = LEAD + 1.0
    assert lived + 5.0 < played.killed[-1].data["duration_s"] < lived + 15.0 + 2.0  # 2 s to connect, under load
