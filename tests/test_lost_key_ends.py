"""A key press whose end the network lost is told all the same, on a leg of which nothing else is to be told."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from bridge.call import Call
from bridge.config import Settings, SipSettings
from bridge.ingress.contract import CallOffer, LegOffer, MediaOffer
from bridge.rtp.packet import RtpPacket
from rtpcodecs.telephone_event import TelephoneEvent
from tests.test_call import PCMU, House, house

__all__ = ["house"]  # the fixture


@pytest.fixture
def call(house: House) -> Call:
    house.service.reload(Settings(sip=SipSettings(dtmf_events=True)))
    media = MediaOffer((PCMU,), telephone_events={101: 8000})
    call = house.service.open_call(CallOffer("sip", (LegOffer(media=media),)), house.control, house.now)
    call.answered(house.now)
    return call


def press_without_end(house: House, call: Call) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        for n in range(1, 4):
            packet = RtpPacket(101, n, 1000, 7, TelephoneEvent(5, False, -10, 160 * n).build())
            phone.sendto(packet.build(), ("127.0.0.1", call.legs[0].local[1]))
            house.run(0.02)


def test_it_is_told_once_nothing_more_of_it_comes(house: House, call: Call) -> None:
    press_without_end(house, call)
    assert "dtmf" not in house.types()
    house.run(0.5)
    assert [event.data for event in house.events if event.type == "dtmf"] == [{"digit": "5", "duration_ms": 60}]


def test_it_is_told_before_its_call_has_ended(house: House, call: Call) -> None:
    press_without_end(house, call)
    call.ended("hangup", house.now)
    house.run(0.02)
    assert house.types() == ["call.started", "dtmf"]


class Phone:
    """Keys digits, packet by packet, beside a stream of silence."""

    def __init__(self, house: House, call: Call) -> None:
        self._house, self._to = house, ("127.0.0.1", call.legs[0].local[1])
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._n = 0

    def close(self) -> None:
        self._socket.close()

    def key(self, digit: int, packets: range) -> None:
        """Packets of one press; it is let go with the eighth."""
        for n in packets:
            self._n += 1
            event = TelephoneEvent(digit, n >= 8, -10, 160 * n).build()
            self._socket.sendto(RtpPacket(101, self._n, 1000 * digit, 7, event).build(), self._to)
            self._house.run(0.02)


def told(house: House) -> list[str]:
    return [event.data["digit"] for event in house.events if event.type == "dtmf"]


def test_no_key_of_a_pause_for_card_data_is_told_not_even_one_that_is_held_across_its_end(
    house: House, call: Call
) -> None:
    with closing(Phone(house, call)) as phone:
        leg = call.legs[0]
        phone.key(1, range(1, 9))
        phone.key(2, range(1, 5))
        assert call.act(leg.id, "pause", house.now)
        phone.key(2, range(5, 9))
        phone.key(3, range(1, 9))
        leg.key_pressed("4", duration_ms=100, now=house.now)
        house.run(0.5)
        phone.key(5, range(1, 5))
        assert call.act(leg.id, "resume", house.now)
        phone.key(5, range(5, 9))
        house.run(0.5)
        phone.key(6, range(1, 9))
        house.run(0.5)
    assert told(house) == ["1", "6"]
