"""The bench's figures as a table. `python -m tests.bench.report bench.json ...` shows saved ones, all as one run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.bench import targets

COLUMNS = (
    ("row", 13), ("legs", 5), ("CPU %", 6), ("% a leg", 7), ("floor", 6), ("ratio", 5), ("late p50", 8), ("p99", 5),
    ("max", 6), ("tick p99", 8), ("via p50", 7), ("p99", 5), ("final p50", 9), ("p99", 5), ("turn p50", 8), ("p99", 5),
    ("RSS MB", 6), ("kB a leg", 8), ("sent", 8), ("received", 8), ("dropped", 7), ("limit", 9),
)  # fmt: skip
LEGEND = """\
CPU       the service process alone, % of one core over {seconds:g} s
floor     floor.c, % a leg: receives and frames, nothing else
late      how late a tick began; tick: how long it took. ms, interpolated within the histogram's bucket; max: its bound
via       ms from the sending of the packet that completes a chunk to its arrival at the provider, within speech:
          the wait for the tick (0 to 20), the tick's work before it, the sockets. G.711 without SRTP only
final     ms from the provider's sending of a final to a Redis reader's `transcript.final`
turn      ms to its `turn.ended`, from the later of the final's sending and the end of turn_end_ms
kB a leg  over the empty service. received: by the ledgers in call.ended. dropped: datagrams lost in the kernel
limit     `service`: load, sink and reader had CPU to spare and were in time, the disk synced (as finals need) in time
"""
DISTURBED = 5.0  # % of the service's CPU used by others: lateness is then theirs as much as ours
MOST_SHARED = 85.0  # % of the CPUs that load, sink, Redis and its reader share
MOST_SYNC_MS = 20.0  # p99 of 4 kB
MOST_LATE_MS = 5.0  # p99 of the generator's packets, of the sink's loop: a quarter of a tick


def limits(row: dict[str, Any]) -> list[str]:
    """What besides the service may have limited these figures: nothing, if the load and those who take its results
    were in time and had CPU to spare."""
    found = []
    if row["others_percent"] > DISTURBED:
        found.append(f"DISTURBED: other processes used {row['others_percent']:.0f} % of the service's CPU meanwhile")
    if row["shared_percent"] > MOST_SHARED:
        found.append(f"the CPUs of generator, sink and Redis were {row['shared_percent']:.0f} % busy")
    if row["generator_late_ms"] > MOST_LATE_MS:
        found.append(f"the generator's packets were {row['generator_late_ms']:.1f} ms late (p99)")
    if row["sink_late_ms"] > MOST_LATE_MS:
        found.append(f"the sink's loop was {row['sink_late_ms']:.1f} ms late (p99)")
    if row.get("disk_sync_s", {}).get("p99", 0.0) * 1000 > MOST_SYNC_MS:
        found.append(
            f"the disk took {1000 * row['disk_sync_s']['p99']:.0f} ms to sync (p99); finals and turns wait for it"
        )
    if row["not_sent"]:
        found.append(f"{row['not_sent']} packets were not sent")
    return found


def ms(value: float) -> str:
    """Of a histogram whose last bound is 100 ms."""
    return ">100" if value == float("inf") else f"{value:.1f}"


def timed(seconds: dict[str, float]) -> list[str]:
    """p50 and p99 in ms."""
    return [f"{1000 * seconds[p]:.0f}" if p in seconds else "-" for p in ("p50", "p99")]


def cells_of(row: dict[str, Any]) -> list[str]:
    """Of a row that was measured on callbridge."""
    floor, late = row.get("floor"), row["late_ms"]
    most = ms(late["max"]) if late["max"] == float("inf") else f"<={late['max']:g}"
    return [
        row["row"], str(row["legs"]), f"{row['cpu_percent']['service']:.1f}", f"{row['cpu_per_leg_percent']:.4f}",
        f"{floor['cpu_per_leg_percent']:.4f}" if floor else "-",
        f"{row['cpu_per_leg_percent'] / floor['cpu_per_leg_percent']:.1f}" if floor else "-",
        ms(late["p50"]), ms(late["p99"]), most, ms(row["tick_ms"]["p99"]),
        *timed(row["latency_s"]), *timed(row["final_s"]), *timed(row["turn_s"]),
        f"{row['rss_mb']:.0f}", f"{row['rss_per_leg_kb']:.1f}", str(row["sent"]), str(row["received"]),
        str(row["kernel_drops"]), "see below" if limits(row) else "service",
    ]  # fmt: skip


def show_row(row: dict[str, Any], *, is_first: bool) -> None:
    """One line, as soon as it was measured."""
    if is_first:
        print(" ".join(name.rjust(width) for name, width in COLUMNS))
    if row["program"] == "callbridge" and "failed" not in row:
        cells = cells_of(row)
        print(" ".join(cell.rjust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True)), flush=True)
    else:
        print(f"{row['row']:>13} {told(row)}", flush=True)


def told(row: dict[str, Any]) -> str:
    """What a row that is no line of figures says."""
    if "failed" in row:
        return f"FAILED: {row['failed']}"
    if "skipped" in row:
        return f"not measured: {row['skipped']}"
    if row["program"] == "start":
        imports = ", ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in row["import_s"].items())
        return f"ready after {row['ready_s']:.2f} s (worst {row['ready_worst_s']:.2f}); ms to import: {imports}"
    heard = f"; ONLY {row['share']:.0%} of the audio arrived at the sink" if row["share"] < 0.95 else ""
    return f"{row['legs']:>5} {row['cpu_percent']:>6.1f} {row['cpu_per_leg_percent']:.4f}{heard}"


def ratios(rows: list[dict[str, Any]]) -> list[str]:
    """What a leg costs in other programs, against callbridge at the nearest number of legs."""
    ours = [row for row in rows if row["row"].startswith("pcmu-") and "failed" not in row]
    lines = []
    for row in rows:
        if row["program"] in ("pipecat", "livekit") and "share" in row and ours:
            near = min(ours, key=lambda own: abs(own["legs"] - row["legs"]))
            ratio = row["cpu_per_leg_percent"] / near["cpu_per_leg_percent"]
            lines.append(f"A leg in {row['what']} costs {ratio:.1f} times that of {near['row']}.")
    return lines


def show_notes(result: dict[str, Any]) -> None:
    """What the table does not say."""
    machine = result["machine"]
    kind = "SIPREC, 2 legs a call" if result["siprec"] else "plain SIP"
    print(
        f"\n{machine['model']}, {machine['cpus']} CPUs, Python {machine['python']}. 50 packets/s a leg, {kind}, "
        f"gate.mode = {result['gate']}, {result['held']:.0%} of the calls on signalled hold."
        f"{' With real-time priority.' if result.get('is_realtime') else ''}\n"
        f"Mix: {result['mix']}.\n"
        f"{LEGEND.format(**result)}"
    )
    for row in result["rows"]:
        if row["program"] == "callbridge" and "failed" not in row:
            show_details(row)
    print(*ratios(result["rows"]), *targets.verdicts(result["rows"]), sep="\n")


def show_details(row: dict[str, Any]) -> None:
    """Who else worked, and what went wrong."""
    cpu, disk = row["cpu_percent"], timed(row.get("disk_sync_s", {}))
    print(
        f"{row['row']:>13}: CPU of generator {cpu['generator']:.0f} %, sink {cpu['sink']:.0f}, Redis "
        f"{cpu['redis']:.0f}, reader {cpu['reader']:.0f}, their CPUs {row['shared_percent']:.0f} % busy; late (p99): "
        f"generator {row['generator_late_ms']:.1f} ms, sink {row['sink_late_ms']:.1f}; disk sync p50 {disk[0]}, p99 "
        f"{disk[1]} ms; {row['held']} legs held, set-up p99 {1000 * row['setup_s'].get('p99', 0):.0f} ms; "
        f"{row['ended']} of {row['calls']} calls in Redis; timed {row['latency_s']['n']} chunks, {row['final_s']['n']} "
        f"finals, {row['turn_s']['n']} turns"
    )
    for limit in limits(row):
        print(f"{'':>15}{limit}")
    if row["catch_up_s"]["n"]:
        p50, p99 = (1000 * row["catch_up_s"][p] for p in ("p50", "p99"))
        print(f"{'':>15}while pre-roll is caught up after a pause: via p50 {p50:.0f}, p99 {p99:.0f} ms")
    for what in ("failures", "empty_frames", "receive_errors"):
        if row[what]:
            print(f"{'':>15}{what.replace('_', ' ')}: {row[what]}")


def main() -> None:
    saved = [json.loads(Path(name).read_text()) for name in sys.argv[1:]]
    result = {**saved[0], "rows": [row for one in saved for row in one["rows"]]}
    for n, row in enumerate(result["rows"]):
        show_row(row, is_first=n == 0)
    show_notes(result)


if __name__ == "__main__":
    main()
