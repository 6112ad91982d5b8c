"""What the kernel and a process's own metrics say: CPU, memory, lost datagrams, histograms. Linux."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def busy_s(cpu: int) -> float:
    """What everybody spent on one CPU, interrupts and stolen time included."""
    fields = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{cpu} ")).split()
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def rss_kb(pid: int) -> int:
    """Resident memory."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def udp_drops(pid: int) -> int:
    """Datagrams that the kernel dropped at this process's UDP sockets: buffer full."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            link = os.readlink(fd)
        except OSError:
            continue  # closed meanwhile
        if link.startswith("socket:["):
            inodes.add(link[8:-1])
    dropped = 0
    for table in ("udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                dropped += int(fields[12])
    return dropped


def receive_errors() -> int:
    """`RcvbufErrors` of the network namespace: the same loss, of whatever socket, closed ones included."""
    lines = Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    return int(values[names.index("RcvbufErrors")])


Samples = dict[tuple[str, str], float]


def parse_metrics(text: str) -> Samples:
    """Prometheus text as (name, labels as written) to value."""
    found = (SAMPLE.match(line) for line in text.splitlines() if not line.startswith("#"))
    return {(m[1], m[2] or ""): float(m[3]) for m in found if m}


def total(samples: Samples, name: str, labels: str = "") -> float:
    """Sum over the series whose labels contain `labels`."""
    return sum(value for (n, have), value in samples.items() if n == name and labels in have)


@dataclass(frozen=True, slots=True)
class Distribution:
    """What came into a histogram between two scrapes. Percentiles are the upper bound of the bucket they lie in."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]
    "By bucket, not cumulated."

    @property
    def n(self) -> float:
        return sum(self.counts)

    def percentile(self, share: float) -> float:
        """Upper bound, seconds; inf above the last bucket; 0 when nothing came in."""
        if not self.n:
            return 0.0
        seen = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            seen += count
            if seen >= share * self.n:
                return bound
        return self.bounds[-1]

    def interpolated(self, share: float) -> float:
        """The percentile if values lay evenly within their bucket; inf above the last bucket."""
        seen, low = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count and seen + count >= share * self.n:
                return bound if bound == float("inf") else low + (bound - low) * (share * self.n - seen) / count
            seen, low = seen + count, bound
        return 0.0


def distribution(before: Samples, after: Samples, name: str) -> Distribution:
    """The difference of two scrapes of one histogram."""
    cumulated: dict[float, float] = {}
    for samples, sign in ((after, 1), (before, -1)):
        for (n, labels), value in samples.items():
            if n == f"{name}_bucket":
                bound = float(re.search(r'le="([^"]+)"', labels)[1])  # type: ignore[index]
                cumulated[bound] = cumulated.get(bound, 0.0) + sign * value
    bounds = tuple(sorted(cumulated))
    counts = tuple(cumulated[b] - (cumulated[bounds[i - 1]] if i else 0.0) for i, b in enumerate(bounds))
    return Distribution(bounds, counts)
