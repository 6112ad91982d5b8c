"""A provider stand-in in a process of its own that can be told, while it runs, to drop every connection, to take no
more, and to tell all that it received: what an outside checker compares Redis with.

    python -m tests.soak.stand_in '{"provider": "deepgram", "recogniser": "scripted"}'

Says JSON lines: first its address, then one answer to each line of input (`drop`, `log`, `audio`, `refuse STATUS`,
`serve`).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from bridge.clock import monotonic
from bridge.emulator.options import EmulatorOptions, Fault
from bridge.emulator.received import Connection
from bridge.emulator.server import EmulatorServer, serve

ROOT = Path(__file__).parents[2]
STOP_TIMEOUT = 30.0  # s; a loaded machine


# -- the tester's side ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """One connection as the stand-in logged it; times are seconds of its own clock."""

    request_id: str
    path: str
    seconds: float
    "Of audio received."
    audio_bytes: int
    frames: tuple[tuple[float, str, int], ...]
    words: tuple[tuple[str, float, float], ...]
    "Of the final results that were really sent: bare text, start, end in stream time."
    refused: int
    close_code: int
    close_reason: str
    is_open: bool
    audio: bytes = field(default=b"", repr=False)


class StandIn:
    """The running process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        told = json.loads(self._line())
        self.url: str = told["url"]
        self.clock: float = told["clock"]

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the stand-in has ended")
        return line

    def _ask(self, command: str) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return json.loads(self._line())

    def drop(self) -> int:
        """Aborts every open connection; answers how many."""
        return int(self._ask("drop"))

    def refuse(self, status: int) -> None:
        """From now on every new connection is refused with `status`."""
        self._ask(f"refuse {status}")

    def serve(self) -> None:
        """Takes connections again."""
        self._ask("serve")

    def connections(self, *, audio: bool = False) -> list[Heard]:
        """All so far, in order of arrival."""
        return [
            Heard(
                request_id=c["request_id"], path=c["path"], seconds=c["seconds"], audio_bytes=c["audio_bytes"],
                frames=tuple((t, kind, size) for t, kind, size in c["frames"]),
                words=tuple((text, start, end) for text, start, end in c["heard"]),
                refused=c["refused"], close_code=c["close_code"], close_reason=c["close_reason"],
                is_open=c["closed_at"] is None, audio=base64.b64decode(c.get("audio", "")),
            )
            for c in self._ask("audio" if audio else "log")
        ]  # fmt: skip


@contextlib.contextmanager
def stand_in(folder: Path, provider: str = "deepgram", **options: Any) -> Iterator[StandIn]:
    """Running until the block ends. `options`: fields of EmulatorOptions, `faults` as texts."""
    command = [sys.executable, "-m", "tests.soak.stand_in", json.dumps({"provider": provider, **options})]
    with (folder / f"{provider}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )  # fmt: skip
    try:
        yield StandIn(process)
    finally:
        process.terminate()
        process.wait(STOP_TIMEOUT)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            pipe.close()


# -- its own side -----------------------------------------------------------------------------------------------------


def _told(connection: Connection, *, audio: bool) -> dict[str, Any]:
    told = connection.summary(frames=True)
    told["heard"] = [[word.text, word.start, word.end] for word in connection.words]
    if audio:
        told["audio"] = base64.b64encode(connection.audio).decode()
    return told


def _answer(server: EmulatorServer, options: EmulatorOptions, command: str) -> Any:
    name, _, value = command.partition(" ")
    if name == "drop":
        n_open = sum(connection.is_open for connection in server.connections)
        server.drop_all()
        return n_open
    if name in ("log", "audio"):
        return [_told(connection, audio=name == "audio") for connection in server.connections]
    if name == "refuse":
        server.options = replace(options, faults=(*options.faults, Fault.parse(f"refuse={value}")))
    elif name == "serve":
        server.options = options
    return None


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def _run(options: EmulatorOptions) -> None:
    loop, commands = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    async with serve(options) as server:
        _say({"url": server.url, "clock": monotonic() - server._now()})
        while line := await commands.readline():
            _say(_answer(server, options, line.decode().strip()))


def _main(text: str) -> None:
    told = json.loads(text)
    faults = tuple(Fault.parse(fault) for fault in told.pop("faults", ()))
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(_run(EmulatorOptions(**told, faults=faults)))


if __name__ == "__main__":
    _main(sys.argv[1])
