"""WebRTC legs beside SIP legs: what they cost the service, and whether its tick stays in time.

    python -m tests.bench.whip --legs 50 --sip-legs 200 --seconds 20

The whole house of `tests.bench.load` (redis-server, provider sink, service alone on the first CPU, SIP generator), and
beside it `tests.bench.whip_legs`. Measured three times in one run of the service: empty, with the SIP legs, with both.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.bench import measure
from tests.bench.house import PERCENTILES, Bench
from tests.bench.processes import get, running
from tests.redis_server import RedisServer

SETTLE = 3.0  # s from the last session's opening to the window


class WhipBench(Bench):
    """One run."""

    def together(self) -> dict[str, Any]:
        """The windows' figures, what became of the sessions, and how late ticks were while they were opened."""
        options = self.options
        os.sched_setaffinity(0, self.others)
        with (
            RedisServer() as redis,
            self.sink() as (sink, sink_port, _),
            self.service(options.sip_legs + options.legs, redis, sink_port) as (service, sip, metrics),
        ):
            if options.first:
                put_first(service.pid)
            wanted = str(max(options.sip_legs, 1))
            sip_arguments = ["--target", f"sip:127.0.0.1:{sip}", "--legs", wanted, "--held", str(options.held)]
            with self.generator(options.codec, *sip_arguments, "--siprec", "--rate", str(options.rate)) as generator:
                up = generator.hear(90.0)
                time.sleep(SETTLE)
                others = {"sip": generator.pid, "sink": sink.pid, "redis": redis.process.pid}
                alone = self.window(service.pid, metrics, others)
                before = measure.parse_metrics(get(metrics))
                url = metrics.removesuffix("/metrics")
                command = [sys.executable, "-m", "tests.bench.whip_legs", url, "--legs", str(options.legs)]
                with running(command, cpus=self.others, log=self.folder / "whip.log") as crowd:
                    opened = crowd.hear(30.0 + options.legs)
                    opening = measure.distribution(
                        before, measure.parse_metrics(get(metrics)), "callbridge_tick_lateness_seconds"
                    )
                    time.sleep(SETTLE)
                    if options.profile:
                        self.profile(service.pid)
                    both = self.window(service.pid, metrics, {**others, "whip": crowd.pid})
                    late = crowd.ask("stats")
                    crowd.ask("quiet")
                    crowd.ask("stop")
                generator.ask("stop")
        cost = both["cpu_percent"]["service"] - alone["cpu_percent"]["service"]
        return {
            "sip": up["legs"], "alone": alone, "both": both, "opened": opened, "crowd": late,
            "opening_late_ms": {name: 1000 * opening.percentile(share) for name, share in PERCENTILES.items()},
            "percent_a_leg": cost / max(opened["legs"], 1), "errors": self.errors(),
        }  # fmt: skip

    def profile(self, pid: int) -> None:
        """A flame graph of the service, where py-spy is installed."""
        with running(
            ["py-spy", "record", "--pid", str(pid), "--duration", "10", "--rate", "200", "--format", "raw", "--output",
             str(self.options.profile)], cpus=self.others,
        ) as spy:  # fmt: skip
            spy.process.wait()

    def errors(self) -> Counter[str]:
        """What the service logged as warnings and worse, by event."""
        text = (self.folder / "service.log").read_text()
        return Counter(re.findall(r'"event": ?"([^"]+)"', text))


def put_first(pid: int) -> None:
    """Every thread at a real-time priority: on a shared machine lateness is then the service's own. Needs root."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(1))


def show(result: dict[str, Any]) -> None:
    for name, window in (("SIP alone", result["alone"]), ("with WHIP", result["both"])):
        late, tick = window["late_ms"], window["tick_ms"]
        print(
            f"{name}: service {window['cpu_percent']['service']:.1f} % of a core (others on it "
            f"{window['others_percent']:.1f} %), tick late p50 {late['p50']:.1f} p99 {late['p99']:.1f} max "
            f"<={late['max']:g} ms, tick p99 {tick['p99']:.1f} ms; "
            + ", ".join(f"{k} {v:.0f} %" for k, v in window["cpu_percent"].items() if k != "service")
        )
    opening = result["opening_late_ms"]
    print(
        f"{result['sip']} SIP legs, {result['opened']['legs']} WHIP legs: {result['percent_a_leg']:.2f} % of a core a "
        f"WHIP leg. Sessions: {result['opened']['states']}, in the end {result['crowd']['states']}; opened in "
        f"{result['opened']['setup_s']:.1f} s with ticks late p99 <={opening['p99']:g} max <={opening['max']:g} ms. "
        f"Clients' packets late p99 {1000 * result['crowd']['late_s']['p99']:.1f} ms."
    )
    print(f"Service's log: {dict(result['errors']) or 'clean'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--legs", type=int, default=50, help="WHIP legs")
    parser.add_argument("--sip-legs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each of the two windows")
    parser.add_argument("--codec", default="PCMU", help="of the SIP legs")
    parser.add_argument("--gate", default="speech", choices=("off", "hold", "speech"))
    parser.add_argument("--held", type=float, default=0.1, help="share of SIP calls on signalled hold")
    parser.add_argument("--rate", type=float, default=50.0, help="SIP calls set up per second")
    parser.add_argument("--first", action="store_true", help="the service runs before whatever else uses its CPU")
    parser.add_argument("--profile", type=Path, help="where to write what py-spy saw of the service")
    parser.set_defaults(no_floor=True, spool=None)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = Path(tempfile.mkdtemp(prefix="callbridge-bench-"))
    try:
        show(WhipBench(options, folder).together())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
