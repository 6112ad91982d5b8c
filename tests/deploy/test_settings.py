"""Every configuration that deploy/ carries is one that callbridge takes: the example, and what units, compose and
Kubernetes set by environment."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from bridge.config import Settings

from .configurations import CLOSING, configurations, settings_of

DEPLOY = Path(__file__).parents[2] / "deploy"
FOUND = configurations(DEPLOY)


@pytest.mark.parametrize("name", FOUND)
def test_callbridge_takes_every_configuration_here(name: str) -> None:
    problems: list[str] = []
    settings_of(FOUND[name], problems)
    assert problems == []


@pytest.mark.parametrize("name", FOUND)
def test_no_configuration_here_holds_a_secret(name: str) -> None:
    problems: list[str] = []
    settings_of(FOUND[name], problems, secrets={})
    assert any("api_key" in problem for problem in problems)


@pytest.mark.parametrize("name", FOUND)
def test_the_ports_suffice_for_the_legs(name: str) -> None:
    settings = settings_of(FOUND[name], [])
    first, last = settings.rtp.ports
    assert (last - first + 1) // 2 >= settings.service.max_legs * CLOSING


@pytest.mark.parametrize("host", sorted({found.host for found in FOUND.values() if found.host}))
def test_instances_on_one_host_share_no_port_name_or_spool(host: str) -> None:
    instances = [settings_of(found, []) for found in FOUND.values() if found.host == host]
    assert len(instances) >= 2
    assert len({each.service.instance for each in instances}) == len(instances)
    assert len({each.spool.path for each in instances}) == len(instances)
    listening = [text for each in instances for text in (*each.sip.listen, each.http.listen)]
    assert len(set(listening)) == len(listening)
    media = sorted(tuple(each.rtp.ports) for each in instances)
    assert all(before[1] < after[0] for before, after in pairwise(media))


def test_the_example_names_every_section_that_has_settings() -> None:
    text = (DEPLOY / "callbridge.toml").read_text()
    assert all(f"[{name}]" in text for name in Settings.__dataclass_fields__ if name != "route")
    assert "[[route]]" in text
