from __future__ import annotations

import json
import sys
import wave
from asyncio import create_subprocess_exec, subprocess
from pathlib import Path

import numpy as np

from .answering_phone import AnsweringPhone

PROGRAM = "import sys; from bridge.caller.command import run_calls; sys.exit(run_calls({!r}, {!r}, as_json={!r}))"


def write_wav(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((np.arange(2400) % 3000).astype("<i2").tobytes())


async def run(uri: str, leg: Path, *, as_json: bool) -> tuple[int, str]:
    program = PROGRAM.format(uri, [f"caller={leg}"], as_json)
    process = await create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_the_command_tells_the_truth_of_a_call_as_json(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    async with AnsweringPhone() as phone:
        status, out = await run(phone.uri, tmp_path / "a.wav", as_json=True)
        assert len(phone.packets(0)) == 15
    told = json.loads(out)
    assert status == 0
    assert (told["ok"], told["legs"][0]["packets"]) == (True, 15)
    assert told["sip_call_id"] == phone.requests[0].call_id


async def test_the_command_fails_when_a_call_did_not_run(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav")
    async with AnsweringPhone(refuse=486) as phone:
        status, out = await run(phone.uri, tmp_path / "a.wav", as_json=False)
    assert status == 1
    assert out.startswith("failed (refused: 486")
