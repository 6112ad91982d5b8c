"""A trunk that wants to hear it ring, against a running service: what is sent before the answer is nobody's words."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from bridge.caller.rtp_schedule import rtp_packet
from bridge.demo.verdict import finals_of
from bridge.emulator import recordings
from rtpcodecs import CODECS
from tests.flow.house import provider, service
from tests.flow.raw_sip import RawCall, parse
from tests.redis_server import RedisServer, is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="redis-server is not installed")
RING_MS = 1500
PTIME = 0.02
BEFORE, AFTER = "caller-thank-you", "caller-terribly-wrong"


def say(call: RawCall, to: tuple[str, int], name: str, sequence: itertools.count[int]) -> None:
    """In real time."""
    encoder = CODECS["PCMU"].make_encoder
    assert encoder is not None
    encode, samples, due = encoder().encode, recordings.load()[name].samples, time.monotonic()
    for at in range(0, len(samples) - 159, 160):
        n = next(sequence)
        data = rtp_packet(
            encode(samples[at : at + 160]), payload_type=0, sequence=n, timestamp=n * 160, ssrc=7, marker=n == 0
        )
        due += PTIME
        time.sleep(max(due - time.monotonic(), 0))
        call.rtp.sendto(data, to)


def test_words_before_the_answer_are_not_heard_and_call_time_begins_with_it(tmp_path: Path) -> None:
    trunk: dict[str, dict[str, object]] = {
        "[route]": {"match.to": "flow", "sip.progress": "183", "sip.ring_ms": RING_MS}
    }
    with (
        RedisServer() as redis,
        provider(tmp_path) as stand_in,
        service(tmp_path, redis, stand_in.url, **trunk) as running,
    ):
        with RawCall(int(running.uri.rpartition(":")[2]), "early", "tag") as call:
            call.send("INVITE", body=call.sdp())
            data = call.sock.recv(65535)
            while not data.startswith(b"SIP/2.0 183"):
                data = call.sock.recv(65535)
            rang_at, early, sequence = time.monotonic(), parse(data), itertools.count()
            say(call, early.rtp, BEFORE, sequence)
            answer = call.final("INVITE")
            answered_after = time.monotonic() - rang_at
            call.to_tag = answer.headers["to"].partition("tag=")[2]
            call.send("ACK")
            said_at = time.monotonic()
            say(call, answer.rtp, AFTER, sequence)
            time.sleep(0.3)
            call.cseq += 1
            assert call.bye().status == 200
        (events,) = running.collect(1).values()
    assert answered_after >= RING_MS / 1000 - 0.1
    words = [word for final in finals_of(events, "caller") for word in final.data["words"]]
    truth = recordings.load()[AFTER].words
    assert [word[0].lower().strip(".") for word in words] == [word.text for word in truth]
    assert words[0][1] == pytest.approx(said_at - (rang_at + answered_after) + truth[0].start, abs=0.15)
    ended = events[-1].data
    assert ended["duration_s"] < 5
    assert ended["legs"]["leg1"]["received_s"] < recordings.load()[AFTER].seconds + 0.2
