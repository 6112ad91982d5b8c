from __future__ import annotations

import pytest

from bridge.app import Bridge
from bridge.config import Settings
from bridge.errors import CapacityError
from bridge.ingress.contract import CallOffer
from bridge.service import COLLECT_AFTER


async def test_a_call_between_two_signals_is_not_let_in() -> None:
    bridge = Bridge(Settings())
    bridge.stop()  # the loop has not come round since: the drain has not begun
    with pytest.raises(CapacityError, match="draining"):
        bridge.service.open_call(CallOffer("sip", ()), None, 0.0)  # type: ignore[arg-type]  # not looked at
    assert not bridge.service.is_accepting


def test_a_process_that_is_always_busy_collects_its_garbage_after_so_many_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = Bridge(Settings()).service
    collected: list[float] = []
    monkeypatch.setattr("bridge.service.gc.collect", lambda: collected.append(1))
    service._load.busy = 1.0
    service._collect(1.0)
    service._over_since = COLLECT_AFTER
    service._collect(2.0)
    service._collect(3.0)
    assert len(collected) == 1
