"""Operating a running service: drain, hurry, reload, limits, and what `check` and `serve` say before the first call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.app import FILES_BESIDE, FILES_PER_LEG
from bridge.caller.call import place_calls
from bridge.caller.options import CallResult
from bridge.demo.verdict import Event, compare, finals_of
from tests.redis_server import RedisServer, free_port, is_installed

from .house import ROOT, STREAM, USUAL, Provider, Running, provider, service
from .raw_sip import RawCall
from .scenarios import WEASELS, Scenario, plain

WORD_TOLERANCE = 0.020  # s, the contract
LAST_LINE = plain(((0.3, WEASELS),), cut_at=0.0)
NO_PROVIDER = "ws://127.0.0.1:9/"  # the discard port: nothing is said in these calls, so nothing is dialled
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


def until(is_so: Callable[[], Any], what: str, timeout: float = 20.0) -> Any:
    """What `is_so` answers, once that is something."""
    deadline = time.monotonic() + timeout
    while not (found := is_so()):
        assert time.monotonic() < deadline, what
        time.sleep(0.03)
    return found


def ask(
    running: Running, path: str, *, body: Any = None, method: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers, body."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(running.http + path, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, dict(response.headers), response.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def metric(running: Running, sample: str) -> float:
    lines = ask(running, "/metrics")[2].decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(sample)), 0.0)


def sip_port(running: Running) -> int:
    return int(running.uri.rpartition(":")[2])


@contextlib.contextmanager
def raw_call(running: Running, name: str) -> Iterator[RawCall]:
    with RawCall(sip_port(running), f"{name}@operations", name) as call:
        yield call


def options(running: Running) -> int:
    """What an SBC's health probe gets."""
    with raw_call(running, f"probe{time.monotonic_ns()}") as probe:
        probe.send("OPTIONS")
        return probe.final("OPTIONS").status


def said(running: Running, event: str) -> list[dict[str, Any]]:
    """Lines of the service's log."""
    return [line for line in running.log_lines() if line["event"] == event]


def place(running: Running, scenario: Scenario) -> CallResult:
    (result,) = asyncio.run(place_calls(replace(scenario.options, target=running.uri)))
    return result


def only_call(running: Running) -> list[Event]:
    (events,) = running.collect(1).values()
    return events


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


# -- drain --------------------------------------------------------------------------------------------------------


def test_sigterm_lets_a_call_speak_its_last_words_and_takes_no_other(
    tmp_path: Path, redis_server: RedisServer, stand_in: Provider
) -> None:
    with service(tmp_path, redis_server, stand_in.url) as running, ThreadPoolExecutor() as pool:
        assert options(running) == 200
        placed = pool.submit(place, running, LAST_LINE)
        until(lambda: metric(running, "callbridge_calls_running") == 1, "the call was not taken")
        running.process.send_signal(signal.SIGTERM)
        until(lambda: ask(running, "/readyz")[0] == 503, "readiness does not tell the drain")
        assert ask(running, "/healthz")[0] == 200, "a draining process is alive"
        assert options(running) == 503
        with raw_call(running, "late") as late:
            refused = late.invite()
        assert (refused.status, refused.headers["retry-after"].isdigit()) == (503, True)
        status, headers, _ = ask(running, "/v1/calls", body={"legs": [{"role": "caller", "codec": "PCMU"}]})
        assert (status, "Retry-After" in headers) == (503, True)
        assert metric(running, "callbridge_draining") == 1
        assert metric(running, 'callbridge_calls_refused_total{ingress="sip",reason="full or draining"}') == 1
        result = placed.result(30)
        assert (result.ok, result.reason) == (True, "done")
        assert running.process.wait(30) == 0
        events = only_call(running)
    assert events[-1].type == "call.ended"
    assert events[-1].data["reason"] == "hangup"
    heard = compare(LAST_LINE.words(), finals_of(events, "caller"))
    assert (heard.missing, heard.surplus) == ((), ())
    assert heard.worst <= WORD_TOLERANCE


def test_a_second_sigterm_hangs_up_and_tells_why(tmp_path: Path, redis_server: RedisServer) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER) as running, raw_call(running, "cut") as call:
        assert call.invite().status == 200
        running.process.send_signal(signal.SIGTERM)
        until(lambda: said(running, "draining"), "no drain")
        time.sleep(0.3)
        assert running.process.poll() is None, "the first signal waits for the call"
        running.process.send_signal(signal.SIGTERM)
        until(lambda: call.sock.recv(65535).startswith(b"BYE "), "no BYE")
        assert running.process.wait(30) == 0
        events = only_call(running)
    assert events[-1].data["reason"] == "drain"


def test_a_drain_ends_at_its_deadline(tmp_path: Path, redis_server: RedisServer) -> None:
    with (
        service(tmp_path, redis_server, NO_PROVIDER, service={"drain_s": 0.5}) as running,
        raw_call(running, "long") as call,
    ):
        assert call.invite().status == 200
        running.process.send_signal(signal.SIGTERM)
        until(lambda: call.sock.recv(65535).startswith(b"BYE "), "no BYE")
        assert running.process.wait(40) == 0
        assert only_call(running)[-1].data["reason"] == "drain"


