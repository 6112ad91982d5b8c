from __future__ import annotations

import json
import os
import ssl
import sys
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.bench.certificate import make_certificate
from tests.bench.flood import MARK
from tests.bench.processes import get, running
from tests.bench.turn_ends import make_stamp, read_stamp
from tests.redis_server import RedisServer, is_installed

CPUS = os.sched_getaffinity(0)
SINK = [sys.executable, "-m", "tests.bench.sink_provider", "--final-after", "0.1"]
QUERY = "/v1/listen?encoding=mulaw&sample_rate=8000"


def test_over_tls_a_finalize_is_answered_by_a_final_that_says_when_it_left(tmp_path: Path) -> None:
    pem = tmp_path / "sink.pem"
    make_certificate(pem)
    trust = ssl.create_default_context(cafile=str(pem))
    with running([*SINK, "--certificate", str(pem)], cpus=CPUS) as sink:
        told = sink.hear()
        with connect(f"wss://127.0.0.1:{told['port']}{QUERY}", ssl=trust) as client:
            client.send(bytes(6400))
            asked = time.monotonic()
            client.send(json.dumps({"type": "Finalize"}))
            final = json.loads(client.recv(timeout=10.0))
            received = time.monotonic()
        figures = json.loads(get(f"http://127.0.0.1:{told['stats']}/stats"))
    assert final["from_finalize"]
    stamp = read_stamp(final["channel"]["alternatives"][0]["transcript"])
    assert stamp is not None
    assert asked + 0.09 <= stamp <= received  # timers may fire a little early
    assert (figures["audio_bytes"], figures["finalizes"], figures["connections"]) == (6400, 1, 1)


def test_marks_in_a_stream_at_real_time_are_timed_and_can_be_forgotten() -> None:
    with running(SINK, cpus=CPUS) as sink:
        told = sink.hear()
        stats = f"http://127.0.0.1:{told['stats']}/stats"
        with connect(f"ws://127.0.0.1:{told['port']}{QUERY}") as client:
            for _ in range(9):
                sent = round((time.monotonic() - 0.08) * 1e6)  # of the first of the chunk's five packets
                client.send(MARK + sent.to_bytes(8, "big") + bytes(788))
                time.sleep(0.1)
            figures = json.loads(get(stats))
            get(f"{stats}/reset")
            forgotten = json.loads(get(stats))
    assert figures["latency_s"]["n"] + figures["catch_up_s"]["n"] == 9
    assert figures["latency_s"]["n"] >= 1
    assert 0.0 <= figures["latency_s"]["p50"] < 0.05
    assert forgotten["latency_s"] == {"n": 0}


@pytest.mark.skipif(not is_installed(), reason="no redis-server here")
def test_a_reader_times_what_comes_after_it_began() -> None:
    with RedisServer() as redis, redis.client() as client:
        fields = {"type": "transcript.final", "data": "{}"}
        client.xadd("callbridge:events", {**fields, "text": make_stamp(1.0)})
        command = [sys.executable, "-m", "tests.bench.reader", redis.url]
        with running(command, cpus=CPUS) as reader:
            assert reader.hear()["told"] == "ready"
            for _ in range(3):
                client.xadd("callbridge:events", {**fields, "text": make_stamp(time.monotonic())})
            deadline = time.monotonic() + 10.0
            while (told := reader.ask("stats"))["entries"] < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            forgotten = reader.ask("reset")
    assert told["final_s"]["n"] == told["entries"] == 3
    assert 0.0 < told["final_s"]["max"] < 5.0
    assert forgotten["entries"] == 0
