"""`stt.provider = "local"`: the offline recogniser in a process of its own, started with the service."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator

import structlog

from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.plans import ProviderTables, plan_settings

START = 20.0  # s to load its model and open its port
STOP = 5.0  # s before it is killed
log = structlog.get_logger()


def wants_local(settings: Settings) -> bool:
    """Whether a recogniser must be started: `local` is used, by all calls or by a route, and nobody else's address is
    configured for it."""
    plans = [settings.stt, *(plan_settings(route, settings, [], "route").stt for route in settings.route)]
    return any(
        "local" in (plan.provider, *plan.fallback) and not plan.providers.get("local", {}).get("url") for plan in plans
    )


@contextlib.asynccontextmanager
async def local_recogniser(settings: Settings) -> AsyncIterator[ProviderTables]:
    """Runs it for as long as the block lasts, and gives its address as a table for `with_tables`. Nothing is started
    and the tables are empty where nobody asks for it. Raises ConfigError when it does not come up."""
    if not wants_local(settings):
        yield {}
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
        yield {"local": {"url": url}}
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
