"""The bench's figures as a table. `python -m tests.bench.report bench.json` shows a saved one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

COLUMNS = (
    ("legs", 6), ("calls", 6), ("CPU %", 7), ("% a leg", 8), ("floor", 7), ("ratio", 6), ("late p50", 9), ("p99", 7),
    ("max", 7), ("tick p99", 9), ("via p50", 8), ("p99 ms", 7),
    ("RSS MB", 7), ("kB a leg", 9), ("sent", 9), ("received", 9), ("dropped", 8),
    ("KeepAl.", 8), ("audio MB", 9),
)  # fmt: skip
DISTURBED = 5.0  # % of the service's CPU used by others: lateness is then theirs as much as ours


def bound(ms: float) -> str:
    """A histogram's bucket: the value is at most so many milliseconds."""
    return ">100" if ms == float("inf") else f"<={ms:g}"


def via(latency_s: dict[str, float]) -> list[str]:
    """From the generator's sendto to the provider's socket."""
    return [f"{1000 * latency_s[p]:.0f}" if p in latency_s else "-" for p in ("p50", "p99")]


def show_row(row: dict[str, Any], *, is_first: bool) -> None:
    """One number of legs, as soon as it was measured."""
    if is_first:
        print(" ".join(name.rjust(width) for name, width in COLUMNS))
    floor = row.get("floor")
    cells = (
        str(row["legs"]), str(row["calls"]),
        f"{row['cpu_percent']['service']:.1f}", f"{row['cpu_per_leg_percent']:.4f}",
        f"{floor['cpu_per_leg_percent']:.4f}" if floor else "-",
        f"{row['cpu_per_leg_percent'] / floor['cpu_per_leg_percent']:.1f}" if floor else "-",
        bound(row["late_ms"]["p50"]), bound(row["late_ms"]["p99"]), bound(row["late_ms"]["max"]),
        bound(row["tick_ms"]["p99"]), *via(row["latency_s"]), f"{row['rss_mb']:.0f}", f"{row['rss_per_leg_kb']:.1f}",
        str(row["sent"]), str(row["received"]), str(row["kernel_drops"]), str(row["keepalives"]),
        f"{row['audio_bytes'] / 1e6:.1f}",
    )  # fmt: skip
    print(" ".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True)), flush=True)


def show_notes(result: dict[str, Any]) -> None:
    """What the table does not say."""
    machine = result["machine"]
    kind = "SIPREC, 2 legs a call" if result["siprec"] else "plain SIP"
    print(
        f"\n{machine['model']}, {machine['cpus']} CPUs, Python {machine['python']}. {result['codec']}, 50 packets/s a "
        f"leg, {kind}, gate.mode = {result['gate']}, {result['held']:.0%} of the calls on signalled hold.\n"
        f"Mix: {result['mix']}.\n"
        f"CPU: the service process alone, % of one core over {result['seconds']:g} s. late: how late a tick began, "
        "tick: how long it took; ms, by histogram\nbucket. received: from the ledgers in call.ended. dropped: "
        "datagrams lost in the kernel. via: from a packet's sending to the provider's socket, less\nthe wait for its "
        "chunk's other packets, where the stream is at real time. floor: floor.c, % a leg; it receives and frames, "
        "nothing else."
    )
    for row in result["rows"]:
        cpu = row["cpu_percent"]
        print(
            f"{row['legs']:>6} legs: generator {cpu['generator']:.0f} % CPU, packets {row['generator_late_ms']:.1f} ms "
            f"late (p99); sink {cpu['sink']:.0f} %; Redis {cpu['redis']:.0f} %; {row['held']} legs held, "
            f"{row['connections']} provider connections; set-up p99 {1000 * row['setup_s'].get('p99', 0):.0f} ms; "
            f"{row['ended']} of {row['calls']} calls in Redis"
        )
        if row["others_percent"] > DISTURBED:
            others = f"{row['others_percent']:.0f} %"
            print(f"{'':>13}DISTURBED: other processes used {others} of the service's CPU meanwhile")
        if row["catch_up_s"]["n"]:
            p50, p99 = (1000 * row["catch_up_s"][p] for p in ("p50", "p99"))
            print(f"{'':>13}while pre-roll is caught up after a pause: via p50 {p50:.0f}, p99 {p99:.0f} ms")
        for what in ("failures", "not_sent", "empty_frames", "receive_errors"):
            if row[what]:
                print(f"{'':>13}{what.replace('_', ' ')}: {row[what]}")


def main() -> None:
    result = json.loads(Path(sys.argv[1]).read_text())
    for n, row in enumerate(result["rows"]):
        show_row(row, is_first=n == 0)
    show_notes(result)


if __name__ == "__main__":
    main()
