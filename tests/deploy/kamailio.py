"""Debian's Kamailio with our configuration, in front of instances of this machine."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.flow.house import free_udp_port

FOLDER = Path(__file__).parents[2] / "deploy" / "kamailio"
KAMAILIO = shutil.which("kamailio", path="/usr/sbin:/usr/bin:/usr/local/sbin")
KAMCMD = shutil.which("kamcmd", path="/usr/sbin:/usr/bin:/usr/local/sbin")
START_TIMEOUT = 15.0  # s; a loaded machine


@dataclass(frozen=True)
class Dispatcher:
    """Running, all instances up."""

    port: int
    control: str

    def flags(self) -> dict[int, str]:
        """Port of each instance to its state: first letter A(ctive), I(nactive); second P(robing)."""
        assert KAMCMD is not None
        told = subprocess.run(
            [KAMCMD, "-s", self.control, "dispatcher.list"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
        uris = [line.split("sip:", 1)[1] for line in told.splitlines() if "URI:" in line]
        flags = [line.split(":", 1)[1].strip() for line in told.splitlines() if "FLAGS:" in line]
        return {int(uri.rpartition(":")[2].split(";")[0]): flag for uri, flag in zip(uris, flags, strict=True)}

    def await_flags(self, port: int, first_letter: str, timeout: float = START_TIMEOUT) -> bool:
        """Whether the instance reaches that state in time."""
        deadline = time.monotonic() + timeout
        while not self.flags().get(port, "").startswith(first_letter):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def command(folder: Path, instances: Sequence[int], port: int, *options: str) -> list[str]:
    """What is run; writes the list of instances into `folder`."""
    assert KAMAILIO is not None
    listed = folder / "dispatcher.list"
    listed.write_text("".join(f"1 sip:127.0.0.1:{each} 0 0 duid=port{each}\n" for each in instances))
    return [
        KAMAILIO, "-f", str(FOLDER / "kamailio.cfg"), "-l", f"udp:127.0.0.1:{port}", "-l", f"tcp:127.0.0.1:{port}",
        "-A", f'DISPATCHER_LIST="{listed}"', "-A", "PROBE_S=1", "-A", f'CTL="unix:{folder}/ctl"',
        "-Y", str(folder), "-P", str(folder / "pid"), "-m", "64", *options,
    ]  # fmt: skip


@contextlib.contextmanager
def dispatcher(folder: Path, instances: Sequence[int]) -> Iterator[Dispatcher]:
    """In front of the instances at these ports of 127.0.0.1, once its probes found them all; until the block ends."""
    port = free_udp_port()
    with (folder / "kamailio.log").open("wb") as log:
        process = subprocess.Popen(command(folder, instances, port, "-DD", "-E"), stdout=log, stderr=log)
    try:
        running = Dispatcher(port, f"unix:{folder}/ctl")
        if not all(running.await_flags(each, "A") for each in instances):
            raise RuntimeError("Kamailio did not start: " + (folder / "kamailio.log").read_text()[-3000:])
        yield running
    finally:
        process.terminate()
        try:
            process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
