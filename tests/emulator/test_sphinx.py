from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from bridge.emulator.recordings import BUNDLED, load
from bridge.emulator.server import serve
from tests.emulator.speech import encode, line
from tests.emulator.test_server import listen, open_stream, options, say, transcript

pytest.importorskip("pocketsphinx", reason="the extra `offline` is not installed")


async def test_it_recognises_something_and_the_loop_never_waits_for_it() -> None:
    audio = encode(line(load()["agent-first-in-line"], 0.6)[0])
    loop, late = asyncio.get_running_loop(), 0.0

    async def watch() -> None:
        nonlocal late
        while True:
            due = loop.time() + 0.02
            await asyncio.sleep(0.02)
            late = max(late, loop.time() - due)

    async with serve(options(recogniser="pocketsphinx")) as server, asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        async with open_stream(server) as socket:
            await say(socket, audio, '{"type":"CloseStream"}')
            heard = transcript(await listen(socket))
        watching.cancel()
    assert {"available", "representative", "call", "first", "line"} & set(heard.split())
    assert late < 0.5  # decoding these 6 s takes about a second


def test_aligning_the_bundled_text_again_gives_the_bundled_times(tmp_path: Path) -> None:
    align = pytest.importorskip("bridge.emulator.align")
    index = json.loads((BUNDLED / "recordings.json").read_text())
    entry = next(e for e in index["recordings"] if e["file"] == "agent-patience.wav")
    expected = entry.pop("words")
    shutil.copy(BUNDLED / entry["file"], tmp_path)
    (tmp_path / "recordings.json").write_text(json.dumps({"recordings": [entry]}))
    align.main(tmp_path)
    (again,) = json.loads((tmp_path / "recordings.json").read_text())["recordings"]
    assert again["words"] == expected


def test_text_that_the_audio_does_not_carry_is_not_aligned() -> None:
    align = pytest.importorskip("bridge.emulator.align")
    with pytest.raises(ValueError, match="alignment failed"):
        align.align(load()["caller-thank-you"].samples[:1000], "a much longer sentence than that", rate_hz=8000)
