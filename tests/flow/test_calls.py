"""End to end: real SIP and RTP into `callbridge serve`, a provider stand-in that really listens, words in real Redis.

Written from the contract. All calls run at once, so that the whole takes as long as the longest of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallResult
from bridge.demo.verdict import TICK, Session, compare, finals_of
from tests.redis_server import RedisServer, is_installed

from .house import Provider, Running, provider, service
from .scenarios import LONG_HOLD, PAUSE, RECORDED, SCENARIOS

WORD_TOLERANCE = 0.020  # s, the contract
STAGGER = 0.23  # s between two calls: no burst, and every call meets another phase of the tick
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(180)]


class Played:
    """All scenarios, played once."""

    def __init__(self, running: Running, stand_in: Provider) -> None:
        self.running, self.stand_in = running, stand_in
        self.results: dict[str, CallResult] = asyncio.run(self._play())
        by_sip_call_id = running.collect(len(SCENARIOS))
        self.events = {name: by_sip_call_id.get(result.sip_call_id, []) for name, result in self.results.items()}

    async def _play(self) -> dict[str, CallResult]:
        results: dict[str, CallResult] = {}

        async def play(n: int, name: str) -> None:
            await asyncio.sleep(n * STAGGER)
            target = self.running.uri + (";transport=tcp" if "tcp" in name else "")
            (results[name],) = await place_calls(replace(SCENARIOS[name].options, target=target))

        async with asyncio.TaskGroup() as group:
            names = sorted(SCENARIOS, key=lambda name: -SCENARIOS[name].options.seconds)
            for n, name in enumerate(names):
                group.create_task(play(n, name))
        return results

    def ledger(self, name: str, role: str = "caller") -> dict[str, Any]:
        legs = self.events[name][-1].data["legs"].values()
        return dict(next(ledger for ledger in legs if ledger["role"] == role))

    def gates(self, name: str, role: str = "caller") -> list[tuple[str, str]]:
        """(state, cause) of each change."""
        found = [e.data for e in self.events[name] if e.type == "leg.gate" and e.role == role]
        return [(d["state"], d.get("cause", "")) for d in found]


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("flow")
    with RedisServer() as redis, provider(folder) as stand_in, service(folder, redis, stand_in.url) as running:
        yield Played(running, stand_in)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_call_ran_to_its_end(played: Played, name: str) -> None:
    assert played.results[name].ok, played.results[name].reason
    assert played.events[name][0].type == "call.started"
    assert played.events[name][-1].type == "call.ended"
    assert played.events[name][-1].data["reason"] == "hangup"


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_word_stands_in_redis_at_its_call_time_and_no_other(played: Played, name: str) -> None:
    for role in SCENARIOS[name].heard:
        heard = compare(SCENARIOS[name].words(role), finals_of(played.events[name], role))
        assert (heard.missing, heard.surplus) == ((), ())
        assert heard.worst <= WORD_TOLERANCE


@pytest.mark.parametrize("name", SCENARIOS)
def test_events_are_numbered_without_gaps_and_stand_once_in_both_streams(played: Played, name: str) -> None:
    events = played.events[name]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    call = next(key for key, value in played.running.events.items() if value is events or value == events)
    assert played.running.call_stream(call) == events


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_final_belongs_to_a_turn_that_ends_before_the_call(played: Played, name: str) -> None:
    events = played.events[name]
    turns = {(e.leg, e.data["turn"]): e for e in events if e.type == "turn.ended"}
    finals = [e for e in events if e.type == "transcript.final"]
    assert finals
    assert {(e.leg, e.data["turn"]) for e in finals} == set(turns)
    for key, turn in turns.items():
        assert turn.text.split() == " ".join(e.text for e in finals if (e.leg, e.data["turn"]) == key).split()
    assert all(e.seq < events[-1].seq for e in (*finals, *turns.values()))


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_ledger_adds_up(played: Played, name: str) -> None:
    for role in SCENARIOS[name].heard:
        ledger = played.ledger(name, role)
        used = ledger["sent_s"] - ledger["replayed_s"] - ledger["padded_s"]
        withheld = sum(ledger["withheld_s"].values())
        assert ledger["received_s"] == pytest.approx(used + withheld + ledger["unsent_s"], abs=TICK)
        assert ledger["sent_s"] == pytest.approx(ledger["provider_s"], abs=0.1)
        assert ledger["lost_s"] == 0


@pytest.mark.parametrize("name", SCENARIOS)
def test_packets_are_counted_as_they_were_sent(played: Played, name: str) -> None:
    for role, leg in zip(SCENARIOS[name].heard, played.results[name].legs, strict=True):
        packets = played.ledger(name, role)["packets"]
        assert packets["received"] + packets["late"] + packets["duplicate"] == leg.packets
        missing = leg.dropped + packets["late"]
        assert abs(packets["lost"] - missing) <= 1  # a loss at the very end is never noticed


def test_a_plain_call_has_one_leg_the_caller(played: Played) -> None:
    started = played.events["plain"][0].data
    assert [(leg["role"], leg["codec"]) for leg in started["legs"]] == [("caller", "PCMU")]
    assert started["ingress"] == "sip"


def test_a_recorded_call_has_both_parties(played: Played) -> None:
    started = played.events[RECORDED][0].data
    assert [leg["role"] for leg in started["legs"]] == ["caller", "agent"]
    assert started["ingress"] == "siprec"
    assert started["correlation"]["siprec_session_id"]


def test_interims_come_before_the_final_of_their_utterance(played: Played) -> None:
    events = played.events["plain"]
    finals = {e.data["utterance"]: e.seq for e in events if e.type == "transcript.final"}
    interims = [e for e in events if e.type == "transcript.interim"]
    assert interims
    assert all(e.seq < finals[e.data["utterance"]] for e in interims if e.data["utterance"] in finals)


def test_a_hold_of_twenty_seconds_costs_nothing_and_every_session_outlives_it(played: Played) -> None:
    result = played.results[RECORDED]
    start, end = result.holds[0]
    assert end - start == pytest.approx(LONG_HOLD[1] - LONG_HOLD[0], abs=0.5)
    mine = [s for s in sessions_of(played, RECORDED) if s.frames]
    assert len(mine) == 2
    for session in mine:
        audio = [size for t, kind, size in session.frames if kind == "audio" and start + 0.6 < t < end]
        assert audio == []
        times = [session.opened, *(t for t, _, _ in session.frames)]
        assert max(b - a for a, b in pairwise(times)) <= 5.0
    for role in ("caller", "agent"):
        assert played.ledger(RECORDED, role)["withheld_s"]["hold"] == pytest.approx(end - start, abs=0.3)
        assert played.ledger(RECORDED, role)["sessions"] <= 1
        assert ("closed", "hold") in played.gates(RECORDED, role)


def sessions_of(played: Played, name: str) -> list[Session]:
    """The provider's connections of one call: those that were open during it and took as much as its ledgers say."""
    call = played.results[name]
    sent = [ledger["sent_s"] for ledger in played.events[name][-1].data["legs"].values()]
    near = [s for s in played.stand_in.sessions(call) if s.closed > call.ended_at - call.answered_at - 1.0]
    return [min(near, key=lambda s: abs(s.seconds - seconds)) for seconds in sent]


