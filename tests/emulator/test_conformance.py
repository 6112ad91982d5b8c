"""Clients that nobody here wrote, pointed at the stand-ins."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from bridge.emulator.options import EmulatorOptions
from bridge.emulator.recordings import load
from bridge.emulator.server import EmulatorServer, serve
from tests.emulator.speech import encode, line
from tests.emulator.test_server import KEY, QUERY, listen, say

ASYNCAPI = Path(__file__).parents[2].parent / "shared" / "reference" / "deepgram-asyncapi.yml"
TEXT = "Your call is now first in line and will be answered by the next available representative."
AUDIO = encode(line(0.3, load()["agent-first-in-line"], 0.5)[0])
FAST = EmulatorOptions(throttle=0)


def deepgram_client(server: EmulatorServer) -> Any:
    deepgram = pytest.importorskip("deepgram")
    environment = pytest.importorskip("deepgram.environment")
    http, ws = (f"{scheme}://127.0.0.1:{server.port}" for scheme in ("http", "ws"))
    where = environment.DeepgramClientEnvironment(base=http, production=ws, agent=ws, agent_rest=http)
    return deepgram.AsyncDeepgramClient(api_key="k", environment=where)


async def test_deepgram_sdk_7_transcribes_keeps_alive_finalizes_and_closes() -> None:
    async with serve(FAST) as server:
        client = deepgram_client(server)
        heard: list[Any] = []
        async with client.listen.v1.connect(
            model="nova-3", encoding="mulaw", sample_rate="8000", interim_results="true", smart_format="true",
            keyterm=["a b", "c"], request_options={"additional_query_parameters": {"no_delay": "true"}},
        ) as connection:  # fmt: skip
            await connection.send_keep_alive()
            for at in range(0, len(AUDIO), 800):
                await connection.send_media(AUDIO[at : at + 800])
            await connection.send_finalize()
            await connection.send_close_stream()
            heard.extend([message async for message in connection])
        record = await server.until_ended(1)
    results = [message for message in heard if message.type == "Results"]
    assert {type(message).__name__ for message in heard} == {"ListenV1Results", "ListenV1Metadata"}
    finals = [r.channel.alternatives[0].transcript for r in results if r.is_final]
    assert " ".join(filter(None, finals)) == TEXT
    assert any(result.from_finalize for result in results)
    assert heard[-1].duration == pytest.approx(len(AUDIO) / 8000, abs=1e-3)
    assert [kind for _, kind, _ in record.frames if kind != "audio"] == ["KeepAlive", "Finalize", "CloseStream"]
    assert record.close_code == 1000


async def test_deepgram_sdk_7_is_told_of_a_wrong_key() -> None:
    core = pytest.importorskip("deepgram.core.api_error")
    async with serve(EmulatorOptions(keys=("other",))) as server:
        with pytest.raises(core.ApiError) as refused:
            async with deepgram_client(server).listen.v1.connect(model="nova-3"):
                pass
    assert refused.value.status_code == 401


OLD_CLIENT = """
import asyncio, sys
from deepgram import DeepgramClient, DeepgramClientOptions, LiveOptions, LiveTranscriptionEvents

async def main(url, path):
    client = DeepgramClient("k", DeepgramClientOptions(url=url, options={"keepalive": "true"}))
    connection = client.listen.asyncwebsocket.v("1")
    texts, done = [], asyncio.Event()

    async def on_transcript(self, result, **kwargs):
        if result.is_final and result.channel.alternatives[0].transcript:
            texts.append(result.channel.alternatives[0].transcript)

    async def on_metadata(self, metadata, **kwargs):
        done.set()

    connection.on(LiveTranscriptionEvents.Transcript, on_transcript)
    connection.on(LiveTranscriptionEvents.Metadata, on_metadata)
    assert await connection.start(
        LiveOptions(model="nova-3", encoding="mulaw", sample_rate=8000, smart_format=True, interim_results=True)
    )
    await connection.keep_alive()
    audio = open(path, "rb").read()
    for at in range(0, len(audio), 800):
        await connection.send(audio[at : at + 800])
    await connection.finalize()
    await connection.send('{"type": "CloseStream"}')
    await asyncio.wait_for(done.wait(), 10)
    print(" ".join(texts))

