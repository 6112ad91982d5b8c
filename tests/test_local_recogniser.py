"""When the offline recogniser is started, and that its address outlives a reload."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import structlog
from websockets.asyncio.client import connect

from bridge.app import Bridge
from bridge.config import RouteSettings, Settings, SttSettings
from bridge.errors import ProviderError
from bridge.ingress.contract import CallOffer
from bridge.local_recogniser import Recogniser, local_recogniser, wants_local
from bridge.plans import plan_for

KEY = {"Authorization": "Token any"}
RUNNING = {"local": {"url": "ws://127.0.0.1:5"}}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (Settings(), False),
        (Settings(stt=SttSettings(provider="local")), True),
        (Settings(stt=SttSettings(fallback=("local",))), True),
        (Settings(stt=SttSettings(provider="local", providers=RUNNING)), False),
        (Settings(route=(RouteSettings(stt={"provider": "local"}),)), True),
        (Settings(route=(RouteSettings(stt={"provider": "local", **RUNNING}),)), False),
    ],
)
def test_it_is_started_where_a_call_may_need_it_and_nobody_else_runs_one(settings: Settings, wanted: bool) -> None:
    assert wants_local(settings) is wanted


async def test_a_reload_keeps_its_address_and_takes_the_new_drain_time(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[stt]\nprovider = 'local'\nlanguage = 'es'\n[service]\ndrain_s = 0.05\n")
    bridge = Bridge(Settings(stt=SttSettings(provider="local")))
    bridge.service.provide(RUNNING)
    bridge.reload(config)
    plan = plan_for(CallOffer("sip", ()), bridge.service._settings)
    assert (plan.stt.language, plan.stt.providers["local"]) == ("es", RUNNING["local"])
    assert bridge._drain_s == 0.05


async def test_an_error_while_it_runs_comes_out_as_it_is() -> None:
    if importlib.util.find_spec("pocketsphinx") is None:
        pytest.skip("the extra `offline` is not installed")
    with pytest.raises(ProviderError, match="nobody took it"):
        async with local_recogniser(Settings(stt=SttSettings(provider="local"))):
            raise ProviderError("nobody took it", is_retryable=True)


async def test_a_reload_cannot_start_it(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[stt]\nprovider = 'local'\n")
    bridge = Bridge(Settings())
    bridge.reload(config)
    assert bridge.service._settings.stt.provider == "deepgram"


SCRIPT = """
import sys, time
port = sys.argv[sys.argv.index("--port") + 1]
with open(sys.argv[1], "a") as told:
    told.write(port + "\\n")
print(f"ws://127.0.0.1:{port if port != '0' else 4711}/", flush=True)
time.sleep(float(sys.argv[2]))
"""


async def starts(recogniser: Recogniser, path: Path, seconds: float) -> list[str]:
    """The ports that it was started on within `seconds`."""
    await recogniser.start()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await recogniser.keep()
    await recogniser.stop()
    return (await asyncio.to_thread(path.read_text)).split()


async def test_one_that_dies_is_started_again_at_the_same_address_later_and_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.local_recogniser.AGAIN_FIRST", 0.2)
    recogniser = Recogniser((sys.executable, "-c", SCRIPT, str(tmp_path / "told"), "0"))
    with structlog.testing.capture_logs() as logs:
        ports = await starts(recogniser, tmp_path / "told", 2.2)
    assert ports[0] == "0"
    assert set(ports[1:]) == {"4711"}
    died = [line["reason"] for line in logs if line["event"] == "local recogniser died"]
    assert died[:3] == ["again in 0.2 s", "again in 0.4 s", "again in 0.8 s"]
    assert 3 <= len(ports) <= 4, "0.2, 0.4 and 0.8 s lie between, and each start takes a moment"


async def test_one_that_lives_is_left_alone_and_ended_with_the_block(tmp_path: Path) -> None:
    recogniser = Recogniser((sys.executable, "-c", SCRIPT, str(tmp_path / "told"), "60"))
    assert await starts(recogniser, tmp_path / "told", 0.3) == ["0"]
    assert recogniser._process is not None
    assert recogniser._process.returncode is not None


async def test_one_that_cannot_start_again_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.local_recogniser.AGAIN_FIRST", 0.05)
    monkeypatch.setattr("bridge.local_recogniser.AGAIN_MAX", 0.1)
    mute = 'import sys, os; p = sys.argv[1]; n = os.path.exists(p); open(p, "a").write("x\\n"); n or print("ws://h:1/")'
    recogniser = Recogniser((sys.executable, "-c", mute, str(tmp_path / "told")))
    with structlog.testing.capture_logs() as logs:
        assert len(await starts(recogniser, tmp_path / "told", 2.0)) >= 3
    assert "local recogniser does not start" in [line["event"] for line in logs]


async def test_one_for_which_the_system_has_no_process_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.local_recogniser.AGAIN_FIRST", 0.05)
    program = tmp_path / "recogniser"
    program.write_text("#!/bin/sh\nrm $0\necho ws://h:1/\n")
    program.chmod(0o755)
    recogniser = Recogniser((str(program),))
    with structlog.testing.capture_logs() as logs:
        await recogniser.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await recogniser.keep()
    assert [line["event"] for line in logs].count("local recogniser does not start") >= 2


@pytest.mark.skipif(importlib.util.find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed")
async def test_the_real_one_is_back_after_kill_9() -> None:
    async with asyncio.timeout(60):
        recogniser = Recogniser()
        url = await recogniser.start()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(recogniser.keep())
            assert recogniser._process is not None
            recogniser._process.kill()
            while True:
                await asyncio.sleep(0.1)
                with contextlib.suppress(OSError):
                    async with connect(f"{url}?encoding=linear16&sample_rate=8000", proxy=None, additional_headers=KEY):
                        break
            keeping.cancel()
        await recogniser.stop()


def test_a_stand_in_that_ends_with_its_input_outlives_nobody_who_started_it() -> None:
    command = (sys.executable, "-m", "bridge", "emulate", "deepgram", "--port", "0", "--recogniser", "none")
    with subprocess.Popen(
        [*command, "--ends-with-input"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"ws://")
        assert process.poll() is None
        process.stdin.close()  # what the kernel does for one that was killed
        assert process.wait(20) == 0
