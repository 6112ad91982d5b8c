"""`stt.provider = "local"`: the offline recogniser in a process of its own, started with the service, and again when it
dies."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import structlog

from bridge.clock import monotonic
from bridge.config import Settings
from bridge.errors import ConfigError
from bridge.plans import ProviderTables, plan_settings

START = 20.0  # s to load its model and open its port
STOP = 5.0  # s before it is killed
AGAIN_FIRST = 0.5  # s after it died; doubles
AGAIN_MAX = 30.0  # s
WELL_AFTER = 60.0  # s; one that ran for so long is not the one that cannot start
COMMAND = (
    *(sys.executable, "-m", "bridge", "emulate", "deepgram"),
    *("--recogniser", "pocketsphinx", "--throttle", "0", "--ends-with-input"),  # no orphan when we are killed
)
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
    recogniser = Recogniser()
    try:
        url = await recogniser.start()
        async with asyncio.TaskGroup() as tasks:
            keeping = tasks.create_task(recogniser.keep(), name="local-recogniser")
            yield {"local": {"url": url}}
            keeping.cancel("stopped")
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None  # whoever runs within the block expects its own error, not a group's
    finally:
        await recogniser.stop()


class Recogniser:
    """The process. Started anew it keeps its address: sessions reconnect, and replay what was not heard."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        """`command` takes `--port N` (0: any) and prints its `ws://` address first."""
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._port = 0

    async def start(self) -> str:
        """Its address. Raises ConfigError when it does not come up."""
        self._process = process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--port", str(self._port)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        url = await _address(process)
        self._port = urlsplit(url).port or 0
        log.info("local recogniser runs", provider="local", state="up")
        return url

    async def keep(self) -> None:
        """Until cancelled: starts it again whenever it dies, later and later while it does not live."""
        again = AGAIN_FIRST
        while True:
            assert self._process is not None
            started = monotonic()
            status = await self._process.wait()
            if monotonic() - started >= WELL_AFTER:
                again = AGAIN_FIRST
            log.error("local recogniser died", provider="local", state="down", n=status, reason=f"again in {again:g} s")
            await asyncio.sleep(again)
            again = min(2 * again, AGAIN_MAX)
            try:
                await self.start()
            except (ConfigError, OSError) as error:  # OSError: no process to be had; that ends no call
                log.error("local recogniser does not start", provider="local", state="down", reason=str(error))
                await self.stop()

    async def stop(self) -> None:
        """Ends it, if it runs."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


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
