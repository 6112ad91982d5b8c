"""The kernel still keeps what came before the process stood still, while it already knows what came after."""

from __future__ import annotations

import socket
import struct
import time

import numpy as np
import pytest

from bridge.call import Call
from bridge.ingress.contract import CallOffer, LegOffer
from bridge.tick import FLOODED_AFTER
from tests.test_call import House, house

__all__ = ["house"]  # the fixture
N = 100
"Packets of 20 ms: more than a tick reads."


def send(call: Call, *counts: int) -> list[float]:
    """Noise in G.711, so many packets and then so many. Answers when each of these bursts was over."""
    ends, seq = [], 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        for n in counts or (N,):
            for _ in range(n):
                header = struct.pack(">BBHII", 0x80, 0, seq, 160 * seq, 7)
                phone.sendto(header + bytes(range(40, 200)), ("127.0.0.1", call.legs[0].local[1]))
                seq += 1
            time.sleep(0.05)  # more than the kernel's clock and ours are read apart on a loaded machine
            ends.append(time.monotonic() - 0.02)
    return ends


def answered(house: House) -> Call:
    house.now = time.monotonic()  # the kernel stamps packets by the real clock
    call = house.open()
    call.answered(house.now)
    house.service.adjust(call.id, "leg1", {"mode": "off"})
    return call


def test_a_call_that_ended_is_heard_to_its_end_however_late_it_is_read(house: House) -> None:
    call = answered(house)
    send(call)
    house.now = time.monotonic()
    call.ended("hangup", house.now)
    house.run(0.2)
    assert call.legs[0].ledger(house.now)["received_s"] == N * 0.02
    assert house.transcriptions[0].told[-1] == "finish"


@pytest.mark.parametrize("by", ["call", "leg"])
def test_what_comes_after_the_end_is_not_of_the_call_however_late_that_is_heard_of(house: House, by: str) -> None:
    """A caller whose sender goes on for a moment: its ledger lasts as long as the call did."""
    call = answered(house)
    zero = house.now
    ended, _ = send(call, 60, 40)
    house.now = time.monotonic() + 1.0  # stood still meanwhile
    if by == "call":
        call.ended("hangup", ended)
    else:
        call.legs[0].ended(ended)
    house.run(0.2)
    ledger = call.legs[0].ledger(house.now)
    assert ledger["received_s"] == 60 * 0.02
    assert ledger["received_s"] + ledger["absent_s"] == pytest.approx(max(ended - zero, 60 * 0.02), abs=0.001)


def test_what_came_in_a_pause_stays_withheld_however_late_it_is_read(house: House) -> None:
    call = answered(house)
    house.service.act(call.id, "leg1", "pause")
    send(call)
    house.now = time.monotonic()
    house.service.act(call.id, "leg1", "resume")
    house.run(0.2)
    ledger = call.legs[0].ledger(house.now)
    assert ledger["withheld_s"]["paused"] == ledger["received_s"] == N * 0.02


def test_what_an_ingress_reads_itself_is_of_the_pause_that_it_came_in(house: House) -> None:
    call = house.service.open_call(CallOffer("webrtc", (LegOffer(),)), house.control, house.now)
    call.answered(house.now)
    house.service.adjust(call.id, "leg1", {"mode": "off"})
    waiting: list[float] = []

    def read(now: float) -> None:
        for start in waiting:
            call.legs[0].push_pcm(np.full(320, 3000, np.int16), start=start, now=now)
        waiting.clear()

    stop = house.service.each_tick(read)
    house.service.act(call.id, "leg1", "pause")
    for _ in range(50):
        waiting.append(house.now)
        house.run(0.02)
    waiting.append(house.now)
    house.now += 0.015
    house.service.act(call.id, "leg1", "resume")
    house.run(0.02)
    stop()
    ledger = call.legs[0].ledger(house.now)
    assert ledger["withheld_s"]["paused"] == ledger["received_s"] == pytest.approx(51 * 0.02)


