"""Two trunks of one service: one is answered `sendrecv` and gets silence back, the other `recvonly` and gets none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import pytest

from bridge.rtp.packet import RtpPacket, parse_rtp
from tests.redis_server import RedisServer, is_installed

from .house import Running, provider, service
from .raw_sip import TIMEOUT, RawCall

RECORDER = "127.0.0.7"
"Source of the trunk that must not be sent anything."
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(60)]


class Recorder(RawCall):
    """A caller from the other trunk's address."""

    def __enter__(self) -> Self:
        self.sock.bind((RECORDER, 0))
        self.rtp.bind(("127.0.0.1", 0))
        for sock in (self.sock, self.rtp):
            sock.settimeout(TIMEOUT)
        self.sock.connect(("127.0.0.1", self.port))
        return self


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("trunks")
    route: dict[str, dict[str, object]] = {"[route]": {"match.source": RECORDER, "sip.answer": "recvonly"}}
    with (
        RedisServer() as redis,
        provider(folder) as stand_in,
        service(folder, redis, stand_in.url, service={"drain_s": 1}, **route) as house,
    ):
        yield house


def speak(call: RawCall, rtp: tuple[str, int]) -> None:
    call.rtp.sendto(RtpPacket(0, 1, 160, 7, b"\xff" * 160).build(), rtp)


def test_the_trunk_that_was_told_we_send_gets_silence_from_the_port_it_was_told(running: Running) -> None:
    with RawCall(int(running.uri.rpartition(":")[2]), "both@raw", "both") as caller:
        answer = caller.invite()
        assert "a=sendrecv" in answer.body
        speak(caller, answer.rtp)
        data, source = caller.rtp.recvfrom(2000)
        assert source == answer.rtp
        assert parse_rtp(data).payload == b"\xff" * 160
        assert caller.bye().status == 200


def test_the_trunk_that_was_answered_recvonly_is_sent_none(running: Running) -> None:
    with Recorder(int(running.uri.rpartition(":")[2]), "one@raw", "one") as caller:
        answer = caller.invite()
        assert "a=recvonly" in answer.body
        speak(caller, answer.rtp)
        caller.rtp.settimeout(4.0)  # s; the first silence would be due after 1.25 to 3.75
        with pytest.raises(TimeoutError):
            caller.rtp.recvfrom(2000)
        assert caller.bye().status == 200
