from __future__ import annotations

import pytest

from bridge.app import Bridge
from bridge.config import Settings
from bridge.errors import CapacityError
from bridge.ingress.contract import CallOffer


async def test_a_call_between_two_signals_is_not_let_in() -> None:
    bridge = Bridge(Settings())
    bridge.stop()  # the loop has not come round since: the drain has not begun
    with pytest.raises(CapacityError, match="draining"):
        bridge.service.open_call(CallOffer("sip", ()), None, 0.0)  # type: ignore[arg-type]  # not looked at
    assert not bridge.service.is_accepting


async def test_a_service_that_is_started_again_gives_other_ports_to_its_calls() -> None:
    """Phones still send to those of the calls that died: another call would begin with their words."""
    ports = set()
    for _ in range(3):
        sockets = Bridge(Settings())._sockets
        ports.add(sockets.open_pair().port)
        sockets.close()
    assert len(ports) > 1
