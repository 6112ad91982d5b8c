"""What is handled late is known to have come early."""

from __future__ import annotations

import socket
import time

import pytest

from bridge.net import arrival


def test_a_datagram_s_arrival_is_when_it_was_sent_however_late_it_is_read() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        ours.bind(("127.0.0.1", 0))
        assert arrival.of_datagram(ours) == pytest.approx(time.monotonic(), abs=0.02), "none was read"
        sent: list[float] = []
        for _ in range(3):
            peer.sendto(b"hold", ours.getsockname())
            sent.append(time.monotonic())
            time.sleep(0.1)
        for at in sent:
            ours.recv(100)
            assert arrival.of_datagram(ours) == pytest.approx(at, abs=0.02)


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
    assert now <= arrival.of_datagram(ours) <= arrival.of_stream(ours)