# -- reload -------------------------------------------------------------------------------------------------------


def first_gate(running: Running, name: str) -> tuple[str, dict[str, str]]:
    """The state in which a new call's gate begins, and the labels that its route gave it."""
    with raw_call(running, name) as call:
        assert call.invite().status == 200
        assert call.bye().status == 200

    def ended() -> list[Event] | None:
        events = running.collect(100, timeout=0).get(call.call_id)
        return events if events and events[-1].type == "call.ended" else None

    events = until(ended, "the call did not end")
    gate = next(event for event in events if event.type == "leg.gate")
    return gate.data["state"], events[0].data.get("labels", {})


def test_sighup_changes_gate_route_and_limit_for_new_calls_and_a_broken_file_changes_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    config = tmp_path / "callbridge.toml"
    with service(tmp_path, redis_server, NO_PROVIDER) as running:
        before = config.read_text()
        assert first_gate(running, "before") == ("closed", {})
        with raw_call(running, "running") as old:
            assert old.invite().status == 200

            config.write_text(
                before + '[gate]\nmode = "off"\n[service]\nmax_legs = 2\n'
                '[[route]]\nmatch = { to = "flow" }\nlabels = { queue = "new" }\n'
            )
            running.process.send_signal(signal.SIGHUP)
            until(lambda: said(running, "reloaded"), "not reloaded")
            assert metric(running, "callbridge_legs_limit") == 2
            assert first_gate(running, "after") == ("open", {"queue": "new"})

            config.write_text(before + '[gate]\nmode = "loud"\n[sip]\nno_such_key = 1\n')
            running.process.send_signal(signal.SIGHUP)
            (refusal,) = until(lambda: said(running, "reload refused"), "the broken file was not told")
            assert "not valid TOML" in refusal["reason"], "[sip] twice"
            config.write_text(before + '[gate]\nmode = "loud"\n')
            running.process.send_signal(signal.SIGHUP)
            refusal = until(lambda: said(running, "reload refused")[1:], "the wrong value was not told")[0]
            assert "gate.mode" in refusal["reason"]
            assert first_gate(running, "still") == ("open", {"queue": "new"})

            assert old.bye().status == 200
            assert running.process.poll() is None


# -- limits -------------------------------------------------------------------------------------------------------


def test_one_call_too_many_is_refused_and_the_next_is_taken_once_there_is_room(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with (
        service(tmp_path, redis_server, NO_PROVIDER, service={"max_legs": 1}) as running,
        raw_call(running, "one") as one,
        raw_call(running, "two") as two,
        raw_call(running, "three") as three,
    ):
        assert one.invite().status == 200
        refused = two.invite()
        assert (refused.status, refused.headers["retry-after"].isdigit()) == (503, True)
        assert options(running) == 503, "a full instance gets no calls from its dispatcher"
        assert ask(running, "/readyz")[0] == 200, "full is not broken"
        assert one.bye().status == 200
        until(lambda: metric(running, "callbridge_legs") == 0, "the leg was not freed")
        assert three.invite().status == 200
        assert three.bye().status == 200


def test_two_legs_do_not_fit_where_one_does(tmp_path: Path, redis_server: RedisServer) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER, service={"max_legs": 1}) as running:
        legs = [{"role": "caller", "codec": "PCMU"}, {"role": "agent", "codec": "PCMU"}]
        assert ask(running, "/v1/calls", body={"legs": legs})[0] == 503
        assert metric(running, "callbridge_legs") == 0, "nothing of it is left behind"
        status, _, body = ask(running, "/v1/calls", body={"legs": legs[:1]})
        assert status == 201
        call = next(iter(json.loads(ask(running, "/v1/calls")[2])["calls"]))["id"]
        assert call in body.decode()
        assert ask(running, f"/v1/calls/{call}", method="DELETE")[0] == 204


