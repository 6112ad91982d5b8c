"""Many calls over a bad network: whatever is lost, both sides end, each call once, and nothing is left."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from bridge.errors import InvalidState
from bridge.sip.events import Accepted, Answered, Body, Ended, Event, IncomingCall, Refused, Reoffer
from tests.sip.network import SDP, Network


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.4])
def test_every_call_ends_once_and_leaves_nothing(seed: int, loss: float) -> None:
    chance = random.Random(seed)
    net = Network(session_expires=chance.choice([0, 90, 1800]))
    net.drop = lambda side, line: chance.random() < loss

    def answer(event: Event) -> None:
        if isinstance(event, IncomingCall | Reoffer):
            choice = chance.random()
            if choice < 0.8:
                net.right.accept(event.dialog, Body(SDP), net.now)
            elif choice < 0.9 or isinstance(event, Reoffer):
                net.right.reject(event.dialog, 486, net.now)

    net.on_right = answer
    for _ in range(60):
        dialog = net.left.invite("sip:b@192.0.2.2", net.flow, net.now, from_="sip:a@192.0.2.1", body=Body(SDP))
        net.run_until(net.now + chance.choice([0, 0.1, 3]))
        if chance.random() < 0.5:
            try:
                net.left.reinvite(dialog, Body(SDP), net.now)
            except InvalidState:
                pass  # not answered yet, or over
            net.run_until(net.now + chance.choice([0, 0.2, 5]))
        enders = {"left": net.left, "right": net.right}
        side = chance.choice(sorted(enders))
        calls = [event.dialog for event in net.seen("right", IncomingCall)]
        enders[side].hang_up(dialog if side == "left" or not calls else calls[-1], net.now)
        net.run_until(net.now + chance.choice([0, 0.1]))
    for event in net.seen("right", IncomingCall):
        net.right.hang_up(event.dialog, net.now)
    for event in net.seen("left", Answered):
        net.left.hang_up(event.dialog, net.now)
    net.run_until(net.now + 4000)

    for endpoint in (net.left, net.right):
        # what still rings at the caller was never answered on purpose: a phone may ring for ever
        for dialog in list(endpoint._core.dialogs):
            endpoint.hang_up(dialog, net.now)
    net.run_until(net.now + 200)
    for endpoint in (net.left, net.right):
        assert endpoint.n_dialogs == 0
        assert endpoint.n_transactions == 0
        assert endpoint.deadline() is None
        assert not endpoint._core.merged
        assert not endpoint._core.by_key
        assert not endpoint._core._forget
        assert not endpoint._uac._invites
        assert not endpoint._uac._finals
    accepted = {event.dialog for event in net.seen("right", Accepted)}
    ended = Counter(event.dialog for event in net.seen("right", Ended))
    assert accepted <= set(ended)
    over = Counter(event.dialog for event in net.seen("left", Ended)) + Counter(
        event.dialog for event in net.seen("left", Refused) if event.is_initial
    )
    assert set(over.values()) | set(ended.values()) == {1}
    assert len(over) == 60
