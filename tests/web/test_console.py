"""The console in a real browser, over fakes of what it reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from bridge.config import HttpSettings, RtpSettings
from bridge.gate.thresholds import ZERO as DIGITAL_SILENCE
from bridge.ingress.webrtc import WebRtc
from bridge.metrics import Metrics
from bridge.publish import events
from tests.ingress.fake_host import FakeHost
from tests.web.chromium import chromium
from tests.web.conftest import Serve, Site
from tests.web.stage import Actor

SOON = 5000  # ms; Playwright's waiting


@pytest.fixture
async def page() -> AsyncIterator[Any]:
    """A page whose errors fail the test: a script error, or something that the content policy had to stop."""
    async with chromium(viewport={"width": 1280, "height": 900}) as context:
        one = await context.new_page()
        wrong: list[str] = []
        one.on("pageerror", lambda error: wrong.append(str(error)))
        one.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
        one.set_default_timeout(SOON)
        yield one
        assert wrong == []


def quick_call(site: Site, name: str = "call-1", **more: Any) -> Actor:
    """A call at 60 s of its plot, told at once."""
    actor = Actor(site.calls, name, begun_s=60.0)
    actor.start(more.get("from_", "+1 555 0100"), "+1 800 555 0199")
    for due in actor.play():
        if due > 60.0:
            break
        actor.advance(max(due, actor.at))
    actor.advance(60.0)
    return actor


async def test_a_call_shows_its_parties_lanes_words_and_what_was_not_spent(site: Site, page: Any) -> None:
    site.calls.live.clear()
    quick_call(site)
    await page.goto(site.url)
    card = page.locator(".card")
    await card.get_by_text("+1 555 0100 → +1 800 555 0199").wait_for()
    await card.get_by_text("there was a duplicate charge on the fourth").wait_for()
    figures = await card.locator(".figures").inner_text()
    assert "received 2.0 min" in figures
    assert "hold 50.0 s" in figures
    assert "not spent" in figures
    labels = [await lane.get_attribute("aria-label") for lane in await card.locator(".lane canvas").all()]
    assert labels[0].startswith("caller: silence. Sent")
    painted = (
        """(canvas) => new Set(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size"""
    )
    assert await card.locator(".lane canvas").first.evaluate(painted) > 20


async def test_an_interim_is_grey_until_its_final_replaces_it(site: Site, page: Any) -> None:
    site.calls.live.clear()
    actor = Actor(site.calls, "call-1", begun_s=1.0)
    actor.start("a", "b")
    await page.goto(site.url)
    await page.locator(".card").wait_for()
    leg = {"leg": "leg1", "role": "caller", "start": 0.2, "end": 0.9, "words": [], "utterance": "u1"}
    actor.tell(events.transcript_interim, 0.5, text="hello word", revision=1, **leg)
    await page.locator(".guess", has_text="hello word").wait_for()
    final = {"turn": 1, "language": "en", "confidence": 0.9, "provider": "deepgram"}
    actor.tell(events.transcript_final, 0.9, text="Hello world.", **leg, **final)
    await page.locator(".said", has_text="Hello world.").wait_for()
    assert await page.locator(".guess").inner_text() == ""
    assert await page.locator(".words li").count() == 1


async def test_markup_in_names_numbers_and_words_stays_text(site: Site, page: Any) -> None:
    site.calls.live.clear()
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    actor = quick_call(site, from_=evil)
    actor.live["legs"][0]["participant"] = actor.live["labels"]["queue"] = evil
    await page.goto(site.url)
    await page.locator(".who", has_text="<img src=x").wait_for()
    actor.tell(events.transcript_interim, 60.5, leg="leg1", role=evil, text=evil, start=60.1, end=60.4, utterance="e",
               revision=1, words=[])  # fmt: skip
    await page.locator(".guess", has_text="<script>").wait_for()
    assert await page.title() == "callbridge"
    assert await page.locator(".card img, .card script").count() == 0


async def test_the_buttons_of_a_leg_reach_the_api_and_end_ends_the_call(site: Site, page: Any) -> None:
    site.calls.live.clear()
    site.calls.act = lambda call, leg, verb, at: site.calls.done.append((call, leg, verb)) or True  # type: ignore[method-assign, func-returns-value]
    quick_call(site)
    await page.goto(site.url)
    await page.get_by_role("button", name="Details").click()
    agent = page.get_by_role("group", name="agent")
    await agent.get_by_role("button", name="Hold").click()
    await agent.get_by_role("button", name="Pause").click()
    await until(lambda: len(site.calls.done) == 2)
    assert site.calls.done == [("call-1", "leg2", "hold"), ("call-1", "leg2", "pause")]
    await page.get_by_role("button", name="End call").click()
    await until(lambda: not site.calls.live)


async def test_a_finished_call_is_opened_again_from_the_store(site: Site, page: Any) -> None:
    site.calls.live.clear()
    actor = Actor(site.calls, "old-call", begun_s=200.0)
    actor.start("+1 555 0100", "+1 800")
    for due in actor.play():
        actor.advance(max(due, actor.at))
    await page.goto(site.url)
    await page.get_by_text("No calls now").wait_for()
    await page.get_by_role("tab", name="Live").focus()
    await page.keyboard.press("ArrowRight")
    await page.get_by_text("+1 555 0100 → +1 800").wait_for()
    await page.get_by_text("ended: hangup").wait_for()
    assert "paused 20.0 s" in await page.locator(".figures").inner_text()
    assert "1:40" in await page.locator(".when").inner_text()


async def test_a_token_is_asked_for_and_a_wrong_one_is_said_to_be(serve: Serve, page: Any) -> None:
    async with serve(tokens=("s3cret",)) as site:
        await page.goto(site.url)
        await page.get_by_role("textbox", name="Token").fill("wrong")
        await page.keyboard.press("Enter")
        await page.get_by_text("not known here").wait_for()
        await page.get_by_role("textbox", name="Token").fill("s3cret")
        await page.get_by_role("button", name="Open the console").click()
        await page.get_by_text("Ready, 2 of").wait_for()
        await page.locator(".card").nth(1).wait_for()
        assert await page.get_by_role("textbox", name="Token").count() == 0


async def test_a_lost_stream_comes_back_without_losing_or_doubling_words(site: Site, page: Any) -> None:
    site.calls.live.clear()
    actor = Actor(site.calls, "call-1", begun_s=1.0)
    actor.start("a", "b")
    await page.goto(site.url)
    await page.locator(".card").wait_for()

    def say(text: str, turn: int) -> None:
        actor.tell(events.transcript_final, turn, leg="leg1", role="caller", text=text, start=turn, end=turn + 0.5,
                   utterance=f"u{turn}", turn=turn, language="en", confidence=1.0, provider="x", words=[])  # fmt: skip
        actor.tell(events.turn_ended, turn, leg="leg1", role="caller", text=text, start=turn, end=turn + 0.5, turn=turn,
                   reason="silence", latency_ms=1)  # fmt: skip

    say("before the break", 1)
    await page.get_by_text("before the break").wait_for()
    site.calls.feeds.close()
    say("during the break", 2)
    await page.get_by_text("during the break").wait_for()
    say("after the break", 3)
    await page.get_by_text("after the break").wait_for()
    assert await page.locator(".words li").count() == 3


async def test_200_calls_at_once_stay_smooth(site: Site, page: Any) -> None:
    site.calls.live.clear()
    actors = [quick_call(site, f"call-{n:03d}", from_=f"+1 555 {n:04d}") for n in range(200)]
    await page.goto(site.url)
    await page.locator(".card").nth(199).wait_for(state="attached", timeout=15_000)
    await page.evaluate(
        """() => { window.longest = 0; let last = performance.now();
        const beat = (now) => {
          window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(beat); };
        requestAnimationFrame((now) => { last = now; requestAnimationFrame(beat); }); }"""
    )
    for step in range(8):
        for actor in actors:
            actor.tell(events.transcript_interim, 60.5, leg="leg1", role="caller", text=f"word {step}", start=60.1,
                       end=60.4, utterance="i", revision=step, words=[])  # fmt: skip
        await page.mouse.wheel(0, 800)
        await asyncio.sleep(0.25)
    longest = await page.evaluate("window.longest")
    print(f"longest frame with 200 calls and 800 events a second: {longest:.0f} ms")
    assert longest < 1000, "the page froze"
    await page.get_by_label("Find calls").fill("0137")
    await page.locator(".card:not([hidden])").nth(1).wait_for(state="detached")
    assert await page.locator(".card:not([hidden])").count() == 1


async def test_on_a_phone_nothing_is_wider_than_the_screen(site: Site) -> None:
    site.calls.live.clear()
    quick_call(site)
    async with chromium(viewport={"width": 360, "height": 740}, color_scheme="dark") as context:
        page = await context.new_page()
        await page.goto(site.url)
        await page.get_by_role("button", name="Details").click()
        await page.get_by_role("group", name="agent").wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        small = (
            "(b) => b.filter((e) => e.offsetParent && e.getBoundingClientRect().height < 44).map((e) => e.textContent)"
        )
        assert await page.locator("main button").evaluate_all(small) == []


async def test_a_call_from_the_browsers_microphone_is_heard_muted_and_ended(page: Any) -> None:
    host = FakeHost()
    way_in = WebRtc(host, rtp=RtpSettings(), metrics=Metrics())
    await way_in.open()
    site = Site(HttpSettings(listen="127.0.0.1:0"), whip=way_in)
    await site.server.open()
    try:
        await page.goto(site.url)
        await page.get_by_role("button", name="Call from this browser").click()
        await page.get_by_text("You are on the line").wait_for()
        leg = host.calls[0].seats[0]
        await until(lambda: leg.seconds > 1.0)
        assert np.abs(leg.samples).max() > 1000, "Chromium's fake microphone beeps"
        await page.get_by_role("button", name="Mute").click()
        await asyncio.sleep(0.5)
        before = len(leg.pieces)
        await until(lambda: len(leg.pieces) > before + 50)
        assert max(int(np.abs(piece).max()) for _, piece in leg.pieces[before:]) <= DIGITAL_SILENCE
        await page.get_by_role("button", name="End call").click()
        await until(lambda: host.calls[0].reason == "hangup")
    finally:
        await site.server.close()
        await way_in.close()


async def test_a_call_is_made_muted_and_ended_by_keyboard_alone(page: Any) -> None:
    host = FakeHost()
    way_in = WebRtc(host, rtp=RtpSettings(), metrics=Metrics())
    await way_in.open()
    site = Site(HttpSettings(listen="127.0.0.1:0"), whip=way_in)
    await site.server.open()
    try:
        await page.goto(site.url)
        focused = "document.activeElement.id"
        for _ in range(2):
            await page.keyboard.press("Tab")
        assert await page.evaluate(focused) == "speak"
        await page.keyboard.press("Enter")
        await page.get_by_text("You are on the line").wait_for()
        assert await page.evaluate(focused) == "own-mute", "the pressed button is disabled: focus must not be lost"
        await page.keyboard.press("Space")
        await page.get_by_text("You are muted").wait_for()
        await page.keyboard.press("Space")
        await page.get_by_text("You are on the line").wait_for()
        for _ in range(2):
            await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await until(lambda: host.calls[0].reason == "hangup")
        assert await page.evaluate(focused) == "speak"
    finally:
        await site.server.close()
        await way_in.close()


async def test_what_a_provider_bills_for_its_stream_is_told_as_spent(site: Site, page: Any) -> None:
    site.calls.live.clear()
    actor = quick_call(site)
    for leg in actor.live["legs"]:
        leg["ledger"].update({"received_s": 36000.0, "withheld_s": {"hold": 18000.0}, "billable_s": 27000.0})
    await page.goto(site.url)
    await page.locator(".figures").get_by_text("2.300 not spent").wait_for()
    await page.get_by_text("6.900").wait_for()
    assert await page.locator("#t-spent").inner_text() == "6.900", "7.5 h of two legs at 0.46"


async def test_a_page_that_is_reloaded_in_its_call_joins_it_again_and_only_then(page: Any) -> None:
    host = FakeHost()
    way_in = WebRtc(host, rtp=RtpSettings(), metrics=Metrics())
    await way_in.open()
    site = Site(HttpSettings(listen="127.0.0.1:0"), whip=way_in)
    await site.server.open()
    try:
        await page.goto(site.url)
        await page.get_by_role("button", name="Call from this browser").click()
        await until(lambda: bool(host.calls) and host.calls[0].seats[0].seconds > 0.5)
        await page.reload()
        await page.get_by_text("You are on the line").wait_for()
        (call,) = host.calls
        await until(lambda: len(call.seats) == 2 and call.seats[1].seconds > 0.5)
        assert call.seats[1].role == call.seats[0].role
        assert call.seats[0].ended_at is not None
        assert call.reason == ""
        await page.get_by_role("button", name="End call").click()
        await until(lambda: call.reason == "hangup")
        await page.reload()
        await page.get_by_role("button", name="Call from this browser").wait_for()
        await asyncio.sleep(0.5)
        assert not await page.locator("#own").is_visible(), "an ended call is not taken up again"
        assert len(host.calls) == 1
    finally:
        await site.server.close()
        await way_in.close()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not is_so():  # noqa: ASYNC110 - the browser does not tell us
            await asyncio.sleep(0.02)
