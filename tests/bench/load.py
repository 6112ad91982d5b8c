"""The load bench: real SIP calls and RTP of N legs against `callbridge serve`, and what they cost it.

    python -m tests.bench.load --rows all --json bench.json
    python -m tests.bench.load --rows pcmu-1000,opus-300,pcmu+srtp-300,pcmu+wss-600,pipecat-25,start
    python -m tests.bench.load --legs 100,300,1000 --seconds 20 [--codec G722] [--srtp] [--wss]

Every process is its own: redis-server and a reader of it, the provider sink, the service (pinned to the first CPU,
alone there), the generator. For each row the service starts afresh. Beside it, with the same load, `floor.c` where
there is a C compiler: the least work that any program in the service's place must do; and pipecat and LiveKit's
Deepgram client where PIPECAT and LIVEKIT name virtual environments that have them. On a machine that has other work to
do, `chrt -r 1` before the command measures as if it had none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench import measure, report, tapes
from tests.bench.house import START_WITHIN, Bench, is_realtime
from tests.bench.peers import measure_peer, missing
from tests.bench.processes import BenchError, Process, get, running
from tests.bench.rows import PEERS, Row, parse_row, parse_rows
from tests.bench.startup import measure_start
from tests.redis_server import RedisServer

TURN_END_MS = 800  # gate.turn_end_ms's default
PREPARE_WITHIN = 90.0  # s; tapes are encoded, and encrypted, before the first call
FLOOR_SECONDS = 10.0
LAST_WORDS = 1000  # characters of each log, in an error
LEDGERS_WITHIN = 30.0  # s


class LoadBench(Bench):
    """One run over all rows."""

    def run(self, rows: list[Row]) -> dict[str, Any]:
        """Rows that failed are told, and do not keep the others from being measured."""
        os.sched_setaffinity(0, self.others)  # this process and redis-server, which inherits it
        result: dict[str, Any] = {
            "machine": {"cpus": os.cpu_count(), "model": cpu_model(), "python": platform.python_version()},
            "siprec": self.options.siprec, "gate": self.options.gate, "held": self.options.held, "mix": tapes.MIX,
            "seconds": self.options.seconds, "is_realtime": is_realtime(), "rows": [],
        }  # fmt: skip
        with RedisServer() as redis:
            for row in rows:
                try:
                    measured = self.measure_row(row, redis)
                except (BenchError, OSError) as error:
                    measured = {"failed": f"{error}{self.last_words()}"}
                result["rows"].append({"row": row.name, "program": row.program, **measured})
                report.show_row(result["rows"][-1], is_first=len(result["rows"]) == 1)
        return result

    def last_words(self) -> str:
        """The ends of the logs, where somebody complained."""
        texts = {log.stem: log.read_text(errors="replace")[-LAST_WORDS:].strip() for log in self.folder.glob("*.log")}
        return "".join(f"\n--- {name}: {text}" for name, text in texts.items() if text)

    def measure_row(self, row: Row, redis: RedisServer) -> dict[str, Any]:
        """Raises BenchError, OSError."""
        if row.program == "start":
            return measure_start(self, redis)
        if row.program in PEERS:
            why = missing(row.program)
            return {"skipped": why} if why else measure_peer(self, row)
        with self.sink(is_wss=row.is_wss) as (sink, port, stats):
            measured = self.measure(row, redis, sink, port, stats)
        if self.floor is not None and row.legs and row == Row("callbridge", row.legs):
            with self.sink() as (_, port, _):
                measured["floor"] = self.measure_floor(row.legs, port)
        return measured

    @contextlib.contextmanager
    def reader(self, redis: RedisServer) -> Iterator[Process]:
        """A subscriber that reads."""
        command = [sys.executable, "-m", "tests.bench.reader", redis.url, "--turn-end-ms", str(TURN_END_MS)]
        with running(command, cpus=self.others, log=self.folder / "reader.log") as process:
            process.hear(START_WITHIN)
            yield process

    def load(self, row: Row, sip: int) -> contextlib.AbstractContextManager[Process]:
        """The generator, which sets the calls up."""
        options = self.options
        arguments = ["--target", f"sip:127.0.0.1:{sip}", "--legs", str(row.legs), "--held", str(options.held)]
        arguments += ["--rate", str(options.rate), *(["--siprec"] if options.siprec else [])]
        if row.is_srtp:
            lasting = row.legs / options.rate + options.settle + options.seconds + 30.0
            arguments += ["--srtp", "--lasting", str(lasting)]
        return self.generator(row.codec, *arguments)

    def measure(self, row: Row, redis: RedisServer, sink: Process, sink_port: int, stats: str) -> dict[str, Any]:
        options, setting_up = self.options, row.legs / self.options.rate
        with (
            self.service(row.legs, redis, sink_port, is_wss=row.is_wss) as (service, sip, metrics_url),
            self.reader(redis) as reader,
        ):
            time.sleep(1.0)
            empty_kb, errors = measure.rss_kb(service.pid), measure.receive_errors()
            with self.load(row, sip) as generator:
                up = generator.hear(PREPARE_WITHIN + setting_up)
                time.sleep(options.settle)
                others = {"generator": generator.pid, "sink": sink.pid, "redis": redis.process.pid}
                get(f"{stats}/reset")
                reader.ask("reset")
                window = self.window(service.pid, metrics_url, {**others, "reader": reader.pid})
                read = reader.ask("stats")
                rss = measure.rss_kb(service.pid)
                quiet = generator.ask("quiet")
                time.sleep(0.5)
                get(metrics_url)  # answered behind the last packets
                drops = measure.udp_drops(service.pid)
                sunk = json.loads(get(stats))
                stopped = generator.ask("stop", START_WITHIN + setting_up)
            packets = self.ledgers(redis, int(up["calls"]))
        n = max(int(up["legs"]), 1)
        return {
            "legs": up["legs"], "calls": up["calls"], "held": up["held"], "failures": stopped["failures"],
            "setup_s": up["setup_s"], **window, "cpu_per_leg_percent": window["cpu_percent"]["service"] / n,
            "rss_mb": rss / 1024, "rss_per_leg_kb": (rss - empty_kb) / n,
            "sent": quiet["sent"], **packets,
            "not_sent": quiet["failed"], "kernel_drops": drops, "receive_errors": measure.receive_errors() - errors,
            "generator_late_ms": quiet["late_s"].get("p99", 0.0) * 1000,
            "sink_late_ms": sunk["late_s"].get("p99", 0.0) * 1000,
            "final_s": read["final_s"], "turn_s": read["turn_s"], "entries_per_s": read["entries"] / options.seconds,
            "keepalives": sunk["keepalives"], "audio_bytes": sunk["audio_bytes"], "connections": sunk["connections"],
            "interims": sunk["interims"], "finalizes": sunk["finalizes"], "latency_s": sunk["latency_s"],
            "catch_up_s": sunk["catch_up_s"],
            "empty_frames": sunk["empty_frames"],
        }  # fmt: skip

    def ledgers(self, redis: RedisServer, calls: int) -> dict[str, Any]:
        """Packets by what became of them, as `call.ended` has them."""
        sums = {"received": 0, "lost": 0, "late": 0, "duplicate": 0, "ended": 0}
        deadline, last = time.monotonic() + LEDGERS_WITHIN, "0"
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

    def measure_floor(self, legs: int, sink_port: int) -> dict[str, Any]:
        """The same RTP, all legs sending."""
        with running([str(self.floor), str(legs), str(sink_port)], cpus=self.own) as floor:
            ports = floor.hear()["line"].split()[1:]
            with self.generator("PCMU", "--ports", ",".join(ports), "--legs", str(legs)) as generator:
                generator.hear(PREPARE_WITHIN)
                time.sleep(1.0)
                start, spent = time.monotonic(), measure.cpu_s(floor.pid)
                time.sleep(min(self.options.seconds, FLOOR_SECONDS))
                percent = 100 * (measure.cpu_s(floor.pid) - spent) / (time.monotonic() - start)
                generator.ask("stop")
        return {"cpu_percent": percent, "cpu_per_leg_percent": percent / legs}


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, with `rows` as a list whichever way they were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", help="names with commas; `all`: what `make bench` measures; CODEC[+srtp][+wss]-LEGS")
    parser.add_argument("--legs", default="100,300,1000", help="numbers with commas, of --codec; instead of --rows")
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--srtp", action="store_true")
    parser.add_argument("--wss", action="store_true")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the measured window")
    parser.add_argument("--settle", type=float, default=3.0, help="seconds from the last call's start to the window")
    parser.add_argument("--gate", default="speech", choices=("off", "hold", "speech"))
    parser.add_argument("--held", type=float, default=0.1, help="share of calls on signalled hold")
    parser.add_argument("--rate", type=float, default=50.0, help="calls set up per second")
    parser.add_argument("--plain", dest="siprec", action="store_false", help="one leg a call instead of SIPREC's two")
    parser.add_argument("--no-floor", action="store_true", help="leave floor.c out")
    parser.add_argument("--spool", type=Path, help="folder to have the spool in; a RAM disk shows what the disk adds")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args(arguments)
    extra = "+srtp" * options.srtp + "+wss" * options.wss
    try:
        if options.rows is not None:
            options.rows = parse_rows(options.rows)
        else:
            options.rows = [parse_row(f"{options.codec}{extra}-{int(n)}") for n in options.legs.split(",")]
    except Exception as problem:  # noqa: BLE001 - of the command line: ValueError, or ConfigError for a codec
        parser.error(str(problem))
    return options


def main() -> None:
    options = options_of()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="callbridge-bench-"))
    bench = LoadBench(options, folder)
    try:
        result = bench.run(options.rows)
    finally:
        for used in (folder, bench.spool):
            shutil.rmtree(used, ignore_errors=True)
    report.show_notes(result)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if any("failed" in row for row in result["rows"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
