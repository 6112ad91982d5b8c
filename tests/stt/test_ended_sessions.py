"""A session that has ended takes nothing more, whatever is still to be sent."""

from __future__ import annotations

import pytest

from bridge.model import AudioFormat
from bridge.stt import PROVIDERS
from bridge.stt.events import Connect, Lost
from bridge.stt.routing import Breakers, Route
from bridge.stt.session import SttOptions
from bridge.stt.transcriber import Transcriber


@pytest.mark.parametrize("name", ["deepgram", "soniox"])
def test_a_session_lost_while_a_replay_is_paced_is_replaced(name: str) -> None:
    route = Route(PROVIDERS[name], PROVIDERS[name].settings_type(api_key="k"))
    leg = Transcriber(
        routes=[route], audio=AudioFormat("mulaw", 8000), options=SttOptions(), breakers=Breakers(lambda: 0.5),
        random=lambda: 0.5,
    )  # fmt: skip
    leg.start(0.0)
    for n in range(50):  # 5 s while nothing is connected
        leg.send_audio(bytes(800), n / 10, n / 10)
    sessions = [c.session for c in leg.take_commands() if isinstance(c, Connect)]
    leg.opened(sessions[-1], 5.0)
    leg.closed(sessions[-1], code=1006, reason="", now=5.1)  # lost: what follows replays
    leg.handle_timer(8.0)
    sessions = [c.session for c in leg.take_commands() if isinstance(c, Connect)]
    leg.opened(sessions[-1], 8.0)
    leg.finish(8.5)
    leg.closed(sessions[-1], code=1006, reason="", now=9.5)  # more could be sent by now
    assert any(isinstance(event, Lost) for event in leg.take_events())
    leg.handle_timer(12.0)
    assert any(isinstance(c, Connect) for c in leg.take_commands())
