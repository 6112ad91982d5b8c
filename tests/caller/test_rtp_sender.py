from __future__ import annotations

import asyncio
import socket

import numpy as np
import pytest

from bridge.caller.rtp_schedule import RtpStream, StreamFormat
from bridge.caller.rtp_sender import RtpPort, RtpSender
from bridge.clock import monotonic
from bridge.errors import ConfigError


def make_sender(seconds: float) -> RtpSender:
    samples = np.arange(1, round(seconds * 8000) + 1, dtype=np.int16)
    return RtpSender(RtpStream(samples, lambda s: s.tobytes(), StreamFormat()), RtpPort("127.0.0.1"))


async def test_every_packet_arrives_once_in_order_and_none_before_its_time() -> None:
    sender = make_sender(0.4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        sender.remote = receiver.getsockname()
        start = monotonic() + 0.01
        await asyncio.wait_for(sender.run(start), 5)
        datagrams = [receiver.recv(2048) for _ in range(20)]
        with pytest.raises(BlockingIOError):
            receiver.recv(2048)
    audio = np.concatenate([np.frombuffer(d[12:], np.int16) for d in datagrams])
    assert np.array_equal(audio, np.arange(1, 3201, dtype=np.int16))
    assert len(sender.log) == 20
    assert all(at - start >= begin + 0.02 - 1e-6 for at, begin in zip(sender.log.at, sender.log.start, strict=True))
    sender.port.close()


async def test_a_late_start_catches_up_with_what_was_due() -> None:
    sender = make_sender(0.4)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        sender.remote = receiver.getsockname()
        began = monotonic()
        await asyncio.wait_for(sender.run(began - 10), 5)
    assert len(sender.log) == 20
    assert sender.log.late > 9
    assert monotonic() - began < 2
    sender.port.close()


async def test_a_port_that_nobody_listens_on_does_not_stop_the_stream() -> None:
    sender = make_sender(0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        sender.remote = gone.getsockname()
    await asyncio.wait_for(sender.run(monotonic() - 1), 5)
    assert sender.stream.is_finished
    sender.port.close()


def test_rtp_takes_an_even_port_and_rtcp_the_one_above() -> None:
    port = RtpPort("127.0.0.1")
    assert port.port % 2 == 0
    assert port.rtcp.getsockname()[1] == port.port + 1
    port.close()


def test_what_comes_back_is_counted_and_dropped() -> None:
    port = RtpPort("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for _ in range(3):
            peer.sendto(b"x", ("127.0.0.1", port.port))
        peer.sendto(b"y", ("127.0.0.1", port.port + 1))
    port.drain()
    assert port.received == 3
    port.close()


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        RtpPort("192.0.2.1")
