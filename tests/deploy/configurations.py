"""What each file of deploy/ makes callbridge's configuration of, as the process would see it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bridge.config import Settings, read_tables
from bridge.preflight import check_settings

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
    tables: dict[str, Any] = field(default_factory=dict)
    "Instead of a file."


def configurations(deploy: Path) -> dict[str, Configuration]:
    """By a name for the test's id."""
    example = deploy / "callbridge.toml"
    found = {"example": Configuration({}, example)}
    found["systemd"] = Configuration(unit_environment(deploy / "systemd" / "callbridge.service", ""), example)
    for n in range(1, 10):
        environ = unit_environment(deploy / "systemd" / "callbridge@.service", str(n))
        found[f"systemd @{n}"] = Configuration(environ, example, host="systemd")
    found |= compose_configurations(deploy)
    found["kubernetes"] = kubernetes_configuration(deploy / "kubernetes")
    return found


def settings_of(configuration: Configuration, problems: list[str], secrets: dict[str, str] = SECRETS) -> Settings:
    """As `callbridge serve` makes them; what is wrong goes to `problems`."""
    file = configuration.file
    tables, found = read_tables(file, secrets | configuration.environ) if file else ({}, [])
    if file is None:
        tables = {**configuration.tables}
        overrides, found = read_tables(Path("/dev/null"), secrets | configuration.environ)
        for section, keys in overrides.items():
            tables[section] = tables.get(section, {}) | keys
    problems += found
    return check_settings(tables, problems)


def compose_configurations(deploy: Path) -> dict[str, Configuration]:
    """Of each instance in the compose file."""
    services = yaml.safe_load((deploy / "compose" / "compose.yaml").read_text())["services"]
    image = image_environment(deploy)
    found = {}
    for name, service in services.items():
        if service["image"] == "callbridge":
            # each container has a file system of its own: the same path is another spool
            spool = {"CALLBRIDGE_SPOOL__PATH": f"{name}:{image['CALLBRIDGE_SPOOL__PATH']}"}
            own = {key: value for key, value in service["environment"].items() if key not in SECRETS}
            found[name] = Configuration(image | spool | own, host="compose")
    return found


def image_environment(deploy: Path) -> dict[str, str]:
    """`ENV` of the image, as far as callbridge reads it."""
    text = (deploy / "docker" / "Dockerfile").read_text()
    words = (word for word in text.replace("\\\n", " ").split() if word.startswith("CALLBRIDGE_"))
    return dict(word.split("=", 1) for word in words)


def kubernetes_configuration(folder: Path) -> Configuration:
    """ConfigMap and what the image sets."""
    data = yaml.safe_load((folder / "configmap.yaml").read_text())["data"]
    return Configuration(image_environment(folder.parent), tables=tomllib.loads(data["callbridge.toml"]))


def unit_environment(unit: Path, instance: str) -> dict[str, str]:
    """`Environment=` lines with systemd's specifiers resolved."""
    lines = [line.removeprefix("Environment=") for line in unit.read_text().splitlines()]
    pairs = [line.split("=", 1) for line in lines if line.startswith("CALLBRIDGE_")]
    return {k: v.replace("%i", instance).replace("%H", HOSTNAME).replace("%S", STATE) for k, v in pairs}
