from __future__ import annotations

import itertools
import socket
import time

import numpy as np

from rtpcodecs.g711 import PCMU, ULAW_TO_LINEAR
from tests.bench import tapes
from tests.bench.flood import Flood


def test_the_flood_sends_each_leg_its_own_tape_in_order() -> None:
    both = [tapes.encode(np.full(8000, level, np.int16), PCMU, 20) for level in (1000, -4000)]
    flood = Flood(both, capacity=40, payload_type=0, frame_units=160)
    receivers = []
    for n in range(40):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        receivers.append(receiver)
        leg = flood.add(receiver.getsockname(), n, at_seconds=0.0)
        if n == 39:
            flood.hold(leg, True)
    flood.start()
    time.sleep(0.3)
    flood.stop()
    total = 0
    for n, receiver in enumerate(receivers):
        packets = []
        try:
            while True:
                packets.append(receiver.recv(2048))
        except BlockingIOError:
            pass
        receiver.close()
        total += len(packets)
        sequences = [int.from_bytes(p[2:4], "big") for p in packets]
        stamps = [int.from_bytes(p[4:8], "big") for p in packets]
        assert sequences == list(range(1, len(packets) + 1))
        assert all(b - a == 160 for a, b in itertools.pairwise(stamps))
        if n < 39:
            assert 3 <= len(packets) <= 16
            loud = ULAW_TO_LINEAR[np.frombuffer(packets[0][12:], np.uint8)]
            assert len(loud) == 160
            assert abs(int(loud[0]) - (1000, -4000)[n % 2]) < 150
        else:
            assert packets == []
    assert total == flood.sent
    assert flood.failed == 0


def test_a_conversation_has_speech_on_both_legs_and_music_on_one() -> None:
    caller, agent = tapes.conversation(1)
    hold = slice(int(tapes.HOLD_AT * 8000), int((tapes.HOLD_AT + tapes.HOLD_SECONDS) * 8000))
    assert len(caller) == len(agent) == 480000
    assert not caller[hold].any()
    assert np.abs(agent[hold].astype(int)).mean() > 100
    for leg in (caller, agent):
        loud = np.abs(leg[: hold.start].reshape(-1, 160).astype(int)).mean(axis=1) > 200
        assert 0.15 < loud.mean() < 0.75
