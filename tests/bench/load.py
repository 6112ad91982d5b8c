"""The load bench: real SIP calls and RTP of N legs against `callbridge serve`, and what they cost it.

    python -m tests.bench.load --legs 100,300,1000 --seconds 20 --json bench.json

Every process is its own: redis-server, the provider sink, the service (pinned to the first CPU, alone there), the
generator. For each number of legs the service starts afresh. Beside it, with the same load, `floor.c` where there is a
C compiler: the least work that any program in the service's place must do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import measure, report, tapes
from tests.redis_server import RedisServer, free_port

ROOT = Path(__file__).parents[2]
FIRST_RTP_PORT = 10000  # to 32767: below Linux's ephemeral ports, room for 11 000 legs
START_TIMEOUT = 30.0  # s
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
url = "ws://127.0.0.1:{provider}/v1/listen"
api_key = "bench"
[gate]
mode = "{gate}"
[redis]
url = "{redis}"
[spool]
path = "{folder}/spool"
[log]
level = "warning"
format = "json"
"""


class Process:
    """A child that speaks JSON lines on its standard output."""

    def __init__(
        self, command: list[str], *, cpus: set[int], log: Path | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.log = log.open("wb") if log else None
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, cwd=ROOT, env=env,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )  # fmt: skip
        self.pid = self.process.pid

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        return json.loads(line) if line.startswith("{") else {"line": line}

    def ask(self, command: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.hear()

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.log):
            if stream is not None:
                stream.close()


@contextlib.contextmanager
def running(*arguments: Any, **options: Any) -> Iterator[Process]:
    process = Process(*arguments, **options)
    try:
        yield process
    finally:
        process.close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:
        return str(response.read().decode())


