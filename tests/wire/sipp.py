"""Runs one SIPp scenario against a port of this machine."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

SCENARIOS = Path(__file__).parent / "scenarios"
SIPP = shutil.which("sipp")
TIMEOUT = 30.0  # s for one scenario


async def run(scenario: str, port: int, *, transport: str = "u1", calls: int = 1, rate: int = 10) -> None:
    """Raises AssertionError with SIPp's own error log unless every call ended as the scenario says."""
    assert SIPP is not None
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            SIPP, f"127.0.0.1:{port}", "-sf", str(SCENARIOS / f"{scenario}.xml"), "-t", transport, "-i", "127.0.0.1",
            "-m", str(calls), "-r", str(rate), "-nostdin", "-trace_err", "-error_file", f"{folder}/errors",
            "-timeout", f"{TIMEOUT:.0f}s", "-timeout_error",
            cwd=folder, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with asyncio.timeout(TIMEOUT + 5):
                _, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        text = _read(Path(folder, "errors"))
        assert process.returncode == 0, f"{scenario}: {text[-3000:]}{errors.decode('utf-8', 'replace')[-500:]}"


def _read(log: Path) -> str:
    return log.read_text("utf-8", "replace") if log.exists() else ""
