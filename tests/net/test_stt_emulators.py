"""The driver against the stand-in providers, which are other people's reading of the same documents."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from bridge.emulator.options import EmulatorOptions, Fault
from bridge.emulator.server import serve
from bridge.model import AudioFormat
from bridge.net.stt_driver import SttDrivers
from bridge.stt import PROVIDERS
from bridge.stt.events import Final, Finalized, Finished, Lost, SttEvent
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber

MULAW = AudioFormat("mulaw", 8000)
CHUNK = bytes([0xFF]) * 800
SCRIPT = "zero one two three four five six seven eight nine"


async def transcribe(
    provider: str, *faults: str, spans: list[tuple[float, float]]
) -> tuple[list[SttEvent], Transcriber]:
    """Speaks in real time: the emulators' scripted recogniser says word k from k/2 s of the audio it got."""
    options = EmulatorOptions(
        provider=provider, recogniser="scripted", script=SCRIPT, faults=tuple(Fault.parse(f) for f in faults)
    )  # type: ignore[arg-type]
    events: list[SttEvent] = []
    finished = asyncio.Event()

    def on_events(new: list[SttEvent]) -> None:
        events.extend(new)
        if isinstance(new[-1], Finished):
            finished.set()

    async with serve(options) as server, SttDrivers() as drivers:
        made = PROVIDERS[provider]
        path = {"deepgram": "/v1/listen", "soniox": "/transcribe-websocket"}[provider]
        settings = made.settings_type(url=f"ws://127.0.0.1:{server.port}{path}", api_key="k")
        leg = Transcriber(
            routes=[Route(made, settings)], audio=MULAW, options=SttOptions(), breakers=Breakers(random.random),
            random=random.random,
        )  # fmt: skip
        driver = drivers.attach(leg, on_events)
        started = time.monotonic()
        for low, high in spans:
            for n in range(round(low * 10), round(high * 10)):
                await asyncio.sleep(max(started + (n + 1) / 10 - time.monotonic(), 0))
                leg.send_audio(CHUNK, n / 10, time.monotonic())
                driver.wake()
            leg.finalize(time.monotonic())
            driver.wake()
        leg.finish(time.monotonic())
        driver.wake()
        async with asyncio.timeout(30):
            await finished.wait()
    return events, leg


@pytest.mark.parametrize("provider", ["deepgram", "soniox"])
async def test_a_pause_moves_the_emulators_words_to_where_they_were_said(provider: str) -> None:
    events, leg = await transcribe(provider, spans=[(0.0, 1.0), (2.0, 3.0)])
    words = [word for event in events if isinstance(event, Final) for word in event.words]
    assert [word.text.strip(".").lower() for word in words] == ["zero", "one", "two", "three"]
    assert [word.start for word in words] == pytest.approx([0.0, 0.5, 2.0, 2.5], abs=0.02)
    assert [event.through for event in events if isinstance(event, Finalized)] == pytest.approx([1.0, 3.0])
    ledger = leg.ledger(time.monotonic())
    assert ledger.sent_s == pytest.approx(2.0)
    assert ledger.provider_s == pytest.approx(2.0, abs=0.1)
    assert ledger.lost_s == 0
    assert not [event for event in events if isinstance(event, Lost)]


@pytest.mark.parametrize("provider", ["deepgram", "soniox"])
async def test_a_dropped_stream_leaves_nothing_lost(provider: str) -> None:
    events, leg = await transcribe(provider, "drop=0.7@1", spans=[(0.0, 2.0)])
    assert len([event for event in events if isinstance(event, Lost)]) == 1
    ledger = leg.ledger(time.monotonic())
    assert ledger.sessions == 2
    assert ledger.lost_s == ledger.unsent_s == 0
    assert ledger.sent_s - ledger.replayed_s == pytest.approx(2.0)