def test_the_soft_limit_of_files_is_raised_to_what_the_legs_need(tmp_path: Path, redis_server: RedisServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 300 * FILES_PER_LEG + FILES_BESIDE
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the hard limit here is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        with service(tmp_path, redis_server, NO_PROVIDER, service={"max_legs": 300}) as running:
            limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = re.search(r"^Max open files\s+(\d+)", limits, re.MULTILINE)
    assert found is not None
    assert int(found[1]) == wanted


def test_nothing_is_written_but_the_spool_and_nothing_is_reported_to_the_makers_of_our_libraries(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # ONNX Runtime's builds for Linux queue reports under the home directory and send them home unless told not to
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    with service(tmp_path, redis_server, NO_PROVIDER) as running, raw_call(running, "quiet") as call:
        assert call.invite().status == 200
        assert call.bye().status == 200
    assert [path for path in home.rglob("*") if path.is_file()] == []


# -- what an operator sees ------------------------------------------------------------------------------------------


def test_metrics_tell_a_redis_that_goes_and_comes_back(tmp_path: Path, redis_server: RedisServer) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER) as running:
        until(lambda: metric(running, "callbridge_sink_up") == 1, "Redis was not found")
        assert metric(running, "callbridge_spool_up") == 1
        redis_server.kill()
        with raw_call(running, "meanwhile") as call:
            assert call.invite().status == 200
            until(lambda: metric(running, "callbridge_sink_up") == 0, "a dead Redis counts as up")
            until(lambda: metric(running, "callbridge_outbox_oldest_seconds") > 0, "nothing waits")
            assert call.bye().status == 200
        ended = 'callbridge_events_total{type="call.ended"}'
        until(lambda: metric(running, ended) == 1, "the call's last event was not made")
        assert metric(running, "callbridge_redis_errors_total") > 0
        assert metric(running, "callbridge_outbox_queued") > 0
        redis_server.start()
        until(lambda: metric(running, "callbridge_sink_up") == 1, "Redis was not found again")
        until(lambda: metric(running, "callbridge_outbox_queued") == 0, "what waited was not written")
        assert metric(running, "callbridge_redis_write_seconds_count") > 0
        assert only_call(running)[-1].type == "call.ended"
        with redis_server.client() as client:
            client.xgroup_create(STREAM, "billing", "0")
            n = client.xlen(STREAM)
            until(lambda: metric(running, 'callbridge_group_lag_events{group="billing"}') == n, "the lag is not told")
            client.xreadgroup("billing", "a", {STREAM: ">"})
            until(lambda: metric(running, 'callbridge_group_lag_events{group="billing"}') == 0, "it stays behind")


def test_metrics_tell_provider_sessions_while_they_are_open(
    tmp_path: Path, redis_server: RedisServer, stand_in: Provider
) -> None:
    with service(tmp_path, redis_server, stand_in.url) as running, ThreadPoolExecutor() as pool:
        placed = pool.submit(place, running, LAST_LINE)
        until(lambda: metric(running, 'callbridge_sessions{provider="deepgram"}') == 1, "no session is told")
        assert metric(running, 'callbridge_stt_connect_seconds_count{provider="deepgram"}') == 1
        assert placed.result(30).ok
        until(lambda: metric(running, 'callbridge_sessions{provider="deepgram"}') == 0, "a closed session is told")
        assert metric(running, "callbridge_sink_up") == 1


# -- before the first call --------------------------------------------------------------------------------------------


def callbridge(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CALLBRIDGE_") and k not in USUAL}
    return subprocess.run(
        [sys.executable, "-m", "bridge", *arguments],
        cwd=ROOT, env=clean | environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["check", "serve"])
def test_all_that_will_not_work_is_told_in_one_list(command: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = tmp_path / "callbridge.toml"
        (tmp_path / "file").write_text("a file, where the spool's directory should be")
        config.write_text(
            f'[sip]\nlisten = ["tcp:127.0.0.1:{port}"]\n[http]\nlisten = "127.0.0.1:{free_port()}"\n'
            f'[redis]\nurl = "redis://127.0.0.1:{free_port()}/0"\n[spool]\npath = "{tmp_path}/file/spool"\n'
            '[gate]\nmode = "loud"\n'
        )
        done = callbridge(command, "--config", str(config))
    assert done.returncode == 2
    for problem in (f"tcp:127.0.0.1:{port}", "stt.deepgram.api_key", "redis.url", "gate.mode", "spool.path"):
        assert len([line for line in done.stderr.splitlines() if problem in line]) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_a_malformed_redis_url_is_told_once_beside_the_rest(tmp_path: Path) -> None:
    done = callbridge("check", CALLBRIDGE_REDIS__URL="nonsense://x", CALLBRIDGE_HTTP__LISTEN="nowhere")
    assert done.returncode == 2
    assert done.stderr.count("redis.url") == 1
    assert "http.listen" in done.stderr
    assert "Traceback" not in done.stderr


@contextlib.contextmanager
def emulator(key: str) -> Iterator[str]:
    command = [sys.executable, "-m", "bridge", "emulate", "deepgram", "--port", "0", "--recogniser", "none"]
    process = subprocess.Popen([*command, "--key", key], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        lines = (line.decode().strip() for line in process.stdout)
        yield next(line for line in lines if line.startswith("ws"))
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def test_online_asks_the_provider_whether_it_takes_our_key_and_never_shows_it(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with emulator("rightkey") as url:
        settings = {
            "REDIS_URL": redis_server.url, "CALLBRIDGE_STT__DEEPGRAM__URL": url,
            "CALLBRIDGE_SPOOL__PATH": str(tmp_path), "CALLBRIDGE_HTTP__LISTEN": f"127.0.0.1:{free_port()}",
            "CALLBRIDGE_SIP__LISTEN": f"tcp:127.0.0.1:{free_port()}",
        }  # fmt: skip
        wrong = callbridge("check", "--online", DEEPGRAM_API_KEY="wrongkey", **settings)
        right = callbridge("check", "--online", DEEPGRAM_API_KEY="rightkey", **settings)
    assert (wrong.returncode, right.returncode) == (2, 0), wrong.stderr + right.stderr
    assert "401" in wrong.stderr
    assert "wrongkey" not in wrong.stdout + wrong.stderr
