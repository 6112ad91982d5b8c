"""What a hostile or careless client does with the HTTP verbs and with SIP, against a running service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallResult
from bridge.clock import monotonic
from rtpcodecs.g711 import linear_to_ulaw
from tests.redis_server import RedisServer, is_installed
from tests.soak.invariants import Entry, Streams, check, digest, ledgers, legs_of
from tests.soak.stand_in import Heard, StandIn, stand_in

from .house import Running, service
from .raw_sip import RawCall
from .scenarios import WRONG, Scenario, plain

FRAME_BYTES = 160  # 20 ms of G.711
RATE = 8000
IN_FORCE = 0.06  # s: the packet under way, and the next tick
VERBS = ("hold", "resume", "mute", "unmute", "pause")
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


@dataclass
class House:
    running: Running
    providers: dict[str, StandIn]
    redis: RedisServer
    sip_port: int

    def ask(self, method: str, path: str) -> tuple[int, Any]:
        """Status and JSON body."""
        request = urllib.request.Request(self.running.http + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                text = response.read()
                return response.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            kind = error.headers["Content-Type"].partition(";")[0]
            return (error.code if kind == "application/problem+json" else -1), None

    def live(self) -> dict[str, dict[str, Any]]:
        """Calls that are going on, by id."""
        return {call["id"]: call for call in self.ask("GET", "/v1/calls")[1]["calls"]}

    def until(self, is_so: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
        deadline = monotonic() + timeout
        while not (found := is_so()):
            assert monotonic() < deadline, what
            time.sleep(0.02)
        return found

    def entries(self, call: str) -> list[Entry]:
        """The call's stream, once it is complete."""
        return self.until(
            lambda: (
                (found := Streams.read(self.redis.url).calls.get(call)) and found[-1].type == "call.ended" and found
            ),
            "call.ended",
        )

    def heard(self, call: str) -> list[Heard]:
        """The provider's connections of a call, audio included."""
        legs = legs_of(self.running.log_lines())
        return [c for c in self.connections(audio=True) if legs.get(c.request_id, "").startswith(call)]

    def connections(self, *, audio: bool = False) -> list[Heard]:
        return [c for provider in self.providers.values() for c in provider.connections(audio=audio)]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("hostile")
    with contextlib.ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        providers = {n: stack.enter_context(stand_in(folder, n, recogniser="none")) for n in ("deepgram", "soniox")}
        sections: dict[str, dict[str, object]] = {
            "gate": {"mode": "off"},
            "[route]": {"match.to": "gated", "gate.mode": "speech"},
            "[route ]": {"match.to": "soniox", "stt.provider": "soniox"},
            "stt.soniox": {"url": providers["soniox"].url, "api_key": "flow"},
        }
        running = stack.enter_context(service(folder, redis, providers["deepgram"].url, **sections))
        yield House(running, providers, redis, int(running.uri.rpartition(":")[2]))


def payloads(scenario: Scenario) -> bytes:
    """What the caller's packets carry, one behind the other."""
    samples = scenario.options.legs[0].samples
    return linear_to_ulaw(np.concatenate([samples, np.zeros(-len(samples) % FRAME_BYTES, np.int16)])).tobytes()


def places(audio: bytes, sent: bytes) -> list[tuple[float, float]]:
    """Which stretches of the call, in seconds, are in `audio`. Every byte of it must be one of those sent."""
    found: list[tuple[float, float]] = []
    at = 0
    while at < len(audio):
        place = sent.find(audio[at : at + FRAME_BYTES])
        assert place >= 0, f"byte {at} was never sent"
        n = min(len(audio) - at, len(sent) - place)
        differs = np.flatnonzero(
            np.frombuffer(audio[at : at + n], np.uint8) != np.frombuffer(sent[place : place + n], np.uint8)
        )
        n = int(differs[0]) if len(differs) else n
        found.append((place / RATE, (place + n) / RATE))
        at += n
    return found


async def placed(
    house: House,
    scenario: Scenario,
    script: Callable[[str, Callable[[], float]], Awaitable[None]],
    *,
    to: str = "flow",
) -> str:
    """Places the call and runs `script(call, elapsed)` beside it; answers the call's id."""
    before = set(await asyncio.to_thread(house.live))
    target = house.running.uri.replace("flow@", f"{to}@")
    async with asyncio.TaskGroup() as group:
        calls = group.create_task(place_calls(replace(scenario.options, target=target)))
        call = ""
        while not call:
            live = await asyncio.to_thread(house.live)
            call = next((name for name, told in live.items() if name not in before and told["call_s"] is not None), "")
        start = monotonic() - (await asyncio.to_thread(house.live))[call]["call_s"]
        await script(call, lambda: monotonic() - start)
    (result,) = calls.result()
    assert isinstance(result, CallResult)
    assert result.ok, result.reason
    return call


# -- card data --------------------------------------------------------------------------------------------------------

TALKING = plain(((0.4, WRONG), (3.0, WRONG)), cut_at=5.0)
SHORTLY = plain(((2.0, WRONG),), cut_at=4.5)


