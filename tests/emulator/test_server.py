from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import urllib.request
import wave
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.typing import Origin, Subprotocol

from bridge.emulator.deepgram import NET0000
from bridge.emulator.options import EmulatorOptions, Fault
from bridge.emulator.recordings import load
from bridge.emulator.server import CONNECTIONS_PATH, EmulatorServer, serve
from bridge.emulator.wire import Throttle
from bridge.errors import ConfigError
from tests.emulator.speech import encode, line, silence

QUERY = "?model=nova-3&encoding=mulaw&sample_rate=8000&interim_results=true"
KEY = {"Authorization": "Token secret-key"}
THANKS = encode(line(load()["caller-thank-you"], 0.3)[0])


def options(*faults: str, **settings: Any) -> EmulatorOptions:
    settings = {"throttle": 0.0, **settings}
    return EmulatorOptions(faults=tuple(Fault.parse(fault) for fault in faults), **settings)


def open_stream(server: EmulatorServer, query: str = QUERY, **settings: Any) -> connect:
    return connect(server.url + query, additional_headers=KEY, **settings)


async def say(socket: ClientConnection, audio: bytes, *texts: str) -> None:
    for at in range(0, len(audio), 800):
        await socket.send(audio[at : at + 800])
    for text in texts:
        await socket.send(text)


async def listen(socket: ClientConnection) -> list[dict[str, Any]]:
    return [json.loads(message) async for message in socket]


def transcript(messages: list[dict[str, Any]]) -> str:
    finals = [m for m in messages if m["type"] == "Results" and m["is_final"]]
    return " ".join(filter(None, (m["channel"]["alternatives"][0]["transcript"] for m in finals)))


async def test_a_call_is_heard_and_what_came_is_on_record() -> None:
    async with serve(options()) as server:
        async with open_stream(server) as socket:
            request_id = socket.response.headers["dg-request-id"]  # type: ignore[union-attr]
            await say(socket, THANKS, '{"type":"KeepAlive"}', '{"type":"CloseStream"}')
            messages = await listen(socket)
            assert (socket.close_code, socket.close_reason) == (1000, "")
        record = await server.until_ended(1)
    assert transcript(messages) == "thank you"
    assert messages[-1]["request_id"] == request_id == record.request_id
    assert bytes(record.audio) == THANKS
    assert (record.audio_bytes, record.seconds) == (len(THANKS), len(THANKS) / 8000)
    assert [word.text for word in record.words] == ["thank", "you"]
    assert [kind for _, kind, _ in record.frames[-2:]] == ["KeepAlive", "CloseStream"]
    assert len(record.times_of("KeepAlive")) == 1
    assert record.sent[-1][1] == "Metadata"
    assert (record.close_code, record.is_open) == (1000, False)
    assert record.connected_s >= record.frames[-1][0] - record.opened_at


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        (QUERY, {}, 401, "INVALID_AUTH"),
        (QUERY, {"Authorization": "Token wrong"}, 401, "INVALID_AUTH"),
        ("?model=nova-3&encoding=nothing", KEY, 400, "INVALID_QUERY_PARAMETER"),
    ],
)
async def test_a_refused_upgrade_says_why_in_headers_and_body(
    query: str, headers: dict[str, str], status: int, code: str
) -> None:
    async with serve(options(keys=("secret-key",))) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server.url + query, additional_headers=headers):
                pass
        response = refused.value.response
        body = json.loads(response.body)
        assert (response.status_code, body["err_code"]) == (status, code)
        assert response.headers["dg-error"] == body["err_msg"]
        assert response.headers["dg-request-id"] == body["request_id"] == server.connections[0].request_id
        assert server.connections[0].refused == status