@pytest.mark.parametrize("name", [n for n in SCENARIOS if n.startswith("held") and n != "held from the start"])
def test_a_signalled_hold_closes_the_gate_as_hold(played: Played, name: str) -> None:
    assert ("closed", "hold") in played.gates(name)
    start, end = played.results[name].holds[0]
    ledger = played.ledger(name)
    assert ledger["withheld_s"]["hold"] + ledger["absent_s"] == pytest.approx(end - start, abs=0.3)


def test_a_call_that_begins_on_hold_costs_nothing_until_it_is_taken_back(played: Played) -> None:
    ledger = played.ledger("held from the start")
    assert ledger["sent_s"] - ledger["padded_s"] < 5.0
    assert ledger["finals"] >= 1


@pytest.mark.parametrize("name", [n for n in SCENARIOS if n.startswith("muted")])
def test_a_muted_phone_closes_the_gate_as_mute(played: Played, name: str) -> None:
    assert ("closed", "mute") in played.gates(name)
    ledger = played.ledger(name)
    length = PAUSE[1] - PAUSE[0]
    told = ledger["withheld_s"].get("mute", 0.0) + ledger["withheld_s"].get("silence", 0.0) + ledger["absent_s"]
    assert told >= length - 0.3


def test_time_without_rtp_is_absent_and_not_received(played: Played) -> None:
    ledger = played.ledger("muted by no rtp")
    assert ledger["absent_s"] == pytest.approx(PAUSE[1] - PAUSE[0], abs=0.2)
    seconds = SCENARIOS["muted by no rtp"].options.seconds
    assert ledger["received_s"] == pytest.approx(seconds - ledger["absent_s"], abs=0.2)


def test_lost_packets_are_concealed_and_told(played: Played) -> None:
    name = "with loss, jitter and reordering"
    ledger = played.ledger(name)
    assert played.results[name].legs[0].dropped > 5
    assert ledger["concealed_s"] > 0.05
    assert ledger["received_s"] == pytest.approx(SCENARIOS[name].options.seconds, abs=0.15)


def test_duplicates_are_counted_and_heard_once(played: Played) -> None:
    assert played.ledger("with duplicates")["packets"]["duplicate"] > 30


def test_a_turn_that_the_hang_up_cuts_says_so(played: Played) -> None:
    reasons = [e.data["reason"] for e in played.events["hung up on the last word"] if e.type == "turn.ended"]
    assert reasons == ["hangup"]


def test_nothing_secret_stands_in_the_log(played: Played) -> None:
    text = played.running.log.read_text().lower()
    for word in ("weasels", "terribly", "caller@callbridge.invalid", '"flow"'):
        assert word not in text
    assert all("event" in line for line in played.running.log_lines())
