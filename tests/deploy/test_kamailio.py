"""The dispatcher of deploy/kamailio: parsed by Kamailio, and run in front of two instances while SIPp calls."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow.house import ROOT, STREAM, Running, provider, service, wait_until_ready
from tests.redis_server import RedisServer, is_installed
from tests.wire.sipp import SIPP

from .kamailio import FOLDER, KAMAILIO, KAMCMD, Dispatcher, command, dispatcher

SCENARIO = Path(__file__).parent / "scenarios" / "call.xml"
RATE = 20  # calls per second
CALL_S = 3.0
CALLS = 130
needs_kamailio = pytest.mark.skipif(KAMAILIO is None, reason="kamailio is not installed")
needs_all = pytest.mark.skipif(
    KAMAILIO is None or KAMCMD is None or SIPP is None or not is_installed(),
    reason="kamailio, sipp or redis-server is not installed",
)


@needs_kamailio
def test_kamailio_takes_the_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, [5061], 5060, "-c"), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    assert "WARNING" not in done.stderr


def test_every_instance_in_the_list_has_its_own_name() -> None:
    rows = [line.split() for line in (FOLDER / "dispatcher.list").read_text().splitlines() if line[:1] not in ("#", "")]
    assert len(rows) >= 2
    assert {row[0] for row in rows} == {"1"}
    assert len({row[1] for row in rows}) == len({row[4] for row in rows}) == len(rows)
    assert all(row[4].startswith("duid=") for row in rows)


class Street:
    """Two instances, Kamailio in front, and what they published."""

    def __init__(self, instances: dict[str, Running], proxy: Dispatcher, redis_server: RedisServer) -> None:
        self.instances, self.proxy, self._redis = instances, proxy, redis_server

    def entries(self, kind: str) -> list[dict[str, str]]:
        """All events of one type, of all instances."""
        with self._redis.client() as client:
            found: list[tuple[str, dict[str, str]]] = client.xrange(STREAM)  # type: ignore[assignment]
            return [fields for _, fields in found if fields["type"] == kind]

    def taken(self) -> Counter[str]:
        """Calls by instance."""
        return Counter(fields["instance"] for fields in self.entries("call.started"))

    def port(self, name: str) -> int:
        return int(self.instances[name].uri.rpartition(":")[2])

    def metric(self, name: str, sample: str) -> float:
        """One sample of an instance's exposition."""
        with urllib.request.urlopen(f"{self.instances[name].http}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)), 0.0)


@pytest.fixture
def street(tmp_path: Path, redis_server: RedisServer) -> Iterator[Street]:
    settings: dict[str, Any] = {"sip": {"rate_per_source": 1000.0}}
    with contextlib.ExitStack() as stack:
        stand_in = stack.enter_context(provider(tmp_path))
        instances = {}
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            instances[name] = stack.enter_context(
                service(folder, redis_server, stand_in.url, service={"instance": name}, **settings)
            )
        ports = [int(running.uri.rpartition(":")[2]) for running in instances.values()]
        proxy = stack.enter_context(dispatcher(tmp_path, ports))
        yield Street(instances, proxy, redis_server)


@contextlib.contextmanager
def calling(folder: Path, port: int, *, calls: int) -> Iterator[subprocess.Popen[bytes]]:
    """SIPp; each call lasts CALL_S and then hangs up itself."""
    assert SIPP is not None
    with (folder / "sipp.log").open("wb") as log:
        process = subprocess.Popen(
            [
                SIPP, f"127.0.0.1:{port}", "-sf", str(SCENARIO), "-t", "u1", "-i", "127.0.0.1", "-m", str(calls),
                "-r", str(RATE), "-d", str(round(CALL_S * 1000)), "-nostdin", "-trace_err", "-error_file",
                str(folder / "sipp.errors"), "-timeout", "60s", "-timeout_error",
            ], cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def await_calls(street: Street, n: int) -> None:
    deadline = time.monotonic() + 30
    while street.taken().total() < n:
        assert time.monotonic() < deadline, street.taken()
        time.sleep(0.1)


@needs_all
@pytest.mark.timeout(120)
def test_calls_spread_evenly_and_a_drained_instance_loses_none_and_gets_no_new_one(
    street: Street, tmp_path: Path
) -> None:
    one = street.instances["one"]
    with calling(tmp_path, street.proxy.port, calls=CALLS) as sipp:
        await_calls(street, 60)
        before = street.taken()
        assert abs(before["one"] - before["two"]) <= 4
        one.process.send_signal(signal.SIGTERM)
        assert street.proxy.await_flags(street.port("one"), "I")
        invites = street.metric("one", 'callbridge_sip_requests_total{method="INVITE"}')
        running = street.metric("one", "callbridge_calls_running")
        assert running > 0, "the drained instance had calls to finish"
        await_calls(street, 90)
        if one.process.poll() is None:
            assert street.metric("one", 'callbridge_sip_requests_total{method="INVITE"}') == invites
        assert one.process.wait(30) == 0
        assert sipp.wait(60) == 0, (tmp_path / "sipp.errors").read_text()[-3000:]
    ended = street.entries("call.ended")
    deadline = time.monotonic() + 20
    while len(ended) < CALLS and time.monotonic() < deadline:
        time.sleep(0.1)
        ended = street.entries("call.ended")
    assert Counter(fields["data"].split('"reason":')[1].split('"')[1] for fields in ended) == {"hangup": CALLS}
    after = street.taken()
    assert after.total() == CALLS
    assert after["one"] - before["one"] <= 3, "what came between the count and the signal"


def restart(running: Running) -> None:
    """The next version, on the same configuration. The old process must be gone."""
    assert running.process.poll() is not None
    command = [sys.executable, "-m", "bridge", "serve", "--config", str(running.log.with_name("callbridge.toml"))]
    with running.log.open("ab") as log:
        running.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    wait_until_ready(running)


@needs_all
@pytest.mark.soak
def test_both_instances_are_replaced_one_after_the_other_while_calls_run_and_none_is_cut(
    street: Street, tmp_path: Path
) -> None:
    calls = 700
    with calling(tmp_path, street.proxy.port, calls=calls) as sipp:
        for name, running in street.instances.items():
            await_calls(street, street.taken().total() + 60)
            running.process.send_signal(signal.SIGTERM)
            assert running.process.wait(60) == 0
            assert sipp.poll() is None, "calls go on while an instance is replaced"
            restart(running)
            taken = street.taken()[name]
            assert street.proxy.await_flags(street.port(name), "A")
            deadline = time.monotonic() + 10
            while street.taken()[name] == taken:
                assert time.monotonic() < deadline, "an instance that is back gets calls"
                time.sleep(0.1)
        assert sipp.wait(90) == 0, (tmp_path / "sipp.errors").read_text()[-3000:]
    assert street.taken().total() == calls


@needs_all
@pytest.mark.soak
def test_calls_go_to_the_other_instance_while_one_is_dead(street: Street, tmp_path: Path) -> None:
    with calling(tmp_path, street.proxy.port, calls=20) as sipp:
        assert sipp.wait(60) == 0
    street.instances["one"].process.kill()
    before = street.taken()
    with calling(tmp_path, street.proxy.port, calls=60) as sipp:
        assert sipp.wait(60) == 0, (tmp_path / "sipp.errors").read_text()[-3000:]
    assert street.proxy.flags()[street.port("one")].startswith("I")
    after = street.taken()
    assert (after["one"] - before["one"], after["two"] - before["two"]) == (0, 60)