@pytest.mark.parametrize("name", ["deepgram", "soniox"])
def test_a_pause_lets_nothing_out_neither_then_nor_by_replay_nor_later(house: House, name: str) -> None:
    times: dict[str, float] = {}
    n_before = len(house.providers[name].connections())

    async def script(call: str, elapsed: Callable[[], float]) -> None:
        await asyncio.sleep(1.63 - elapsed())
        assert (await asyncio.to_thread(house.ask, "POST", f"/v1/calls/{call}/legs/leg1/pause"))[0] == 204
        times["paused"], times["paused_at"] = elapsed(), monotonic()
        await asyncio.sleep(0.9)
        assert await asyncio.to_thread(house.providers[name].drop) >= 1  # whoever replays now replays card data
        await asyncio.sleep(3.55 - elapsed())
        times["resumed"], times["resumed_at"] = elapsed(), monotonic()
        assert (await asyncio.to_thread(house.ask, "POST", f"/v1/calls/{call}/legs/leg1/resume"))[0] == 204

    call = asyncio.run(placed(house, TALKING, script, to=name))
    entries, connections = house.entries(call), house.providers[name].connections(audio=True)[n_before:]
    print(ledgers(entries), times, [(e.seq, e.type, e.fields.get("data", "")[:90]) for e in entries])
    assert len(connections) == 2
    first, second = (places(connection.audio, payloads(TALKING)) for connection in connections)
    assert max(end for _, end in first) <= times["paused"] + IN_FORCE
    assert min(start for start, _ in second) >= times["resumed"] - IN_FORCE
    at = [house.providers[name].clock + t for c in connections for t, kind, _ in c.frames if kind == "audio"]
    assert [t for t in at if times["paused_at"] + IN_FORCE < t < times["resumed_at"]] == []
    ledger = ledgers(entries)["leg1"]

    assert ledger["withheld_s"]["paused"] == pytest.approx(times["resumed"] - times["paused"], abs=0.2)
    assert ledger["replayed_s"] == 0


def test_no_pre_roll_reaches_back_into_a_pause(house: House) -> None:
    times: dict[str, float] = {}

    async def script(call: str, elapsed: Callable[[], float]) -> None:
        await asyncio.sleep(0.8 - elapsed())
        await asyncio.to_thread(house.ask, "POST", f"/v1/calls/{call}/legs/leg1/pause")
        await asyncio.sleep(2.3 - elapsed())  # the line's first word begins at 2.36 s
        times["resumed"] = elapsed()
        await asyncio.to_thread(house.ask, "POST", f"/v1/calls/{call}/legs/leg1/resume")

    call = asyncio.run(placed(house, SHORTLY, script, to="gated"))
    house.entries(call)
    found = [place for c in house.heard(call) for place in places(c.audio, payloads(SHORTLY))]
    assert found
    assert min(start for start, _ in found) >= times["resumed"] - IN_FORCE


# -- verbs ------------------------------------------------------------------------------------------------------------