asyncio.run(main(*sys.argv[1:]))
"""


async def test_deepgram_sdk_4_8_transcribes_keeps_alive_finalizes_and_closes(tmp_path: Path) -> None:
    """In an environment of its own: the two versions are one package."""
    python = os.environ.get("CALLBRIDGE_DEEPGRAM_4_PYTHON")
    if not python:
        pytest.skip("CALLBRIDGE_DEEPGRAM_4_PYTHON names no interpreter with deepgram-sdk 4.8")
    (tmp_path / "client.py").write_text(OLD_CLIENT)
    (tmp_path / "audio").write_bytes(AUDIO)
    async with serve(FAST) as server:
        command = [python, tmp_path / "client.py", f"http://127.0.0.1:{server.port}", tmp_path / "audio"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
        assert done.stdout.strip().endswith(TEXT), done.stderr[-2000:]
        assert len(server.connections[0].times_of("KeepAlive")) >= 1


async def test_soniox_sdk_2_transcribes_keeps_alive_finalizes_and_closes() -> None:
    soniox = pytest.importorskip("soniox")
    types = pytest.importorskip("soniox.types.realtime")
    config = types.RealtimeSTTConfig(
        model="stt-rt-v5", audio_format="mulaw", sample_rate=8000, num_channels=1,
        enable_endpoint_detection=True, enable_language_identification=True,
    )  # fmt: skip
    async with serve(EmulatorOptions(provider="soniox")) as server:
        client = soniox.AsyncSonioxClient(api_key="sk", websocket_base_url=server.url)
        async with client.realtime.stt.connect(config=config) as session:
            for at in range(0, len(AUDIO), 800):
                await session.send_byte_chunk(AUDIO[at : at + 800])
            await session.keep_alive()
            await session.finalize()
            await session.finish()
            events = [event async for event in session.receive_events()]
        record = await server.until_ended(1)
    text = "".join(token.text for event in events for token in event.tokens if token.is_final)
    assert text.replace("<end>", "") == f"{TEXT}<fin>"
    assert events[-1].finished
    assert [kind for _, kind, _ in record.frames if kind != "audio"] == ["start", "keepalive", "finalize", "empty"]


async def test_soniox_sdk_2_is_told_of_a_wrong_key() -> None:
    soniox = pytest.importorskip("soniox")
    types = pytest.importorskip("soniox.types.realtime")
    config = types.RealtimeSTTConfig(model="stt-rt-v5", audio_format="mulaw", sample_rate=8000, num_channels=1)
    async with serve(EmulatorOptions(provider="soniox", keys=("other",))) as server:
        client = soniox.AsyncSonioxClient(api_key="sk", websocket_base_url=server.url)
        async with client.realtime.stt.connect(config=config) as session:
            events = [event async for event in session.receive_events()]
    assert [(event.error_code, event.tokens) for event in events] == [(401, [])]


@pytest.mark.skipif(not ASYNCAPI.exists(), reason="Deepgram's AsyncAPI file is not on this machine")
async def test_every_message_has_the_shape_of_deepgrams_asyncapi_file() -> None:
    validate = _validator()
    asked = "&smart_format=true&vad_events=true&utterance_end_ms=1000&endpointing=300&diarize=true&extra=a:b"
    async with serve(FAST) as server, connect(server.url + QUERY + asked, additional_headers=KEY) as socket:
        await say(socket, AUDIO + encode(line(2.0)[0]), '{"type":"Finalize"}', '{"type":"CloseStream"}')
        messages = await listen(socket)
    assert {message["type"] for message in messages} == {"Results", "SpeechStarted", "UtteranceEnd", "Metadata"}
    for message in messages:
        validate(message)


def _validator() -> Any:
    """Validates a message by its type; a field that the file does not name must at least have been captured."""
    yaml, jsonschema = pytest.importorskip("yaml"), pytest.importorskip("jsonschema")
    document = yaml.safe_load(ASYNCAPI.read_text())
    schemas = document["components"]["schemas"]

    def validate(message: dict[str, Any]) -> None:
        schema = schemas[f"ListenV1_ListenV1{message['type']}"]
        jsonschema.validate(message, {**schema, "components": document["components"]})
        captured = {"models", "model_info"} if message["type"] == "Metadata" else set()
        assert set(message) <= set(schema["properties"]) | captured

    return validate
