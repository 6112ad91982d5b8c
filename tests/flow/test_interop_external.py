"""External media: `POST /v1/calls`, then plain RTP in every codec that there is an encoder for, key presses too."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from bridge.caller.audio import compose
from bridge.clock import monotonic
from bridge.demo.verdict import Event, finals_of
from bridge.emulator import recordings
from tests.redis_server import RedisServer, is_installed
from tests.wire import senders
from tests.wire.senders import Addressed, Press

from .house import Running, provider, service

LIBRARY = recordings.load()
LINES = ((0.4, "caller-weasels"), (5.4, "caller-not-answering"))
PRESSES = [Press("5", 4.2, 0.1), Press("5", 4.4, 0.06), Press("#", 4.6, 0.16)]
SECONDS = 7.6
CODECS = ("PCMA", "G722", "GSM", "G729", "OPUS")
SPREAD = 0.020  # s, the contract
CODED = 0.015  # s; what a codec's own delay (Opus 6.5 ms, G.729 5 ms of look-ahead) and an encoder's add
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


def can_encode(name: str) -> bool:
    try:
        senders.encoder(name)
    except OSError:
        return False
    return True


@dataclass
class Sent:
    """A call whose legs all say the same, each in a codec of its own."""

    events: list[Event]
    began: float
    "Call time at which every stream began."

    def of(self, kind: str, role: str) -> list[Event]:
        return [event for event in self.events if event.type == kind and event.role == role]


async def speak(running: Running, names: list[str]) -> float:
    """Places a call with a leg for each, ends it behind the last word; answers when the streams began, in call time."""
    legs = [{"role": name.lower(), "codec": name, "telephone_event": 101} for name in names]
    told = await asyncio.to_thread(
        ask, running, "POST", "/v1/calls", {"legs": legs, "correlation": {"sip_call_id": "x"}}
    )
    call_s = (await asyncio.to_thread(ask, running, "GET", f"/v1/calls/{told['id']}"))["call_s"]
    zero = monotonic() - call_s
    n_samples = round(SECONDS * recordings.RATE_HZ)
    noise = np.random.default_rng(3).normal(0, 10, n_samples).astype(np.int16)
    parts = [(0.0, noise), *((at, LIBRARY[name].samples) for at, name in LINES)]
    samples = compose(parts, rate_hz=recordings.RATE_HZ)[:n_samples]
    streams = []
    for leg in told["legs"]:
        (codec,) = leg["codecs"]
        to = Addressed(codec["codec"], codec["payload_type"], 101, (leg["address"], leg["port"]))
        streams.append((senders.packets(samples, to, PRESSES), to))
    start = monotonic() + 0.1
    async with asyncio.TaskGroup() as group:
        for stream, to in streams:
            group.create_task(senders.send(stream, to, start))
    await asyncio.to_thread(ask, running, "DELETE", f"/v1/calls/{told['id']}")
    return start - zero


def ask(running: Running, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(running.http + path, data, method=method), timeout=10) as answer:
        text = answer.read()
    return json.loads(text) if text else None


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Sent]]:
    """The same call by a service that may publish digits, and by one that is not told so."""
    folder = tmp_path_factory.mktemp("external")
    names = [name for name in CODECS if can_encode(name)]
    with ExitStack() as stack:
        stand_in = stack.enter_context(provider(folder))
        houses: dict[str, Running] = {}
        for name, sip in (("digits", {"dtmf_events": True}), ("no digits", {})):
            (folder / name).mkdir()
            redis = stack.enter_context(RedisServer())
            houses[name] = stack.enter_context(service(folder / name, redis, stand_in.url, sip=sip))

        async def both() -> list[float]:
            return await asyncio.gather(speak(houses["digits"], names), speak(houses["no digits"], ["PCMA"]))

        began = asyncio.run(both())
        found = [next(iter(house.collect(1).values())) for house in houses.values()]
        yield {name: Sent(events, at) for name, events, at in zip(houses, found, began, strict=True)}


@pytest.mark.parametrize("codec", CODECS)
def test_words_are_right_in_every_codec(calls: dict[str, Sent], codec: str) -> None:
    if not can_encode(codec):
        pytest.skip(f"nothing here encodes {codec} (Debian: libbcg729-0)")
    call = calls["digits"]
    heard = [word for event in finals_of(call.events, codec.lower()) for word in event.data["words"]]
    truth = [(w, at) for at, name in LINES for w in LIBRARY[name].words]
    assert [str(word[0]).lower().strip(".,;:!?") for word in heard] == [w.text for w, _ in truth]
    errors = [float(word[1]) - call.began - at - w.start for word, (w, at) in zip(heard, truth, strict=True)]
    assert max(errors) - min(errors) <= SPREAD
    assert max(abs(error) for error in errors) <= SPREAD + CODED


@pytest.mark.parametrize("codec", CODECS)
def test_a_key_press_is_one_event_however_many_packets_tell_it(calls: dict[str, Sent], codec: str) -> None:
    if not can_encode(codec):
        pytest.skip(f"nothing here encodes {codec} (Debian: libbcg729-0)")
    digits = [(e.data["digit"], e.data["duration_ms"]) for e in calls["digits"].of("dtmf", codec.lower())]
    assert digits == [("5", 100), ("5", 60), ("#", 160)]


def test_digits_are_not_published_unless_that_was_asked_for(calls: dict[str, Sent]) -> None:
    call = calls["no digits"]
    assert [event for event in call.events if event.type == "dtmf"] == []
    heard = [word for event in finals_of(call.events, "pcma") for word in event.data["words"]]
    assert len(heard) == sum(len(LIBRARY[name].words) for _, name in LINES)


def test_the_books_of_every_leg_balance_with_nothing_lost(calls: dict[str, Sent]) -> None:
    ended = calls["digits"].events[-1]
    assert (ended.type, ended.data["reason"]) == ("call.ended", "api")
    for ledger in ended.data["legs"].values():
        used = ledger["sent_s"] - ledger["replayed_s"] - ledger["padded_s"] + sum(ledger["withheld_s"].values())
        assert ledger["received_s"] == pytest.approx(used + ledger["unsent_s"], abs=0.021)
        assert (ledger["lost_s"], ledger["packets"]["lost"], ledger["concealed_s"]) == (0, 0, 0)
