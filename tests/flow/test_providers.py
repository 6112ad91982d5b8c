"""What the provider is given, byte by byte, and what happens when it refuses or breaks off."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bridge.caller.call import place_calls
from bridge.caller.options import CallOptions, CallResult
from bridge.demo.verdict import Event, compare, finals_of
from bridge.emulator.options import EmulatorOptions, Fault
from bridge.emulator.received import Connection
from bridge.emulator.server import serve
from rtpcodecs.g711 import linear_to_ulaw
from tests.redis_server import RedisServer, is_installed

from .house import Running, service
from .scenarios import TWO, Scenario, leg, plain

CALL = plain(TWO)
FRAME_BYTES = 160  # 20 ms of G.711
BREAK_OFF_AFTER = 1.2  # s of audio: in the middle of the first line
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


@dataclass
class Case:
    """One service, one provider, one call."""

    result: CallResult
    events: list[Event]
    connections: list[Connection]
    running: Running


async def play(folder: Path, options: EmulatorOptions, scenario: Scenario, port: int, **sections: object) -> Case:
    """The provider runs in this process: its record of the received audio is at hand."""
    async with serve(options) as provider:
        with ExitStack() as stack:
            redis = stack.enter_context(RedisServer())
            rtp = {"ports": [port, port + 9]}
            entering = service(folder, redis, provider.url, rtp=rtp, **sections)  # type: ignore[arg-type]
            running = await asyncio.to_thread(stack.enter_context, entering)
            (result,) = await place_calls(CallOptions(running.uri, scenario.options.legs))
            found = await asyncio.to_thread(running.collect, 1)
            events = found.get(result.sip_call_id, [])
            await asyncio.to_thread(stack.close)
        return Case(result, events, provider.connections, running)


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """All of them side by side."""
    silent = EmulatorOptions(recogniser="none")

    async def run() -> dict[str, Case]:
        plans = {
            "gate off": (silent, {"gate": {"mode": "off"}}),
            "gate": (silent, {}),
            "refused": (EmulatorOptions(keys=("another",)), {}),
            "broken off": (EmulatorOptions(faults=(Fault.parse(f"drop={BREAK_OFF_AFTER}@1"),)), {}),
        }
        async with asyncio.TaskGroup() as group:
            tasks = {
                name: group.create_task(
                    play(tmp_path_factory.mktemp("provider"), options, CALL, 33000 + 20 * n, **sections)
                )
                for n, (name, (options, sections)) in enumerate(plans.items())
            }
        return {name: task.result() for name, task in tasks.items()}

    return asyncio.run(run())


def payloads() -> bytes:
    """What the caller's packets carried, one behind the other."""
    samples = leg("caller", TWO).samples
    return linear_to_ulaw(np.concatenate([samples, np.zeros(-len(samples) % FRAME_BYTES, np.int16)])).tobytes()


def test_with_the_gate_off_the_provider_gets_the_payloads_and_nothing_else(cases: dict[str, Case]) -> None:
    case = cases["gate off"]
    assert case.result.ok, case.result.reason
    (connection,) = case.connections
    assert "encoding=mulaw" in connection.path
    assert "sample_rate=8000" in connection.path
    assert bytes(connection.audio) == payloads()


def common_length(one: bytes, other: bytes) -> int:
    """How far both begin alike."""
    n = min(len(one), len(other))
    differs = np.flatnonzero(np.frombuffer(one[:n], np.uint8) != np.frombuffer(other[:n], np.uint8))
    return int(differs[0]) if len(differs) else n


def test_with_the_gate_every_byte_is_one_of_the_payloads_in_their_order(cases: dict[str, Case]) -> None:
    (connection,) = cases["gate"].connections
    audio, sent = bytes(connection.audio), payloads()
    assert FRAME_BYTES * 50 < len(audio) < len(sent)
    pieces, at, place = 0, 0, 0
    while at < len(audio):
        found = sent.find(audio[at : at + FRAME_BYTES], place)
        assert found >= 0, f"byte {at} of {len(audio)} was never sent, or earlier than what came before it"
        same = common_length(audio[at:], sent[found:])
        pieces, at, place = pieces + 1, at + same, found + same
    assert pieces <= 4  # one for each time the gate was open


def test_no_frame_is_empty_and_none_is_longer_than_was_asked_for(cases: dict[str, Case]) -> None:
    for case in cases.values():
        for connection in case.connections:
            sizes = [size for _, kind, size in connection.frames if kind == "audio"]
            assert all(size > 0 for size in sizes)


def test_a_session_ends_with_close_stream_behind_its_audio(cases: dict[str, Case]) -> None:
    for name in ("gate off", "gate"):
        (connection,) = cases[name].connections
        kinds = [kind for _, kind, _ in connection.frames]
        assert kinds[-1] == "CloseStream"
        assert connection.close_code == 1000


def test_a_refused_key_is_told_and_the_call_goes_on(cases: dict[str, Case]) -> None:
    case = cases["refused"]
    assert case.result.ok, case.result.reason
    assert {c.refused for c in case.connections} == {401}
    lost = [e for e in case.events if e.type == "stt.lost"]
    assert lost
    assert all(e.data["provider"] == "deepgram" for e in lost)
    ended = case.events[-1]
    (ledger,) = ended.data["legs"].values()
    assert (ended.type, ended.data["reason"]) == ("call.ended", "hangup")
    assert ledger["sent_s"] == 0
    assert ledger["unsent_s"] + sum(ledger["withheld_s"].values()) == pytest.approx(ledger["received_s"], abs=0.021)
    assert ledger["lost_s"] > 1


def test_a_refused_key_is_one_clear_line_in_the_log_without_the_key(cases: dict[str, Case]) -> None:
    running = cases["refused"].running
    lines = [line for line in running.log_lines() if line.get("provider") == "deepgram" and line.get("reason")]
    assert lines
    assert len(lines) < 20
    assert '"flow"' not in running.log.read_text()


def test_a_broken_session_is_replaced_and_no_word_is_lost_or_doubled(cases: dict[str, Case]) -> None:
    case = cases["broken off"]
    assert [e.type for e in case.events if e.type.startswith("stt.")] == ["stt.lost", "stt.restored"]
    assert len(case.connections) == 2
    heard = compare(CALL.words(), finals_of(case.events, "caller"))
    assert (heard.missing, heard.surplus) == ((), ())
    assert heard.worst <= 0.020
    (ledger,) = case.events[-1].data["legs"].values()
    assert ledger["sessions"] == 2
    assert ledger["replayed_s"] > 0.5
    assert ledger["lost_s"] == 0
