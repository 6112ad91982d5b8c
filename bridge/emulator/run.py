"""`callbridge emulate`: a stand-in on its own, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable

import structlog

from bridge.emulator.options import EmulatorOptions
from bridge.emulator.server import EmulatorServer, serve

log = structlog.get_logger()


class _InputEnded(asyncio.Protocol):
    """Whoever held our standard input is gone, however it died."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop.set()


def run_emulator(
    options: EmulatorOptions,
    *,
    started: Callable[[EmulatorServer], None] = lambda server: None,
    ends_with_input: bool = False,
) -> None:
    """Serve until a signal, or with `ends_with_input` until standard input ends. `started` is called once the port is
    open, for printing `server.url`.

    Raises OSError where the port is taken and ConfigError where a library or a recogniser cannot be used.
    """
    asyncio.run(_run(options, started, ends_with_input=ends_with_input))


async def _run(options: EmulatorOptions, started: Callable[[EmulatorServer], None], *, ends_with_input: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if ends_with_input:
        await loop.connect_read_pipe(lambda: _InputEnded(stop), sys.stdin)
    async with serve(options) as server:
        log.info("emulator listening", provider=options.provider, n=server.port)
        started(server)
        await stop.wait()
