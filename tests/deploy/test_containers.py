"""Image and compose file, read and held against the rest of the repository. There is no engine here that builds them:
that the listed packages install and run from their hashes was tried by hand, in a virtual environment."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from .configurations import compose_configurations, settings_of

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
IMAGES = [DOCKER / "Dockerfile", DOCKER / "kamailio.Dockerfile"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
INSTRUCTIONS = {
    "FROM", "RUN", "CMD", "ENV", "COPY", "ENTRYPOINT", "VOLUME", "USER", "WORKDIR", "ARG", "EXPOSE", "STOPSIGNAL",
    "HEALTHCHECK",
}  # fmt: skip


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, rest), continued lines joined, comments left out."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def values(file: Path, instruction: str) -> list[str]:
    return [rest for word, rest in instructions(file) if word == instruction]


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_an_image_has_a_pinned_base_and_is_not_root(file: Path) -> None:
    assert {word for word, _ in instructions(file)} <= INSTRUCTIONS
    bases = [base.partition(" AS ")[0] for base in values(file, "FROM")]
    arguments = dict(argument.split("=", 1) for argument in values(file, "ARG"))
    for base in bases:
        image = arguments.get(base.strip("${}"), base)
        assert re.fullmatch(r"[a-z]+:[\w.-]+", image), "a tag, and no registry"
        assert not image.endswith(":latest")
    assert values(file, "USER")[-1] not in ("root", "0")


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_what_is_copied_exists_and_is_not_ignored(file: Path) -> None:
    kept = [line[1:] for line in file.with_name(file.name + ".dockerignore").read_text().splitlines() if line[0] == "!"]
    for copied in values(file, "COPY"):
        if copied.startswith("--from"):
            continue
        for source in copied.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(source == entry or source.startswith(entry + "/") for entry in kept), source


def test_what_the_build_reads_is_copied() -> None:
    copied = {source for line in values(IMAGES[0], "COPY") for source in line.split()[:-1]}
    assert {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "bridge", "codecs"} <= copied


def test_the_image_drains_on_sigterm_and_tells_its_health() -> None:
    (health,) = values(IMAGES[0], "HEALTHCHECK")
    assert "HEALTH_URL" in health
    assert values(IMAGES[0], "STOPSIGNAL") == ["SIGTERM"]
    assert values(IMAGES[0], "ENTRYPOINT") == ['["callbridge"]']  # an exec form: signals reach the process
    assert values(IMAGES[0], "CMD") == ['["serve"]']


def pins(file: Path) -> dict[tuple[str, str], set[str]]:
    """(requirement, marker) to its hashes."""
    found: dict[tuple[str, str], set[str]] = {}
    hashes: set[str] = set()
    for line in file.read_text().splitlines():
        if match := re.match(r"([\w.-]+==[^ ;]+)(?: ; ([^\\]*))?", line):
            hashes = found[match[1], (match[2] or "").strip()] = set()
        elif match := re.search(r"--hash=(\S+)", line):
            hashes.add(match[1])
    return found


def test_the_image_installs_what_the_tests_ran_with() -> None:
    ours, theirs = pins(DOCKER / "requirements.lock"), pins(ROOT / "requirements.lock")
    everything = {requirement: hashes for (requirement, _), hashes in theirs.items()}
    for (requirement, _), hashes in ours.items():
        assert hashes
        assert hashes == everything[requirement]


def test_the_image_installs_all_that_callbridge_needs_and_no_test_tool() -> None:
    listed = {requirement.partition("==")[0] for requirement, _ in pins(DOCKER / "requirements.lock")}
    wanted = {
        re.split(r"[<>=!~;\[ ]", text)[0].lower()
        for text in metadata.requires("callbridge") or ()
        if "extra" not in text
    }
    assert wanted <= listed
    assert not listed & {"pytest", "hypothesis", "mypy", "ruff", "coverage"}


def test_compose_uses_only_what_it_declares() -> None:
    known = {
        "image", "build", "network_mode", "restart", "read_only", "tmpfs", "cap_drop", "security_opt", "ulimits",
        "cpus", "stop_grace_period", "depends_on", "volumes", "environment", "command", "healthcheck",
    }  # fmt: skip
    for service in SERVICES.values():
        assert service.keys() <= known
        assert service["network_mode"] == "host"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            here = ROOT / "deploy" / "compose"
            assert (here / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        if "build" in service:
            context = ROOT / "deploy" / "compose" / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).is_file()
        assert set(service.get("depends_on", {})) <= SERVICES.keys()
        assert all("healthcheck" in SERVICES[name] for name in service.get("depends_on", {}))


def test_compose_waits_longer_than_a_drain_and_allows_enough_files() -> None:
    for name, configuration in compose_configurations(ROOT / "deploy").items():
        settings = settings_of(configuration, [])
        service = SERVICES[name]
        assert float(service["stop_grace_period"].rstrip("s")) >= settings.service.drain_s + 45
        assert service["ulimits"]["nofile"] >= settings.service.max_legs * 4 + 256
        assert configuration.environ["HEALTH_URL"] == f"http://{settings.http.listen}/healthz"


def test_compose_s_instances_are_those_in_kamailio_s_list() -> None:
    rows = (ROOT / "deploy" / "kamailio" / "dispatcher.list").read_text().splitlines()
    rows = [row for row in rows if not row.startswith("#")]
    listed = re.findall(r"sip:(\S+)", "\n".join(rows))
    bound = {
        text.removeprefix("udp:")
        for configuration in compose_configurations(ROOT / "deploy").values()
        for text in settings_of(configuration, []).sip.listen
        if text.startswith("udp:")
    }
    assert set(listed) == bound


def test_compose_s_redis_keeps_what_it_confirmed() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    assert all(word in command for word in ("appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"))
    assert "redis:/data" in SERVICES["redis"]["volumes"]
