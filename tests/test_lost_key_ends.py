"""A key press whose end the network lost is told all the same, on a leg of which nothing else is to be told."""

from __future__ import annotations

import socket

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