@pytest.mark.parametrize("verb", ["hold", "mute"])
def test_a_hold_or_mute_begins_and_ends_behind_what_had_come_before_it_however_late_it_is_read(
    house: House, verb: str
) -> None:
    call = answered(house)
    house.service.adjust(call.id, "leg1", {"mode": "hold"})
    began, ended, _ = send(call, 60, 50, 40)
    house.now = time.monotonic()
    house.service.act(call.id, "leg1", verb, began)
    house.service.act(call.id, "leg1", "resume" if verb == "hold" else "unmute", ended)
    house.run(0.3)
    ledger = call.legs[0].ledger(house.now)
    assert ledger["received_s"] == 150 * 0.02
    assert ledger["withheld_s"][verb] == 50 * 0.02
    moved = [event.data.get("cause", "open") for event in house.events if event.type == "leg.gate"]
    assert moved[-3:] == ["open", verb, "open"]


def test_a_hold_waits_for_no_other_leg_s_audio(house: House) -> None:
    call = house.open(n_legs=2)
    call.answered(house.now)
    house.now = time.monotonic()
    send(call)
    call.legs[1].hold(True, house.now)
    house.run(0.02)
    assert call.legs[1].snapshot(house.now)["gate"]["cause"] == "hold"


def test_a_socket_that_is_never_read_to_its_end_holds_up_no_timer_for_ever(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read() -> list[object]:
        house.sockets.read_to = house.now - 0.4
        return []

    monkeypatch.setattr(house.sockets, "read", read)
    alarm = Alarm(house)
    house.run(0.02)
    house.timers.arm(alarm, house.now + 1.0)
    house.run(1.3)
    assert alarm.rang_at == [], "what was not read yet may still matter"
    house.run(0.2)
    assert len(alarm.rang_at) == 1
    house.run(FLOODED_AFTER)
    house.timers.arm(alarm, house.now + 1.0)
    house.run(1.1)
    assert len(alarm.rang_at) == 2, "that was no standstill"


class Alarm:
    """`bridge.wiring.Timed`."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.rang_at: list[float] = []

    def handle_timer(self, now: float) -> None:
        self.rang_at.append(self._house.now)


def test_a_phone_that_sends_on_after_its_call_is_not_heard_in_the_next_one_on_its_port(house: House) -> None:
    """A small range of ports comes round within seconds; a phone whose BYE was lost sends for a minute."""

    def packets(phone: socket.socket, ssrc: int, port: int, first: int = 0) -> None:
        for seq in range(first, first + 10):
            phone.sendto(struct.pack(">BBHII", 0x80, 0, seq, 160 * seq, ssrc) + bytes(160), ("127.0.0.1", port))
        time.sleep(0.02)
        house.now = time.monotonic()
        house.run(0.04)

    def end(call: Call) -> None:
        call.ended("hangup", house.now)
        house.run(0.04)

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone,
    ):
        first = answered(house)
        port = first.legs[0].local[1]
        packets(stray, 7, port)
        assert first.legs[0].ledger(house.now)["packets"]["received"] == 10
        end(first)
        for nth, ssrc in enumerate((8, 9)):  # remembered beyond the next call, too
            while (call := answered(house)).legs[0].local[1] != port:
                end(call)
            packets(stray, 7, port, first=10 + 10 * nth)
            assert call.legs[0].ledger(house.now)["packets"]["received"] == 0
            packets(phone, ssrc, port)
            assert call.legs[0].ledger(house.now)["packets"]["received"] == 10
            end(call)
        while (call := answered(house)).legs[0].local[1] != port:
            end(call)
        packets(stray, 10, port)  # the same phone's next call
        assert call.legs[0].ledger(house.now)["packets"]["received"] == 10
        end(call)


def test_a_sender_that_has_the_same_port_and_ssrc_in_all_its_calls_is_heard_in_each(house: House) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        for _ in range(9):  # twice and once more round the ports that there are
            call = answered(house)
            for seq in range(50):
                packet = struct.pack(">BBHII", 0x80, 0, seq, 160 * seq, 7) + bytes(160)
                server.sendto(packet, ("127.0.0.1", call.legs[0].local[1]))
            time.sleep(0.02)
            house.now = time.monotonic()
            house.run(0.04)
            assert call.legs[0].ledger(house.now)["packets"]["received"] == 50
            call.ended("hangup", house.now)
            house.run(0.04)
