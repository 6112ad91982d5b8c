from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from bridge.supervisor import Supervisor
from tests.flow.house import service
from tests.redis_server import RedisServer

USEC = 600_000  # of WatchdogSec: two tenths of a second between two signs of life
NO_PROVIDER = "ws://127.0.0.1:9/"


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(20)
        self.environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(USEC)}

    def next(self, wanted: Callable[[list[str]], bool] = lambda _: True) -> list[str]:
        """The next message that is `wanted`, by lines."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if wanted(lines):
                return lines

    def waiting(self) -> list[str]:
        """All that was said and not heard yet."""
        self.socket.setblocking(False)
        lines = []
        try:
            while True:
                lines += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path / "notify")
    yield systemd
    systemd.socket.close()


async def watched(supervisor: Supervisor, beats: Callable[[], int], seconds: float, status: str = "well") -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await supervisor.watch(beats, lambda: status)


async def test_while_the_tick_beats_a_sign_of_life_comes_well_within_the_watchdogs_time(systemd: Systemd) -> None:
    beats = iter(range(1000))
    await watched(Supervisor(systemd.environ), lambda: next(beats), 0.7)
    lines = systemd.waiting()
    assert lines.count("WATCHDOG=1") >= 3
    assert lines.count("STATUS=well") == 1, "what has not changed is not said again"


async def test_a_tick_that_stands_still_is_not_told_alive_though_the_loop_runs(systemd: Systemd) -> None:
    await watched(Supervisor(systemd.environ), lambda: 7, 0.7)
    assert systemd.waiting().count("WATCHDOG=1") == 1


@pytest.mark.parametrize("more", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_PID": "1"}])
async def test_no_sign_of_life_where_nobody_asks_us_for_one(systemd: Systemd, more: dict[str, str]) -> None:
    await watched(Supervisor(systemd.environ | more), lambda: 1, 0.1)
    assert systemd.waiting() == ["STATUS=well"]


def test_without_a_socket_nothing_is_said_and_one_that_is_gone_is_told_once() -> None:
    with structlog.testing.capture_logs() as logs:
        Supervisor({}).say("READY=1")
        assert logs == []
        supervisor = Supervisor({"NOTIFY_SOCKET": "/nowhere/notify"})
        supervisor.say("READY=1")
        supervisor.say("READY=1")
    assert [line["event"] for line in logs] == ["supervisor not reached"]


def test_an_abstract_socket_is_found() -> None:
    name = f"callbridge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name)
        Supervisor({"NOTIFY_SOCKET": f"@{name}"}).say("READY=1", "STATUS=x")
        assert listener.recv(100) == b"READY=1\nSTATUS=x"


def test_a_service_tells_systemd_when_it_is_ready_that_it_lives_and_when_it_stops(
    tmp_path: Path, redis_server: RedisServer, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in systemd.environ.items():
        monkeypatch.setenv(name, value)
    with service(tmp_path, redis_server, NO_PROVIDER) as running:
        status = systemd.next(lambda lines: "READY=1" in lines)[1]
        assert status == "STATUS=serving, 0 calls with 0 of 1000 legs"
        for _ in range(3):
            systemd.next(lambda lines: "WATCHDOG=1" in lines)
        running.process.send_signal(signal.SIGTERM)
        stopping = systemd.next(lambda lines: "STOPPING=1" in lines)
        assert stopping[1].startswith("STATUS=draining")
        assert running.process.wait(20) == 0
