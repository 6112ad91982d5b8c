"""Card data: from the pause on nothing leaves, nor does what was said before it and not sent yet."""

from __future__ import annotations

import pytest

from bridge.config import GateSettings
from bridge.model import Cause
from tests.media.sender import Sender, arrivals, audio, deliver
from tests.media.test_plane import payloads, plane_with_leg, stream

HOLDING = GateSettings(mode="hold")


def test_what_was_not_sent_when_the_pause_began_is_never_sent() -> None:
    plane, row = plane_with_leg()
    sent = stream(Sender(), 8)  # 160 ms: one chunk of 100 ms leaves, the rest waits for the next
    before = audio(deliver(plane, row, sent, until=100.18))
    assert b"".join(chunk.data for chunk in before) == payloads(sent)[:800]
    plane.signal(row, Cause.PAUSED, True, 100.18)
    assert audio(plane.tick(100.20)) == []
    assert audio(plane.close_leg(row, 100.22)) == []
    books = plane.books(row)
    assert books.withheld_s["paused"] == pytest.approx(0.06)
    assert books.sent_s == pytest.approx(0.1)


def test_what_a_hold_was_about_to_flush_is_not_sent_when_a_pause_comes_before_the_tick() -> None:
    plane, row = plane_with_leg(gate=HOLDING)
    sent = stream(Sender(), 8)
    n_before = sum(len(chunk.data) for chunk in audio(deliver(plane, row, sent, until=100.18)))
    plane.signal(row, Cause.HOLD, True, 100.18)
    plane.signal(row, Cause.PAUSED, True, 100.18)
    assert audio(plane.tick(100.20)) == []
    books = plane.books(row)
    assert books.sent_s == pytest.approx(n_before / 8000)
    assert books.received_s == pytest.approx(books.sent_s + sum(books.withheld_s.values()))


def test_what_was_said_in_the_pause_and_still_waits_for_a_lost_packet_is_not_sent_after_it() -> None:
    plane, row = plane_with_leg()
    sender = Sender()
    deliver(plane, row, stream(sender, 5), until=100.11)
    plane.signal(row, Cause.PAUSED, True, 100.11)
    sender.packet()  # lost
    secret = stream(sender, 2, start=100.12)
    for at, datagram in secret:
        plane.incoming.push(arrivals([(row, datagram, at)]))
    plane.tick(100.16)  # both wait behind the hole
    plane.signal(row, Cause.PAUSED, False, 100.17)
    free = stream(sender, 20, start=100.17)
    said = b"".join(chunk.data for chunk in audio(deliver(plane, row, free, until=100.8)))
    said += b"".join(chunk.data for chunk in audio(plane.close_leg(row, 100.8)))
    assert said == payloads(free)
