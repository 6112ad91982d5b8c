"""`stt.provider = "local"`: the offline recogniser in a process of its own, started with the service."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import structlog

from bridge.config import SttSettings
from bridge.errors import ConfigError

START = 20.0  # s to load its model and open its port
STOP = 5.0  # s before it is killed
log = structlog.get_logger()


def wants_local(settings: SttSettings) -> bool:
    """Whether a recogniser must be started: `local` is used and nobody else's address is configured for it."""
    used = "local" in (settings.provider, *settings.fallback)
    return used and not settings.providers.get("local", {}).get("url")


@contextlib.asynccontextmanager
async def local_recogniser(settings: SttSettings, provide: Callable[[SttSettings], None]) -> AsyncIterator[None]:
    """Runs it for as long as the block lasts, and tells `provide` the settings with its address. Nothing happens where
    nobody asks for it. Raises ConfigError when it does not come up."""
    if not wants_local(settings):
        yield
        return
    if importlib.util.find_spec("pocketsphinx") is None:
        raise ConfigError(["stt.local: needs the extra `offline`: pip install 'callbridge[offline]'"])
    arguments = (
        "-m",
        "bridge",
        "emulate",
        "deepgram",
        "--port",
        "0",
        "--recogniser",
        "pocketsphinx",
        "--throttle",
        "0",
    )
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        url = await _address(process)
        log.info("local recogniser runs", provider="local", state="up")
        table = settings.providers.get("local", {}) | {"url": url}
        provide(replace(settings, providers=settings.providers | {"local": table}))
        yield
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP):
                    await process.wait()
            except TimeoutError:
                process.kill()


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START):
            line = (await process.stdout.readline()).decode().strip()
    except TimeoutError:
        line = ""
    if not line.startswith("ws://"):
        raise ConfigError(["stt.local: the recogniser did not start"])
    return line
