"""What each file of deploy/ makes callbridge's configuration of, as the process would see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

SECRETS = {"DEEPGRAM_API_KEY": "secret", "CALLBRIDGE_HTTP__TOKENS": "secret"}
"What operators add from a place of their own."
CLOSING = 1.1  # ports for legs that are still closing
HOSTNAME, STATE = "host", "/var/lib"


@dataclass(frozen=True)
class Configuration:
    """Environment and file of one process."""

    environ: dict[str, str]
    file: Path | None = None
    host: str = ""
    "Processes with the same one run side by side."
    keys: tuple[str, ...] = field(default=())


def configurations(deploy: Path) -> dict[str, Configuration]:
    """By a name for the test's id."""
    example = deploy / "callbridge.toml"
    found = {"example": Configuration({}, example)}
    found["systemd"] = Configuration(unit_environment(deploy / "systemd" / "callbridge.service", ""), example)
    for n in range(1, 10):
        environ = unit_environment(deploy / "systemd" / "callbridge@.service", str(n))
        found[f"systemd @{n}"] = Configuration(environ, example, host="systemd")
    return found


def unit_environment(unit: Path, instance: str) -> dict[str, str]:
    """`Environment=` lines with systemd's specifiers resolved."""
    lines = [line.removeprefix("Environment=") for line in unit.read_text().splitlines()]
    pairs = [line.split("=", 1) for line in lines if line.startswith("CALLBRIDGE_")]
    return {k: v.replace("%i", instance).replace("%H", HOSTNAME).replace("%S", STATE) for k, v in pairs}
