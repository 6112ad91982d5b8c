"""What is handled late is known to have come early."""

from __future__ import annotations

import socket
import time

import pytest

from bridge.clock import unix_offset
from bridge.net import arrival


def test_a_datagram_s_arrival_is_when_it_was_sent_however_late_it_is_read() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        ours.bind(("127.0.0.1", 0))
        arrivals = arrival.DatagramArrivals(ours)
        assert arrivals.last() == pytest.approx(time.monotonic(), abs=0.02), "none was read"
        sent: list[float] = []
        for _ in range(3):
            peer.sendto(b"hold", ours.getsockname())
            sent.append(time.monotonic())
            time.sleep(0.1)
        for at in sent:
            ours.recv(100)
            assert arrivals.last() == pytest.approx(at, abs=0.02)


@pytest.mark.parametrize("step", [3600.0, 1.0, -1.0])
def test_a_step_of_the_wall_clock_moves_no_datagram_that_waited_then(step: float) -> None:
    stepped_by = 0.0

    def offset() -> float:
        return unix_offset() + stepped_by

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        ours.bind(("127.0.0.1", 0))
        arrivals = arrival.DatagramArrivals(ours, offset)
        sent: list[float] = []
        for _ in range(3):
            peer.sendto(b"hold", ours.getsockname())
            sent.append(time.monotonic())
            time.sleep(0.05)
        stepped_by = step  # of the clock as it is; the kernel's stamps are of the clock as it was
        for at in sent:
            ours.recv(100)
            assert arrivals.last() == pytest.approx(at, abs=0.02)


def test_a_connection_s_last_bytes_came_when_they_were_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        ours, _ = server.accept()
        with ours:
            peer.send(b"hold")
            sent = time.monotonic()
            time.sleep(0.2)
            ours.recv(100)
            assert arrival.of_stream(ours) == pytest.approx(sent, abs=0.02)


def test_a_socket_that_is_gone_is_no_failure() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        pass
    now = time.monotonic()
    assert now <= arrival.DatagramArrivals(ours).last() <= arrival.of_stream(ours)