async def test_a_browser_gets_its_sub_protocol_and_cors_headers() -> None:
    browser = {"subprotocols": [Subprotocol("token"), Subprotocol("k")], "origin": Origin("http://page")}
    async with serve(options()) as server, connect(server.url + QUERY, **browser) as socket:
        assert socket.subprotocol == "token"
        assert socket.response is not None
        assert socket.response.headers["access-control-allow-origin"] == "http://page"


@pytest.mark.parametrize("status", [402, 403, 429, 503])
async def test_refusals_can_be_scripted_for_some_connections(status: int) -> None:
    async with serve(options(f"refuse={status}@1")) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with open_stream(server):
                pass
        assert refused.value.response.status_code == status
        async with open_stream(server) as socket:
            assert socket.response.status_code == 101  # type: ignore[union-attr]


async def test_more_connections_than_allowed_are_429() -> None:
    async with serve(options(concurrency=1)) as server, open_stream(server):
        with pytest.raises(InvalidStatus) as refused:
            async with open_stream(server):
                pass
        assert refused.value.response.status_code == 429


async def test_a_drop_is_1006_for_the_client_and_the_next_connection_works() -> None:
    async with serve(options("drop=0.5@1")) as server:
        async with open_stream(server) as socket:
            await say(socket, THANKS[:4000])
            with pytest.raises(ConnectionClosedError):
                await listen(socket)
            assert socket.close_code == 1006
        async with open_stream(server) as socket:
            await say(socket, THANKS, '{"type":"CloseStream"}')
            assert transcript(await listen(socket)) == "thank you"


