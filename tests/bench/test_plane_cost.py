"""That it still runs: the README sends people to it, and nothing else would notice."""

from __future__ import annotations

from argparse import Namespace

import pytest

from tests.bench.plane_cost import measure


@pytest.mark.parametrize("codec", ["PCMU", "OPUS+srtp"])
def test_every_packet_of_every_leg_is_counted_and_sent(codec: str) -> None:
    cost = measure(codec, Namespace(legs=3, seconds=0.4, rounds=1, gate="off"))
    assert cost.packets == 3 * 20
    assert cost.sent_bytes > 0
