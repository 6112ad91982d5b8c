from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import pytest

from tests.bench import report, targets
from tests.bench.load import options_of
from tests.bench.measure import Distribution


def row(name: str = "pcmu-1000", **figures: Any) -> dict[str, Any]:
    """As `LoadBench.measure` makes it, of a good run."""
    legs = int(name.rpartition("-")[2])
    timed = {"p50": 0.011, "p99": 0.019, "max": 0.05, "n": 99}
    return {
        "row": name, "program": "callbridge", "legs": legs, "calls": legs // 2, "held": 10, "failures": {},
        "setup_s": {"p99": 0.02}, "cpu_per_leg_percent": 0.08, "rss_mb": 200.0, "rss_per_leg_kb": 50.0, "sent": 5,
        "cpu_percent": {"service": 80.0, "generator": 9.0, "sink": 9.0, "redis": 5.0, "reader": 4.0},
        "others_percent": 1.0, "shared_percent": 30.0, "late_ms": {"p50": 1.0, "p99": 8.0, "max": float("inf")},
        "tick_ms": {"p50": 1.0, "p99": 9.0, "max": 20.0}, "received": 5, "ended": legs // 2, "not_sent": 0,
        "kernel_drops": 0, "receive_errors": 0, "generator_late_ms": 0.5, "sink_late_ms": 0.5, "empty_frames": 0,
        "latency_s": timed, "disk_sync_s": timed, "catch_up_s": {"n": 0}, "final_s": timed, "turn_s": timed, **figures,
    }  # fmt: skip


def test_a_run_in_which_nothing_else_was_short_of_cpu_was_limited_by_the_service_alone() -> None:
    assert report.limits(row()) == []


@pytest.mark.parametrize(
    "figures",
    [
        {"others_percent": 9.0}, {"shared_percent": 90.0}, {"generator_late_ms": 7.0}, {"sink_late_ms": 7.0},
        {"not_sent": 1}, {"disk_sync_s": {"p50": 0.001, "p99": 0.048, "max": 0.13, "n": 400}},
    ],
)  # fmt: skip
def test_whatever_else_may_have_been_the_limit_is_told(figures: dict[str, float]) -> None:
    assert len(report.limits(row(**figures))) == 1
    assert report.cells_of(row(**figures))[-1] != report.cells_of(row())[-1]


def test_targets_are_met_or_missed_one_by_one() -> None:
    rows = [
        row("pcmu-100", cpu_per_leg_percent=0.06),
        row("pcmu-600", latency_s={"p50": 0.02, "p99": 0.031, "n": 9}),
        row("pcmu-1000"),
        {"row": "start", "program": "start", "ready_s": 1.2, "import_s": {"bridge": 0.31}},
        {"row": "opus-1000", "program": "callbridge", "failed": "no"},
    ]
    lines = targets.verdicts(rows)
    missed = [line for line in lines if line.startswith("MISSED")]
    assert len(lines) == 11
    assert [line.split(":")[0].removeprefix("MISSED ") for line in missed] == [
        "pcmu-600", "a leg's cost at 1000 legs over that at 100", "start",
    ]  # fmt: skip


def test_peers_are_held_against_the_nearest_number_of_legs() -> None:
    peer = {"row": "pipecat-25", "program": "pipecat", "share": 1.0, "legs": 25, "what": "it", "cpu_per_leg_percent": 2}
    assert report.ratios([row("pcmu-1000"), row("pcmu-100", cpu_per_leg_percent=0.1), peer]) == [
        "A leg in it costs 20.0 times that of pcmu-100."
    ]
    assert report.ratios([peer]) == []


def test_a_table_is_shown_with_what_failed_and_what_was_left_out() -> None:
    rows = [
        row(),
        {"row": "opus-300", "program": "callbridge", "failed": "no answer within 30 s"},
        {"row": "livekit-25", "program": "livekit", "skipped": "LIVEKIT names no virtual environment that has it"},
        {"row": "start", "program": "start", "ready_s": 1, "ready_worst_s": 2, "import_s": {"bridge": 0.1}},
    ]
    machine = {"model": "a CPU", "cpus": 2, "python": "3.11"}
    shown = io.StringIO()
    with redirect_stdout(shown):
        for n, one in enumerate(rows):
            report.show_row(one, is_first=n == 0)
        result = {"machine": machine, "siprec": True, "gate": "speech", "held": 0.1, "mix": "m", "seconds": 20}
        report.show_notes({**result, "rows": rows})
    text = shown.getvalue()
    assert "FAILED: no answer within 30 s" in text
    assert "not measured: LIVEKIT" in text
    assert "ready after 1.00 s" in text
    assert text.splitlines()[1].split()[:4] == ["pcmu-1000", "1000", "80.0", "0.0800"]


def test_percentiles_are_interpolated_within_a_bucket_and_unknown_above_the_last() -> None:
    found = Distribution((0.01, 0.02, float("inf")), (50.0, 40.0, 10.0))
    assert found.interpolated(0.25) == pytest.approx(0.005)
    assert found.interpolated(0.7) == pytest.approx(0.015)
    assert found.interpolated(0.99) == float("inf")
    assert report.ms(1000 * found.interpolated(0.99)) == ">100"


def test_rows_are_named_or_made_of_legs_and_options() -> None:
    assert [r.name for r in options_of(["--legs", "100,300", "--codec", "g722", "--wss"]).rows] == [
        "g722+wss-100", "g722+wss-300",
    ]  # fmt: skip
    assert [r.name for r in options_of(["--rows", "start,pcmu+srtp-7"]).rows] == ["start", "pcmu+srtp-7"]
    with pytest.raises(SystemExit):
        options_of(["--rows", "pcmu"])