async def test_words_that_were_lost_with_their_connection_are_not_on_record_as_said() -> None:
    async with serve(options("late=5")) as server:
        async with open_stream(server) as socket:
            await say(socket, THANKS, '{"type":"Finalize"}', '{"type":"KeepAlive"}')
            while not (server.connections and server.connections[0].times_of("KeepAlive")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            server.drop_all()
        assert (await server.until_ended(1)).words == []


async def test_a_half_open_connection_answers_no_ping() -> None:
    async with serve(options("half_open=0.2")) as server, open_stream(server, close_timeout=0.05) as socket:
        await say(socket, encode(silence(0.3)))
        while server.connections[0].seconds < 0.2:  # noqa: ASYNC110 - the record has no event for it
            await asyncio.sleep(0.01)
        pong = await socket.ping()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await pong


async def test_a_scripted_close_carries_its_code_and_reason() -> None:
    async with serve(options("net0000=0.2")) as server, open_stream(server) as socket:
        await say(socket, encode(silence(0.3)))
        with pytest.raises(ConnectionClosedError):
            await listen(socket)
        assert (socket.close_code, socket.close_reason) == (1011, NET0000)


async def test_the_throttle_lets_a_backlog_wait_in_the_socket() -> None:
    async with serve(options("slow=2")) as server, open_stream(server) as socket:
        start = asyncio.get_running_loop().time()
        await say(socket, encode(silence(2.0)), '{"type":"CloseStream"}')
        await listen(socket)
        took = asyncio.get_running_loop().time() - start
    assert took >= 2.0 / 2 - Throttle.SLACK - 0.01


async def test_all_connections_can_be_dropped_at_once() -> None:
    async with serve(options()) as server:
        async with open_stream(server) as socket:
            server.drop_all()
            with pytest.raises(ConnectionClosedError):
                await socket.recv()
        assert (await server.until_ended(1)).close_code == 1006


async def test_soniox_speaks_through_the_same_server() -> None:
    start = {"model": "stt-rt-v5", "audio_format": "mulaw", "sample_rate": 8000, "num_channels": 1, "api_key": "secret"}
    async with serve(options(provider="soniox")) as server:
        async with connect(server.url) as socket:
            await socket.send(json.dumps(start))
            await say(socket, THANKS, '{"type":"finalize"}', "")
            messages = await listen(socket)
            assert socket.close_code == 1000
        record = await server.until_ended(1)
    finals = "".join(token["text"] for m in messages for token in m["tokens"] if token["is_final"])
    assert finals == "Thank you.<fin>"
    assert messages[-1]["finished"]
    assert [kind for _, kind, _ in record.frames if kind != "audio"] == ["start", "finalize", "empty"]


async def test_the_record_can_be_read_over_http_and_in_a_file_and_holds_no_key(tmp_path: Path) -> None:
    log = tmp_path / "connections.jsonl"
    async with serve(options(log=log)) as server:
        async with open_stream(server) as socket:
            await say(socket, THANKS, '{"type":"CloseStream"}')
            await listen(socket)
        await server.until_ended(1)
        url = f"http://127.0.0.1:{server.port}{CONNECTIONS_PATH}"
        body = await asyncio.to_thread(lambda: urllib.request.urlopen(url + "?frames=1").read())
    (connection,) = json.loads(body)["connections"]
    assert json.loads(log.read_text()) == connection
    assert (connection["seconds"], connection["close_code"]) == (len(THANKS) / 8000, 1000)
    assert connection["received"] == {"audio": -(-len(THANKS) // 800), "CloseStream": 1}
    assert len(connection["frames"]) == sum(connection["received"].values())
    assert b"secret-key" not in body


async def test_an_upgrade_can_be_slow() -> None:
    async with serve(options("slow_upgrade=0.1")) as server:
        start = asyncio.get_running_loop().time()
        async with open_stream(server):
            assert asyncio.get_running_loop().time() - start >= 0.1


async def test_a_path_nobody_serves_is_404() -> None:
    async with serve(options()) as server:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(server.url.replace("/v1/listen", "/v9"), additional_headers=KEY):
                pass
    assert refused.value.response.status_code == 404


async def test_what_is_kept_of_frames_and_audio_is_bounded_and_the_rest_is_counted() -> None:
    async with serve(options(keep_frames=2, keep_audio_bytes=1600)) as server:
        async with open_stream(server) as socket:
            await say(socket, THANKS, '{"type":"CloseStream"}')
            await listen(socket)
        record = await server.until_ended(1)
    assert (len(record.frames), len(record.audio)) == (2, 1600)
    assert record.frames_left_out == -(-len(THANKS) // 800) - 1
    assert record.audio_bytes == len(THANKS)


async def test_scripted_words_come_at_their_pace_and_none_hears_nothing() -> None:
    for recogniser, words in (("scripted", "one two three"), ("none", "")):
        async with serve(options(recogniser=recogniser)) as server, open_stream(server) as socket:
            await say(socket, encode(silence(1.5)), '{"type":"CloseStream"}')
            assert transcript(await listen(socket)) == words


async def test_a_library_of_ones_own_is_heard_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        async with serve(options(libraries=(tmp_path,))):
            pass
    own = load()["caller-thank-you"]
    with wave.open(str(tmp_path / "own.wav"), "wb") as audio:
        audio.setparams((1, 2, 8000, 0, "NONE", ""))
        audio.writeframes(own.samples[::-1].tobytes())
    entry = {"file": "own.wav", "text": "backwards", "words": [["backwards", 0.2, 1.0]]}
    (tmp_path / "recordings.json").write_text(json.dumps({"recordings": [entry]}))
    load.cache_clear()
    async with serve(options(libraries=(tmp_path,))) as server, open_stream(server) as socket:
        await say(socket, encode(own.samples[::-1]), '{"type":"CloseStream"}')
        assert transcript(await listen(socket)) == "backwards"


def test_the_stand_in_runs_on_its_own_until_a_signal() -> None:
    program = (
        "from bridge.emulator.options import EmulatorOptions\n"
        "from bridge.emulator.run import run_emulator\n"
        "run_emulator(EmulatorOptions(recogniser='none'), started=lambda server: print(server.url, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        urls = (text for text in process.stdout if text.startswith("ws://127.0.0.1:"))
        assert next(urls).strip().endswith("/v1/listen")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
