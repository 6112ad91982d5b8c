"""The disk under the spool fills up, is wiped, or comes back damaged: while the service runs, and after it died."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
from pathlib import Path

import pytest

from tests.redis_server import RedisServer, is_installed
from tests.soak.invariants import Streams
from tests.soak.on_disk import FRAME, events_on_disk

from .house import Running, service
from .test_chaos import DURABLE
from .test_operations import NO_PROVIDER, ask, metric, raw_call, said, until

pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


def one_call(running: Running, name: str) -> None:
    with raw_call(running, name) as call:
        assert call.invite().status == 200
        assert call.bye().status == 200


def fill(running: Running, is_full: bool) -> None:
    """No file of the process may grow, its log among them: what a full disk does, as far as the process can tell."""
    limit = 1 if is_full else resource.RLIM_INFINITY
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def ended(redis_server: RedisServer, n: int) -> Streams:
    return until(lambda: s if (s := Streams.read(redis_server.url)).ended >= n else None, f"{n} calls have not ended")


def test_a_full_disk_is_told_and_counted_and_nothing_is_lost_while_redis_is_there(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER) as running:
        until(lambda: metric(running, "callbridge_sink_up") == 1, "no Redis")
        fill(running, True)
        one_call(running, "full")
        ended(redis_server, 1)
        assert metric(running, "callbridge_spool_up") == 0
        assert ask(running, "/readyz")[0] == 200, "events find their way to Redis"
        fill(running, False)
        until(lambda: metric(running, "callbridge_spool_up") == 1, "the disk was not found again")
        one_call(running, "after")
        streams = ended(redis_server, 2)
        assert metric(running, "callbridge_events_lost_total") == 0
    assert all([entry.seq for entry in call] == list(range(1, len(call) + 1)) for call in streams.calls.values())


def test_without_disk_and_redis_it_is_not_ready_and_what_memory_holds_comes_out_in_order(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER) as running:
        until(lambda: metric(running, "callbridge_sink_up") == 1, "no Redis")
        with raw_call(running, "both") as call:
            assert call.invite().status == 200
            until(lambda: metric(running, "callbridge_outbox_queued") == 0, "not written")
            fill(running, True)
            redis_server.kill()
            assert call.bye().status == 200
            until(lambda: ask(running, "/readyz")[0] == 503, "it says that it is ready")
            assert ask(running, "/healthz")[0] == 200
            redis_server.start()  # empty: without the disk, what was confirmed is known from memory only
            until(lambda: ask(running, "/readyz")[0] == 200, "it stays unready")
            fill(running, False)
        streams = ended(redis_server, 1)
        (entries,) = streams.calls.values()
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert (entries[0].type, entries[-1].type) == ("call.started", "call.ended")


def test_a_spool_directory_that_was_wiped_is_told_and_made_again(tmp_path: Path, redis_server: RedisServer) -> None:
    with service(tmp_path, redis_server, NO_PROVIDER, spool={"keep_s": 0}) as running:
        until(lambda: metric(running, "callbridge_sink_up") == 1, "no Redis")
        one_call(running, "before")
        ended(redis_server, 1)
        shutil.rmtree(tmp_path / "spool")
        one_call(running, "without")
        over = set(ended(redis_server, 2).calls)
        until(lambda: said(running, "spool failed"), "nothing is told")
        until(lambda: metric(running, "callbridge_spool_up") == 1, "it is not made again")
        redis_server.pause()
        with raw_call(running, "died") as call:
            assert call.invite().status == 200
            until(lambda: metric(running, "callbridge_outbox_queued") >= 2, "nothing waits")
            until(lambda: {call for call, _ in events_on_disk(tmp_path / "spool")} - over, "not written ahead again")
            running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        redis_server.resume()
    with service(tmp_path, redis_server, NO_PROVIDER):
        streams = ended(redis_server, 3)
    assert sorted(call[-1].data["reason"] for call in streams.calls.values()) == ["crash", "hangup", "hangup"]


def test_a_segment_damaged_in_the_middle_and_torn_at_its_end_costs_what_was_there_and_no_more(tmp_path: Path) -> None:
    with RedisServer(**DURABLE) as server:
        with service(tmp_path, server, NO_PROVIDER) as running, contextlib.ExitStack() as stack:
            until(lambda: metric(running, "callbridge_sink_up") == 1, "no Redis")
            server.kill()
            for n in range(6):
                assert stack.enter_context(raw_call(running, f"damage{n}")).invite().status == 200
            until(lambda: len(events_on_disk(tmp_path / "spool")) >= 12, "not written ahead")
            os.kill(running.process.pid, signal.SIGKILL)
            running.process.wait()
        events = events_on_disk(tmp_path / "spool")
        (path,) = (tmp_path / "spool").glob("*/*.spool")
        data = bytearray(path.read_bytes())
        victim = next(key for n, key in enumerate(events) if n > 3 and key[1] == 1)
        at = data.index(f'"call","{victim[0]}","seq","1"'.encode())
        data[at] ^= 0xFF
        path.write_bytes(data[: -FRAME.size // 2])  # and the last record is torn
        server.start()
        with service(tmp_path, server, NO_PROVIDER) as running:
            streams = ended(server, len({call for call, _ in events}))
            (damaged,) = said(running, "spool damaged")
            assert "unreadable bytes" in damaged["reason"]
            assert sum(line["n"] for line in said(running, "events missing")) >= 1
        for call, entries in streams.calls.items():
            seqs = [entry.seq for entry in entries]
            assert seqs == sorted(set(seqs))
            assert entries[-1].data["reason"] == "crash"
            if call != victim[0] and call != list(events)[-1][0]:
                assert seqs == list(range(1, len(seqs) + 1))
        assert next(entry.seq for entry in streams.calls[victim[0]]) == 2
