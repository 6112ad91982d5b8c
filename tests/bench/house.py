"""The house around what is measured: redis-server, the provider sink, the service alone on the first CPU, the load."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.bench.certificate import make_certificate
from tests.bench.disk import DiskProbe
from tests.bench.processes import Process, get, running, wait_for_http
from tests.bench.sink_provider import percentiles
from tests.redis_server import RedisServer, free_port

FIRST_RTP_PORT = 10000  # to 32767: below Linux's ephemeral ports, room for 11 000 legs
START_WITHIN = 30.0  # s
PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}
CONFIG = """\
[service]
instance = "bench"
max_legs = {max_legs}
drain_s = 1
[sip]
listen = ["udp:127.0.0.1:{sip}"]
rate_per_source = 100000
[rtp]
bind = "127.0.0.1"
ports = [{rtp}, 32767]
[http]
listen = "127.0.0.1:{http}"
[stt]
provider = "deepgram"
[stt.deepgram]
url = "{scheme}://127.0.0.1:{provider}/v1/listen"
api_key = "bench"
[gate]
mode = "{gate}"
[redis]
url = "{redis}"
[spool]
path = "{spool}"
[log]
level = "warning"
format = "json"
"""


class Bench:
    """What all rows have in common. `options`: gate, codec."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.spool = tempfile.mkdtemp(prefix="callbridge-bench-", dir=options.spool) if options.spool else str(folder)
        cpus = sorted(os.sched_getaffinity(0))
        self.own = {cpus[0]}
        self.others = set(cpus[1:]) or self.own
        self.certificate = folder / "certificate.pem"
        self.floor = self.compile_floor()

    def compile_floor(self) -> Path | None:
        """None without a compiler, or where it is not wanted."""
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or self.options.no_floor:
            return None
        program = self.folder / "floor"
        source = str(Path(__file__).with_name("floor.c"))
        subprocess.run([compiler, "-O2", "-o", str(program), source], check=True, timeout=60)
        return program

    @contextlib.contextmanager
    def sink(self, *, is_wss: bool = False) -> Iterator[tuple[Process, int, str]]:
        """The provider stand-in, its port, and the URL of its figures."""
        command = [sys.executable, "-m", "tests.bench.sink_provider"]
        if is_wss:
            if not self.certificate.exists():
                make_certificate(self.certificate)
            command += ["--certificate", str(self.certificate)]
        with running(command, cpus=self.others, log=self.folder / "sink.log") as process:
            told = process.hear(START_WITHIN)
            yield process, int(told["port"]), f"http://127.0.0.1:{told['stats']}/stats"

    def configure(self, legs: int, redis: RedisServer, sink_port: int, *, is_wss: bool) -> tuple[Path, int, int]:
        """A configuration file, the port of SIP, and that of HTTP."""
        sip, http = free_port(), free_port()
        config = self.folder / "callbridge.toml"
        spool = tempfile.mkdtemp(dir=self.spool)
        config.write_text(
            CONFIG.format(
                max_legs=legs + 50, sip=sip, http=http, rtp=FIRST_RTP_PORT, provider=sink_port,
                scheme="wss" if is_wss else "ws", gate=self.options.gate, redis=redis.url, spool=spool,
            )
        )  # fmt: skip
        return config, sip, http

    def serve(self, config: Path) -> contextlib.AbstractContextManager[Process]:
        """The service, not waited for. It trusts the sink's certificate where there is one."""
        env = {k: v for k, v in os.environ.items() if not k.startswith("CALLBRIDGE_")}
        if self.certificate.exists():
            env["SSL_CERT_FILE"] = str(self.certificate)
        command = [sys.executable, "-m", "bridge", "serve", "--config", str(config)]
        return running(command, cpus=self.own, log=self.folder / "service.log", env=env)

    @contextlib.contextmanager
    def service(
        self, legs: int, redis: RedisServer, sink_port: int, *, is_wss: bool = False
    ) -> Iterator[tuple[Process, int, str]]:
        """The service once it is ready, its SIP port, and the URL of its metrics."""
        config, sip, http = self.configure(legs, redis, sink_port, is_wss=is_wss)
        with self.serve(config) as process:
            wait_for_http(f"http://127.0.0.1:{http}/readyz", process, within=START_WITHIN)
            yield process, sip, f"http://127.0.0.1:{http}/metrics"

    def generator(self, codec: str, *arguments: str) -> contextlib.AbstractContextManager[Process]:
        command = [sys.executable, "-m", "tests.bench.generator", "--codec", codec, *arguments]
        return running(command, cpus=self.others, log=self.folder / "generator.log")

    def window(self, pid: int, metrics_url: str, others: dict[str, int]) -> dict[str, Any]:
        """`options.seconds` of steady load. The scrapes lie outside of it."""
        before = measure.parse_metrics(get(metrics_url))
        pids = {"service": pid, **others}
        start, spent = time.monotonic(), {name: measure.cpu_s(p) for name, p in pids.items()}
        own, shared = (sum(measure.busy_s(cpu) for cpu in cpus) for cpus in (self.own, self.others))
        with DiskProbe(Path(self.spool)) as disk:
            time.sleep(self.options.seconds)
        took = time.monotonic() - start
        percent = {name: 100 * (measure.cpu_s(p) - spent[name]) / took for name, p in pids.items()}
        own = 100 * (sum(measure.busy_s(cpu) for cpu in self.own) - own) / took
        shared = 100 * (sum(measure.busy_s(cpu) for cpu in self.others) - shared) / took / len(self.others)
        if is_realtime():  # whoever else works does so only while we do not
            own, shared = percent["service"], sum(percent[name] for name in others) / len(self.others)
        after = measure.parse_metrics(get(metrics_url))
        late = measure.distribution(before, after, "callbridge_tick_lateness_seconds")
        tick = measure.distribution(before, after, "callbridge_tick_seconds")
        audio = {
            fate: measure.total(after, "callbridge_audio_seconds_total", f'fate="{fate}"')
            - measure.total(before, "callbridge_audio_seconds_total", f'fate="{fate}"')
            for fate in ("received", "sent", "lost", "unsent")
        }
        return {
            "cpu_percent": percent, "others_percent": max(own - percent["service"], 0.0), "shared_percent": shared,
            "ticks": late.n, "audio_s": audio, "late_ms": in_ms(late), "tick_ms": in_ms(tick),
            "disk_sync_s": percentiles(disk.taken),
            "redis_write_ms": in_ms(measure.distribution(before, after, "callbridge_redis_write_seconds")),
        }  # fmt: skip


def is_realtime() -> bool:
    """Begun by `chrt -r 1`, with all that we start: other programs of the machine get what we leave."""
    return os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)


def in_ms(distribution: measure.Distribution) -> dict[str, float]:
    """Percentiles as if values lay evenly within their bucket; of the maximum only the bucket's bound is known."""
    found = {name: 1000 * distribution.interpolated(share) for name, share in PERCENTILES.items() if share < 1.0}
    return {**found, "max": 1000 * distribution.percentile(1.0)}
