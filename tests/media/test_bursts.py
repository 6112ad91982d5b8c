"""More audio at once than the ring holds: what may be sent is sent before it is written over."""

from __future__ import annotations

import pytest

from tests.media.sender import Sender, arrivals, audio
from tests.media.test_plane import open_leg, payloads, plane_with_leg


@pytest.mark.parametrize("units", [160, 480, 1600])
def test_a_burst_longer_than_the_ring_is_sent_byte_for_byte(units: int) -> None:
    plane, row = plane_with_leg()
    neighbour = open_leg(plane)
    sender, other = Sender(units=units), Sender(ssrc=8, units=units)
    chunks, sent, n = [], [], 0
    for k in range(5):  # the loop stood still: at each of its next ticks 25 packets wait
        for _ in range(25):
            n += 1
            at = 100.0 + n * units / 8000
            sent.append((at, sender.packet()))
            plane.incoming.push(arrivals([(row, sent[-1][1], at), (neighbour, other.packet(), at)]))
        chunks += audio(plane.tick(130.0 + 0.02 * k))
    for k in range(100):
        chunks += audio(plane.tick(130.1 + 0.02 * k))
    chunks += audio(plane.close_leg(row, 133.0))
    heard = b"".join(chunk.data for chunk in chunks if chunk.row == row)
    assert heard == payloads(sent)
    books = plane.books(row)
    assert books.received_s == pytest.approx(len(heard) / 8000 + sum(books.withheld_s.values()))


def test_a_hole_that_releases_more_than_the_ring_at_once_loses_nothing_of_it() -> None:
    plane, row = plane_with_leg()
    sender = Sender(units=480)
    sent = [(100.06, sender.packet()), (100.12, sender.packet())]
    chunks = []
    for at, data in sent:
        plane.incoming.push(arrivals([(row, data, at)]))
        chunks += audio(plane.tick(at))
    sender.packet()  # lost
    for n in range(120):  # 7.2 s within a moment, behind the hole
        sent.append((100.24 + n * 1e-4, sender.packet()))
        plane.incoming.push(arrivals([(row, sent[-1][1], sent[-1][0])]))
    for k in range(200):
        chunks += audio(plane.tick(100.26 + 0.02 * k))
    chunks += audio(plane.close_leg(row, 105.0))
    heard = b"".join(chunk.data for chunk in chunks)
    assert heard[: 2 * 480] == payloads(sent[:2])
    assert heard[3 * 480 :] == payloads(sent[2:])