def external(house: House) -> str:
    """A call by plain RTP that nobody sends."""
    request = urllib.request.Request(
        house.running.http + "/v1/calls", data=b'{"legs":[{"role":"caller","codec":"PCMU"}]}', method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        return str(json.loads(response.read())["id"])


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_on_an_unknown_call_or_leg_is_not_found(house: House, verb: str) -> None:
    call = external(house)
    assert house.ask("POST", f"/v1/calls/nobody/legs/leg1/{verb}")[0] == 404
    assert house.ask("POST", f"/v1/calls/{call}/legs/leg2/{verb}")[0] == 404
    assert house.ask("POST", f"/v1/calls/{call}/legs/LEG1/{verb}")[0] == 404
    assert house.ask("GET", f"/v1/calls/{call}/legs/leg1/{verb}")[0] == 405
    assert house.ask("DELETE", f"/v1/calls/{call}")[0] == 204
    house.entries(call)
    assert house.ask("POST", f"/v1/calls/{call}/legs/leg1/{verb}")[0] == 404


def test_verbs_said_twice_count_once_and_undoing_nothing_does_nothing(house: House) -> None:
    call = external(house)
    for verb in ("resume", "unmute", "pause", "pause", "resume", "resume", "pause"):
        assert house.ask("POST", f"/v1/calls/{call}/legs/leg1/{verb}")[0] == 204
        time.sleep(0.06)
    assert house.ask("DELETE", f"/v1/calls/{call}")[0] == 204
    gates = [e.data for e in house.entries(call) if e.type == "leg.gate"]
    assert [g["state"] for g in gates] == ["open", "closed", "open", "closed"]
    assert [g["cause"] for g in gates if "cause" in g] == ["paused", "paused"]


def test_a_call_is_ended_once_however_often_that_is_asked(house: House) -> None:
    call = external(house)
    statuses = {house.ask("DELETE", f"/v1/calls/{call}")[0] for _ in range(4)}
    assert 204 in statuses
    assert statuses <= {204, 404}
    assert [e.data["reason"] for e in house.entries(call) if e.type == "call.ended"] == ["api"]
    assert house.ask("DELETE", f"/v1/calls/{call}")[0] == 404
    assert house.ask("GET", f"/v1/calls/{call}")[0] == 404


def test_three_hundred_verbs_at_random_leave_the_books_right(house: House) -> None:
    chance = random.Random(5)

    async def script(call: str, elapsed: Callable[[], float]) -> None:
        for _ in range(300):
            verb = chance.choice(VERBS)
            status, _ = await asyncio.to_thread(house.ask, "POST", f"/v1/calls/{call}/legs/leg1/{verb}")
            assert status == 204
            if elapsed() > 4.0:
                break

    call = asyncio.run(placed(house, TALKING, script))
    entries = house.entries(call)
    assert sum(e.type == "leg.gate" for e in entries) > 4
    shared = {call: [digest(entry.fields) for entry in entries]}
    assert check(Streams(shared, {call: entries}, frozenset((call,)), [])).violations == []


# -- SIP --------------------------------------------------------------------------------------------------------------


def test_two_calls_with_one_call_id_are_two_calls(house: House) -> None:
    before = set(house.live())
    with RawCall(house.sip_port, "same@raw", "one") as one, RawCall(house.sip_port, "same@raw", "two") as two:
        answers = one.invite(), two.invite()
        assert [answer.status for answer in answers] == [200, 200]
        assert answers[0].rtp != answers[1].rtp
        mine = set(house.live()) - before
        assert len(mine) == 2
        assert one.bye().status == 200
        (left,) = house.until(lambda: len(now := set(house.live()) & mine) == 1 and now, "one is left")
        assert house.live()[left]["state"] == "running"
        assert two.bye().status == 200
        for call in mine:
            assert house.entries(call)[-1].data["reason"] == "hangup"


def test_an_invite_that_comes_again_is_answered_again_and_is_one_call(house: House) -> None:
    before = set(house.live())
    with RawCall(house.sip_port, "again@raw", "tag") as caller:
        for _ in range(3):
            caller.send("INVITE", body=caller.sdp())
        first, again = caller.final(), caller.final()
        assert (first.status, first.body) == (again.status, again.body)
        caller.send("INVITE", body=caller.sdp(), branch="another")  # merged: RFC 3261 section 8.2.2.2
        assert 482 in (caller.final().status, caller.final().status)
        assert len(set(house.live()) - before) == 1
        caller.to_tag = first.headers["to"].partition("tag=")[2]
        caller.send("ACK")
        caller.cseq += 1
        assert caller.bye().status == 200
    house.until(lambda: not set(house.live()) - before, "ended")


def test_re_invites_of_every_kind_leave_the_call_standing(house: House) -> None:
    before = set(house.live())
    with RawCall(house.sip_port, "re@raw", "re") as caller:
        assert caller.invite().status == 200
        (call,) = set(house.live()) - before
        for n in range(6):  # flapping
            assert caller.invite(caller.sdp(direction=("inactive", "sendrecv")[n % 2], v=n + 2)).status == 200
        assert caller.invite(caller.sdp(payload_type=8, v=9)).status == 200  # to A-law
        assert caller.invite(caller.sdp(port=0, v=10)).status in (200, 488)
        assert caller.invite("v=0\r\nrubbish").status in (400, 488)
        assert caller.invite(caller.sdp(payload_type=99, v=11)).status == 488  # a payload type that nothing explains
        caller.send("INVITE", body=caller.sdp(v=12), cseq=1, branch="old")  # RFC 3261 section 12.2.2
        assert caller.final().status == 500
        caller.send("BYE", cseq=99, to_tag="nobody")
        assert caller.final().status == 481
        assert caller.invite(caller.sdp(v=13)).status == 200
        assert house.live()[call]["state"] == "running"
        assert caller.bye().status == 200
    assert house.entries(call)[-1].data["reason"] == "hangup"


def test_a_cancel_behind_the_answer_does_not_end_the_call(house: House) -> None:
    before = set(house.live())
    with RawCall(house.sip_port, "cancel@raw", "cancel") as caller:
        caller.send("INVITE", body=caller.sdp(), branch="x")
        caller.to_tag = caller.final().headers["to"].partition("tag=")[2]
        caller.send("ACK")
        tag, caller.to_tag = caller.to_tag, ""
        caller.send("CANCEL", branch="x")
        assert caller.final().status in (200, 481)  # RFC 3261 section 9.2
        caller.to_tag = tag
        caller.cseq += 1
        assert [told["state"] for name, told in house.live().items() if name not in before] == ["running"]
        assert caller.bye().status == 200
    house.until(lambda: not set(house.live()) - before, "ended")


def test_nothing_is_left_behind(house: House) -> None:
    house.until(lambda: not house.live(), "no call")
    streams = Streams.read(house.redis.url)
    assert check(streams, house.connections(), legs=legs_of(house.running.log_lines())).violations == []
    assert house.ask("GET", "/v1/status")[1]["legs"] == 0
    assert [line for line in house.running.log_lines() if line.get("level") == "error"] == []
