"""What is wrong with Redis is told in a sentence: by `check` and by `serve`, which starts all the same and heals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, free_port, is_installed, wait_for_replicas

from .house import ROOT, service, toml_lines
from .raw_sip import RawCall
from .test_operations import NO_PROVIDER, callbridge, metric, only_call, said, sip_port, until

CATEGORIES = "+@connection +@read +@write +@stream +info +wait +xinfo"
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


def poor(server: RedisServer, rights: str) -> str:
    """The URL of a user with few rights."""
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "poor", "on", ">sesame", *rights.split())
    return f"redis://poor:sesame@127.0.0.1:{server.port}/0"


def follower(server: RedisServer) -> str:
    """The URL of a replica: `server` becomes one, of a master that is gone soon after."""
    with RedisServer() as master, server.client() as client:
        client.replicaof("127.0.0.1", str(master.port))
        wait_for_replicas([server], time.monotonic() + 10)
    return server.url


def evicting(server: RedisServer) -> str:
    with server.client() as client:
        client.config_set("maxmemory", "100mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    return server.url


def stopped(server: RedisServer) -> str:
    server.pause()
    return server.url


TROUBLES: dict[str, tuple[Callable[[RedisServer], str], str]] = {
    "nobody there": (lambda _: f"redis://127.0.0.1:{free_port()}/0", "Error 111 connecting"),
    "no sentinel": (lambda _: f"redis+sentinel://127.0.0.1:{free_port()}/main", "Error 111 connecting"),
    "sentinels that are none": (lambda s: f"redis+sentinel://127.0.0.1:{s.port}/main", "unknown command"),
    "a cluster that is none": (lambda s: f"redis+cluster://127.0.0.1:{s.port}", "cluster support disabled"),
    "no cluster": (lambda _: f"redis+cluster://127.0.0.1:{free_port()}", "Error 111 connecting"),
    "the wrong password": (lambda s: f"redis://poor:sesame@127.0.0.1:{s.port}/0", "invalid username-password pair"),
    "rights to other keys": (lambda s: poor(s, "~other:* +@all"), "no permissions to access one of the keys"),
    "no right to run scripts": (lambda s: poor(s, f"~* {CATEGORIES}"), "no permissions to run the 'script|load'"),
    "a replica": (follower, "this Redis is a replica"),
    "entries may be evicted": (evicting, "maxmemory-policy allkeys-lru"),
    "no answer": (stopped, "no answer in time"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_check_says_in_one_line_where_redis_is_and_what_is_wrong_with_it(
    trouble: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    make, sentence = TROUBLES[trouble]
    settings = {
        "CALLBRIDGE_SIP__LISTEN": f"udp:127.0.0.1:{free_port()}", "CALLBRIDGE_HTTP__LISTEN": f"127.0.0.1:{free_port()}",
        "CALLBRIDGE_SPOOL__PATH": str(tmp_path), "DEEPGRAM_API_KEY": "any",
    }  # fmt: skip
    done = callbridge("check", REDIS_URL=make(redis_server), **settings)
    redis_server.resume()
    assert done.returncode == 2, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("callbridge: redis.url: ")
    assert sentence in line
    assert "127.0.0.1:" in line
    assert "sesame" not in line


@pytest.mark.parametrize("trouble", ["a cluster that is none", "no cluster"])
def test_serve_starts_without_redis_and_says_why_and_takes_calls(
    trouble: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    make, sentence = TROUBLES[trouble]
    with service(tmp_path, redis_server, NO_PROVIDER, redis={"url": make(redis_server)}) as running:
        (down,) = until(lambda: said(running, "sink down"), "it was not told")
        assert sentence in down["reason"]
        with RawCall(sip_port(running), "anyone@told", "told") as call:
            assert call.invite().status == 200
            assert call.bye().status == 200
        until(lambda: metric(running, "callbridge_outbox_queued") >= 3, "the call's events do not wait")
        assert metric(running, "callbridge_sink_up") == 0
        assert metric(running, "callbridge_spool_up") == 1
        assert "Traceback" not in running.log.read_text()
        running.process.kill()  # it would wait for Redis a while


def test_a_password_that_is_put_right_and_rights_that_are_given_let_in_what_waited(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    url = f"redis://poor:sesame@127.0.0.1:{redis_server.port}/0"
    with service(tmp_path, redis_server, NO_PROVIDER, redis={"url": url}) as running:
        with RawCall(sip_port(running), "anyone@told", "told") as call:
            assert call.invite().status == 200
            assert call.bye().status == 200
        until(lambda: said(running, "sink down"), "not told")
        poor(redis_server, "~other:* +@all")
        until(lambda: len(said(running, "sink down")) > 1, "the next trouble is not told")
        poor(redis_server, "~callbridge:*")
        until(lambda: metric(running, "callbridge_sink_up") == 1, "not let in")
        assert [event.type for event in only_call(running)][-1] == "call.ended"


def test_redis_that_comes_back_empty_gets_the_running_calls_again_from_the_spool(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with (
        service(tmp_path, redis_server, NO_PROVIDER) as running,
        RawCall(sip_port(running), "anyone@told", "told") as call,
    ):
        assert call.invite().status == 200
        until(lambda: metric(running, "callbridge_outbox_queued") == 0 and metric(running, "callbridge_sink_up"), "up")
        redis_server.restart()
        (line,) = until(lambda: said(running, "sink had lost events"), "it was not told")
        assert line["n"] >= 2
        assert call.bye().status == 200
        events = only_call(running)
        assert events[0].type == "call.started"
        assert events[-1].type == "call.ended"
        until(lambda: metric(running, "callbridge_outbox_queued") == 0, "not all was written")


# -- tail, and the first line of a log --------------------------------------------------------------------------------


@pytest.fixture
def tail(redis_server: RedisServer, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    config = tmp_path / "tail.toml"
    config.write_text(f"[redis]\n{toml_lines({'url': redis_server.url})}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge", "tail", "--from-start", "--json", "--config", str(config)],
        cwd=ROOT, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def test_tails_standard_output_holds_events_alone_though_redis_goes_away(
    redis_server: RedisServer, tail: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert tail.stdout is not None
    assert tail.stderr is not None

    def one_call(name: str) -> None:
        with service(tmp_path, redis_server, NO_PROVIDER) as running:
            with RawCall(sip_port(running), "anyone@told", name) as call:
                assert call.invite().status == 200
                assert call.bye().status == 200
            only_call(running)

    one_call("first")
    assert json.loads(tail.stdout.readline())["type"] == "call.started"
    redis_server.kill()
    assert b"redis away" in tail.stderr.readline()
    redis_server.start()
    one_call("second")
    for _ in range(4):
        assert json.loads(tail.stdout.readline())["call"]
    tail.send_signal(signal.SIGINT)
    assert tail.wait(20) == 0


def test_serve_says_in_one_line_where_it_can_be_reached(redis_server: RedisServer, tmp_path: Path) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER) as running:
        (ready,) = said(running, "ready")
    port = sip_port(running)
    for place in (f"udp:127.0.0.1:{port}", f"tcp:127.0.0.1:{port}", running.http, redis_server.url, "RTP on 127.0.0.1"):
        assert place in ready["reason"]