class Bench:
    """One run over all numbers of legs."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        cpus = sorted(os.sched_getaffinity(0))
        self.own = {cpus[0]}
        self.others = set(cpus[1:]) or self.own
        self.floor = self.compile_floor()

    def compile_floor(self) -> Path | None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None or self.options.no_floor:
            return None
        program = self.folder / "floor"
        subprocess.run([compiler, "-O2", "-o", str(program), str(Path(__file__).with_name("floor.c"))], check=True)
        return program

    def run(self) -> dict[str, Any]:
        os.sched_setaffinity(0, self.others)  # this process and redis-server, which inherits it
        rows = []
        with RedisServer() as redis:
            sink_command = [sys.executable, "-m", "tests.bench.sink_provider"]
            for legs in self.options.legs:
                with running(sink_command, cpus=self.others) as sink:
                    sink_port = int(sink.hear()["port"])
                    row = self.measure(legs, redis, sink, sink_port)
                if self.floor is not None and legs:
                    with running(sink_command, cpus=self.others) as sink:
                        row["floor"] = self.measure_floor(legs, int(sink.hear()["port"]))
                rows.append(row)
                report.show_row(row, is_first=len(rows) == 1)
        return {
            "machine": {"cpus": os.cpu_count(), "model": cpu_model(), "python": platform.python_version()},
            "codec": self.options.codec, "siprec": self.options.siprec, "gate": self.options.gate,
            "held": self.options.held, "mix": tapes.MIX, "seconds": self.options.seconds, "rows": rows,
        }  # fmt: skip

    @contextlib.contextmanager
    def service(self, legs: int, redis: RedisServer, sink_port: int) -> Iterator[tuple[Process, int, str]]:
        sip, http = free_port(), free_port()
        config = self.folder / "callbridge.toml"
        config.write_text(
            CONFIG.format(
                max_legs=legs + 50, sip=sip, http=http, rtp=FIRST_RTP_PORT, provider=sink_port,
                gate=self.options.gate, redis=redis.url, folder=tempfile.mkdtemp(dir=self.folder),
            )
        )  # fmt: skip
        env = {k: v for k, v in os.environ.items() if not k.startswith("CALLBRIDGE_")}
        command = [sys.executable, "-m", "bridge", "serve", "--config", str(config)]
        with running(command, cpus=self.own, log=self.folder / "service.log", env=env) as process:
            deadline = time.monotonic() + START_TIMEOUT
            while True:
                try:
                    get(f"http://127.0.0.1:{http}/readyz")
                    break
                except OSError:
                    if time.monotonic() > deadline or process.process.poll() is not None:
                        raise RuntimeError((self.folder / "service.log").read_text()[-2000:]) from None
                    time.sleep(0.1)
            yield process, sip, f"http://127.0.0.1:{http}/metrics"

    def generator(self, *arguments: str) -> contextlib.AbstractContextManager[Process]:
        command = [sys.executable, "-m", "tests.bench.generator", "--codec", self.options.codec, *arguments]
        return running(command, cpus=self.others, log=self.folder / "generator.log")

    def measure(self, legs: int, redis: RedisServer, sink: Process, sink_port: int) -> dict[str, Any]:
        options = self.options
        with self.service(legs, redis, sink_port) as (service, sip, metrics_url):
            time.sleep(1.0)
            empty_kb, errors = measure.rss_kb(service.pid), measure.receive_errors()
            arguments = ["--target", f"sip:127.0.0.1:{sip}", "--legs", str(legs), "--held", str(options.held)]
            arguments += ["--rate", str(options.rate), *(["--siprec"] if options.siprec else [])]
            with self.generator(*arguments) as generator:
                up = generator.hear()
                time.sleep(options.settle)
                others = {"generator": generator.pid, "sink": sink.pid, "redis": redis.process.pid}
                get(f"http://127.0.0.1:{sink_port}/stats/reset")
                window = self.window(service.pid, metrics_url, others)
                rss = measure.rss_kb(service.pid)
                quiet = generator.ask("quiet")
                time.sleep(0.5)
                get(metrics_url)  # answered behind the last packets
                drops = measure.udp_drops(service.pid)
                sunk = json.loads(get(f"http://127.0.0.1:{sink_port}/stats"))
                stopped = generator.ask("stop")
            packets = self.ledgers(redis, int(up["calls"]))
        n = max(int(up["legs"]), 1)
        return {
            "legs": up["legs"], "calls": up["calls"], "held": up["held"], "failures": stopped["failures"],
            "setup_s": up["setup_s"], **window, "cpu_per_leg_percent": window["cpu_percent"]["service"] / n,
            "rss_mb": rss / 1024, "rss_per_leg_kb": (rss - empty_kb) / n,
            "sent": quiet["sent"], **packets,
            "not_sent": quiet["failed"], "kernel_drops": drops, "receive_errors": measure.receive_errors() - errors,
            "generator_late_ms": quiet["late_s"].get("p99", 0.0) * 1000,
            "keepalives": sunk["keepalives"], "audio_bytes": sunk["audio_bytes"], "connections": sunk["connections"],
            "interims": sunk["interims"], "finalizes": sunk["finalizes"], "latency_s": sunk["latency_s"],
            "catch_up_s": sunk["catch_up_s"],
            "empty_frames": sunk["empty_frames"],
        }  # fmt: skip

    def ledgers(self, redis: RedisServer, calls: int) -> dict[str, Any]:
        """Packets by what became of them, as `call.ended` has them."""
        sums = {"received": 0, "lost": 0, "late": 0, "duplicate": 0, "ended": 0}
        deadline, last = time.monotonic() + START_TIMEOUT, "0"
        with redis.client() as client:
            while sums["ended"] < calls and time.monotonic() < deadline:
                for _, entries in client.xread({"callbridge:events": last}, count=5000, block=1000) or ():
                    for last, fields in entries:  # noqa: B007 - the place to go on from
                        if fields["type"] == "call.ended":
                            sums["ended"] += 1
                            for ledger in json.loads(fields["data"])["legs"].values():
                                for kind, n in ledger["packets"].items():
                                    sums[kind] += n
            client.flushall()
        return sums

    def window(self, pid: int, metrics_url: str, others: dict[str, int]) -> dict[str, Any]:
        """`seconds` of steady load. The scrapes lie outside of it."""
        before = measure.parse_metrics(get(metrics_url))
        pids = {"service": pid, **others}
        start, spent = time.monotonic(), {name: measure.cpu_s(p) for name, p in pids.items()}
        busy = sum(measure.busy_s(cpu) for cpu in self.own)
        time.sleep(self.options.seconds)
        took = time.monotonic() - start
        percent = {name: 100 * (measure.cpu_s(p) - spent[name]) / took for name, p in pids.items()}
        busy = 100 * (sum(measure.busy_s(cpu) for cpu in self.own) - busy) / took
        after = measure.parse_metrics(get(metrics_url))
        late = measure.distribution(before, after, "callbridge_tick_lateness_seconds")
        tick = measure.distribution(before, after, "callbridge_tick_seconds")
        audio = {
            fate: measure.total(after, "callbridge_audio_seconds_total", f'fate="{fate}"')
            - measure.total(before, "callbridge_audio_seconds_total", f'fate="{fate}"')
            for fate in ("received", "sent", "lost", "unsent")
        }
        return {
            "cpu_percent": percent, "others_percent": max(busy - percent["service"], 0.0),
            "ticks": late.n, "audio_s": audio,
            "late_ms": {name: 1000 * late.percentile(share) for name, share in PERCENTILES.items()},
            "tick_ms": {name: 1000 * tick.percentile(share) for name, share in PERCENTILES.items()},
        }  # fmt: skip

    def measure_floor(self, legs: int, sink_port: int) -> dict[str, Any]:
        """The same RTP, all legs sending."""
        command = [str(self.floor), str(legs), str(sink_port)]
        with running(command, cpus=self.own) as floor:
            ports = floor.hear()["line"].split()[1:]
            with self.generator("--ports", ",".join(ports), "--legs", str(legs)) as generator:
                generator.hear()
                time.sleep(1.0)
                seconds = min(self.options.seconds, 10.0)
                start, spent = time.monotonic(), measure.cpu_s(floor.pid)
                time.sleep(seconds)
                percent = 100 * (measure.cpu_s(floor.pid) - spent) / (time.monotonic() - start)
                generator.ask("stop")
        return {"cpu_percent": percent, "cpu_per_leg_percent": percent / legs}


PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--legs", type=lambda text: [int(n) for n in text.split(",")], default=[100, 300, 1000])
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the measured window")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds from the last call's start to the window")
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--gate", default="speech", choices=("off", "hold", "speech"))
    parser.add_argument("--held", type=float, default=0.1, help="share of calls on signalled hold")
    parser.add_argument("--rate", type=float, default=50.0, help="calls set up per second")
    parser.add_argument("--plain", dest="siprec", action="store_false", help="one leg a call instead of SIPREC's two")
    parser.add_argument("--no-floor", action="store_true", help="leave floor.c out")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="callbridge-bench-"))
    try:
        result = Bench(options, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.show_notes(result)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
