"""What the service should keep to on its reference machine (2 cores, the service pinned to one), held against rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CPU_PER_LEG = 0.09  # % of a core, at 1000 legs
LINEAR = 1.15  # a leg's cost at 1000 legs against that at 100
LATE_MS = 10.0  # p99, at 1000 legs
RSS_PER_LEG_KB = 60.0  # over the empty service, at 1000 legs
VIA_MS = 25.0  # p99, at 600 legs
TURN_MS = 60.0  # p99, from the provider's final
READY_S, IMPORT_S = 1.5, 0.3

Rows = list[dict[str, Any]]


def verdicts(rows: Rows) -> list[str]:
    """One line for every target of which the rows tell something."""
    by_name = {row["row"]: row for row in rows if "failed" not in row and "skipped" not in row}
    lines = []
    for name, row in by_name.items():
        if row.get("program") == "callbridge" and name.endswith("-1000"):
            lines += [
                _line(f"{name}: % of a core a leg", row["cpu_per_leg_percent"], CPU_PER_LEG),
                _line(f"{name}: tick late p99, ms", row["late_ms"]["p99"], LATE_MS),
                _line(f"{name}: datagrams lost in the kernel", row["kernel_drops"], 0),
                _line(f"{name}: kB a leg", row["rss_per_leg_kb"], RSS_PER_LEG_KB),
            ]
        if name.endswith("-600") and "p99" in row.get("latency_s", {}):
            lines.append(_line(f"{name}: via p99, ms", 1000 * row["latency_s"]["p99"], VIA_MS))
        if "p99" in row.get("turn_s", {}):
            lines.append(_line(f"{name}: turn.ended p99, ms", 1000 * row["turn_s"]["p99"], TURN_MS))
    lines += _linear(by_name)
    if "start" in by_name:
        lines.append(_line("start: s to /readyz", by_name["start"]["ready_s"], READY_S))
        lines.append(_line("start: s for `import bridge`", by_name["start"]["import_s"]["bridge"], IMPORT_S))
    return lines


def _linear(by_name: Mapping[str, dict[str, Any]]) -> list[str]:
    few, many = by_name.get("pcmu-100"), by_name.get("pcmu-1000")
    if few is None or many is None:
        return []
    growth = many["cpu_per_leg_percent"] / few["cpu_per_leg_percent"]
    return [_line("a leg's cost at 1000 legs over that at 100", growth, LINEAR)]


def _line(what: str, measured: float, bound: float) -> str:
    return f"{'met   ' if measured <= bound else 'MISSED'} {what}: {measured:.3g} (at most {bound:g})"
