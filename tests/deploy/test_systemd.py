"""The units, as systemd reads them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import app
from bridge.config import ServiceSettings

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
ANALYZE = shutil.which("systemd-analyze")
NAMES = {"callbridge.service": "callbridge.service", "callbridge@.service": "callbridge@1.service"}
WORST_EXPOSURE = 2.0  # of 10; a service on the network has no better than about 1
pytestmark = pytest.mark.parametrize("name", NAMES)
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def analyze(unit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, *arguments, str(unit)], capture_output=True, text=True, timeout=60, check=False)


def installed(name: str, folder: Path) -> Path:
    """The unit as it would be were callbridge installed where this runs."""
    unit = folder / NAMES[name]
    unit.write_text((UNITS / name).read_text().replace("/opt/callbridge/.venv/bin/callbridge", sys.executable))
    return unit


def value(name: str, key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", (UNITS / name).read_text(), re.MULTILINE)
    return str(found)


@needs_systemd
def test_systemd_takes_the_unit_without_a_word(name: str, tmp_path: Path) -> None:
    done = analyze(installed(name, tmp_path), "verify", "--man=no")
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_the_unit_is_hardened(name: str, tmp_path: Path) -> None:
    done = analyze(installed(name, tmp_path), "security", "--offline=yes", "--no-pager")
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= WORST_EXPOSURE


def test_systemd_waits_longer_than_the_drain(name: str) -> None:
    assert float(value(name, "TimeoutStopSec")) > ServiceSettings().drain_s + app.END + app.FLUSH


def test_the_file_limit_suffices_for_the_default_legs(name: str) -> None:
    assert int(value(name, "LimitNOFILE")) >= ServiceSettings().max_legs * app.FILES_PER_LEG + app.FILES_BESIDE


def test_stop_drains_and_reload_reads_the_configuration_again(name: str) -> None:
    assert value(name, "KillSignal") == "SIGTERM"
    assert value(name, "KillMode") == "mixed"
    assert "-HUP" in value(name, "ExecReload")
    assert value(name, "RestartPreventExitStatus") == "2"
