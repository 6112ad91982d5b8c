from __future__ import annotations

import itertools
import socket
import time

import numpy as np

from bridge.caller import offer
from bridge.rtp.sdes import choose_crypto
from bridge.rtp.srtp import SrtpReceiver
from bridge.sip.sdp import parse as parse_sdp
from rtpcodecs.g711 import PCMU, ULAW_TO_LINEAR
from tests.bench import tapes
from tests.bench.flood import Flood
from tests.bench.generator import secured


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


def test_marks_lie_within_speech_a_second_apart_and_never_in_the_hold() -> None:
    caller, _ = tapes.conversation(0)
    marked = np.flatnonzero(tapes.marks(caller))
    assert len(marked) >= 5
    assert np.diff(marked).min() >= 50
    assert not ((marked >= tapes.HOLD_AT * 50) & (marked < (tapes.HOLD_AT + tapes.HOLD_SECONDS) * 50)).any()
    level = np.sqrt((caller.reshape(-1, 160).astype(float) ** 2).mean(axis=1))
    assert min(level[at - 10 : at + 11].min() for at in marked) > tapes.SPOKEN_RMS


def test_a_protected_tape_is_taken_from_any_place_by_a_receiver_with_its_key() -> None:
    tape = tapes.encode(np.arange(1600, dtype=np.int16), PCMU, 20)
    whole = tapes.protect(tape, frames=25, payload_type=0, frame_units=160)
    receiver = SrtpReceiver(tapes.SRTP_KEYS)
    for n in range(13, 25):
        plain = receiver.unprotect(whole.payloads[n, : whole.sizes[n]].tobytes(), n * 0.02)
        assert plain[12:] == tape.payloads[n % 10].tobytes()
        assert int.from_bytes(plain[2:4], "big") == n + 1
        assert int.from_bytes(plain[4:8], "big") == n * 160


def test_a_flood_of_whole_packets_sends_each_once_and_counts_what_was_due_beyond() -> None:
    tape = tapes.protect(
        tapes.encode(np.zeros(800, np.int16), PCMU, 20), frames=5, payload_type=0, frame_units=160
    )  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5.0)
        flood = Flood([tape], capacity=1, payload_type=0, frame_units=160)
        flood.add(receiver.getsockname(), 0, at_seconds=0.0)
        flood.start()
        packets = [receiver.recv(2048) for _ in range(4)]  # the first frame is the one behind the place of entry
        deadline = time.monotonic() + 5.0
        while not flood.failed and time.monotonic() < deadline:
            time.sleep(0.02)
        flood.stop()
    assert packets == [tape.payloads[n, : tape.sizes[n]].tobytes() for n in range(1, 5)]
    assert flood.sent == 4
    assert flood.failed >= 1


def test_an_offer_is_secured_on_every_m_line() -> None:
    media = [offer.Media(4000, "1", "sendonly"), offer.Media(4000, "2", "sendonly")]
    text = secured(offer.sdp("127.0.0.1", media, PCMU, ptime_ms=20, version=1))
    parsed = parse_sdp(text)
    assert [m.proto for m in parsed.media] == ["RTP/SAVP", "RTP/SAVP"]
    lines = [choose_crypto(m.crypto) for m in parsed.media]
    assert [line and line.keys for line in lines] == [tapes.SRTP_KEYS] * 2
