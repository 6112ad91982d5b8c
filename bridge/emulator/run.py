"""`callbridge emulate`: a stand-in on its own, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

import structlog

from bridge.emulator.options import EmulatorOptions
from bridge.emulator.server import EmulatorServer, serve

log = structlog.get_logger()


def run_emulator(options: EmulatorOptions, *, started: Callable[[EmulatorServer], None] = lambda server: None) -> None:
    """Serve until a signal. `started` is called once the port is open, for printing `server.url`.

    Raises OSError where the port is taken and ConfigError where a library or a recogniser cannot be used.
    """
    asyncio.run(_run(options, started))


async def _run(options: EmulatorOptions, started: Callable[[EmulatorServer], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with serve(options) as server:
        log.info("emulator listening", provider=options.provider, n=server.port)
        started(server)
        await stop.wait()
