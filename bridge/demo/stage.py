"""The demo's processes on ports of their own: redis-server, provider stand-in, service. Nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import redis.asyncio
import redis.exceptions

from bridge.clock import monotonic
from bridge.errors import BridgeError

START_TIMEOUT = 20.0  # s; a loaded small machine
STOP_TIMEOUT = 15.0  # s; the service drains: last words and a flushed outbox
RTP_PORTS = 200
LOG_LINES = 15

CONFIG = """\
[service]
instance = "demo"
drain_s = 5
[sip]
listen = ["udp:127.0.0.1:{sip}"]
[rtp]
bind = "127.0.0.1"
ports = [{rtp}, {rtp_last}]
[http]
listen = "127.0.0.1:{http}"
[stt]
provider = "{provider}"
[stt.{provider}]
url = "{provider_url}"
api_key = "demo"
[redis]
url = "{redis_url}"
[spool]
path = "{folder}/spool"
[log]
format = "json"
"""


class StageError(BridgeError):
    """A process of the demo did not start."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What is running and where."""

    folder: Path
    redis_url: str
    sip_uri: str
    console_url: str
    provider_log_url: str
    provider_clock: float
    "Monotonic seconds at 0 of the provider's log."


@asynccontextmanager
async def stage(provider: str) -> AsyncIterator[Stage]:
    """Everything running and ready while the block runs. Raises StageError with the log of what did not start."""
    if shutil.which("redis-server") is None:
        raise StageError("redis-server is not installed (Debian and Ubuntu: apt-get install redis-server)")
    folder = Path(tempfile.mkdtemp(prefix="callbridge-demo-"))
    try:
        async with AsyncExitStack() as stack:
            redis_url = await stack.enter_async_context(_redis(folder))
            told = await stack.enter_async_context(_provider(folder, provider))
            sip, http, rtp = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM), free_rtp_range()
            config = folder / "callbridge.toml"
            config.write_text(
                CONFIG.format(
                    sip=sip, http=http, rtp=rtp, rtp_last=rtp + RTP_PORTS - 1, provider=provider,
                    provider_url=told["url"], redis_url=redis_url, folder=folder,
                )
            )  # fmt: skip
            console = f"http://127.0.0.1:{http}"
            await stack.enter_async_context(_service(folder, config, console))
            log_url = f"http://127.0.0.1:{told['port']}/emulator/connections?frames=1"
            uri = f"sip:demo@127.0.0.1:{sip}"
            yield Stage(folder, redis_url, uri, console, log_url, float(told["clock"]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _redis(folder: Path) -> AsyncIterator[str]:
    port = free_port(socket.SOCK_STREAM)
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    url = f"redis://127.0.0.1:{port}/0"

    async def answers() -> bool:
        async with redis.asyncio.from_url(url) as client:
            return bool(await client.ping())

    async with _process("redis", [*command, "--dir", str(folder)], folder) as process:
        await _until("redis", answers, process, folder)
        yield url


@asynccontextmanager
async def _provider(folder: Path, provider: str) -> AsyncIterator[dict[str, str]]:
    command = [sys.executable, "-m", "bridge.demo.provider", provider]
    async with _process("provider", command, folder, has_output=True) as process:
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            raise StageError(f"the provider stand-in did not start\n{log_of(folder, 'provider')}")
        yield json.loads(line)


@asynccontextmanager
async def _service(folder: Path, config: Path, console: str) -> AsyncIterator[None]:
    async def answers() -> bool:
        async with aiohttp.ClientSession() as http, http.get(f"{console}/readyz") as response:
            return response.status == 200

    command = [sys.executable, "-m", "bridge", "serve", "--config", str(config)]
    async with _process("service", command, folder) as process:
        await _until("service", answers, process, folder)
        yield


@asynccontextmanager
async def _process(
    name: str, command: list[str], folder: Path, *, has_output: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ended with the block: SIGTERM, and SIGKILL for who does not listen. What it says goes to `<name>.log`."""
    with (folder / f"{name}.log").open("wb") as log:
        output = asyncio.subprocess.PIPE if has_output else log
        process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=log, env=_environment())
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


def _environment() -> dict[str, str]:
    """Ours without what would override the demo's configuration: real keys and a real Redis stay out of it."""
    mine = ("DEEPGRAM_API_KEY", "SONIOX_API_KEY", "REDIS_URL")
    return {key: value for key, value in os.environ.items() if key not in mine and not key.startswith("CALLBRIDGE_")}


async def _until(
    name: str, answers: Callable[[], Awaitable[bool]], process: asyncio.subprocess.Process, folder: Path
) -> None:
    deadline = monotonic() + START_TIMEOUT
    while process.returncode is None and monotonic() < deadline:
        try:
            if await answers():
                return
        except (OSError, aiohttp.ClientError, redis.exceptions.RedisError):
            pass  # not there yet
        await asyncio.sleep(0.05)
    raise StageError(f"{name} did not start\n{log_of(folder, name)}")


def log_of(folder: Path, name: str) -> str:
    """The end of a process's log."""
    try:
        return "\n".join((folder / f"{name}.log").read_text(errors="replace").splitlines()[-LOG_LINES:])
    except OSError:
        return ""


def free_port(kind: socket.SocketKind) -> int:
    """A port that nobody uses now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_rtp_range() -> int:
    """The first of RTP_PORTS ports whose ends are free; below the ephemeral ports of Linux (32768)."""
    for first in range(20000, 32000, RTP_PORTS):
        try:
            for port in (first, first + 1, first + RTP_PORTS - 1):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise StageError("no free range of UDP ports for RTP")
