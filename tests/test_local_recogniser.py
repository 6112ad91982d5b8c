"""When the offline recogniser is started, and that its address outlives a reload."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.app import Bridge
from bridge.config import RouteSettings, Settings, SttSettings
from bridge.ingress.contract import CallOffer
from bridge.local_recogniser import wants_local
from bridge.plans import plan_for

RUNNING = {"local": {"url": "ws://127.0.0.1:5"}}


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (Settings(), False),
        (Settings(stt=SttSettings(provider="local")), True),
        (Settings(stt=SttSettings(fallback=("local",))), True),
        (Settings(stt=SttSettings(provider="local", providers=RUNNING)), False),
        (Settings(route=(RouteSettings(stt={"provider": "local"}),)), True),
        (Settings(route=(RouteSettings(stt={"provider": "local", **RUNNING}),)), False),
    ],
)
def test_it_is_started_where_a_call_may_need_it_and_nobody_else_runs_one(settings: Settings, wanted: bool) -> None:
    assert wants_local(settings) is wanted


async def test_a_reload_keeps_its_address_and_takes_the_new_drain_time(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[stt]\nprovider = 'local'\nlanguage = 'es'\n[service]\ndrain_s = 0.05\n")
    bridge = Bridge(Settings(stt=SttSettings(provider="local")))
    bridge.service.provide(RUNNING)
    bridge.reload(config)
    plan = plan_for(CallOffer("sip", ()), bridge.service._settings)
    assert (plan.stt.language, plan.stt.providers["local"]) == ("es", RUNNING["local"])
    assert bridge._drain_s == 0.05


async def test_a_reload_cannot_start_it(tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text("[stt]\nprovider = 'local'\n")
    bridge = Bridge(Settings())
    bridge.reload(config)
    assert bridge.service._settings.stt.provider == "deepgram"
