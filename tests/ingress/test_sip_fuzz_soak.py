"""Mutated calls and torture messages by the hundred thousand, through endpoint and media of calls (`make soak`)."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import CapacityError, SdpError
from bridge.ingress.sip_call import SipCall
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Confirmed, Ended, Event, IncomingCall, Reoffer
from tests.ingress.sip_fakes import FakeHost, settings
from tests.ingress.test_siprec import BOTH, BOUNDARY, FLOW, METADATA_TYPE, SDP_TYPE, multipart, offer, stream
from tests.sip.network import tokens

pytestmark = pytest.mark.soak
SECONDS = min(600.0, float(os.environ.get("CALLBRIDGE_SOAK_S", "600")))
TORTURE = Path(__file__).parents[3] / "shared/assets/torture-rfc4475-rfc5118/test/message"
BODY = multipart((SDP_TYPE, offer(stream(1), stream(2))), (METADATA_TYPE, BOTH))
METHODS = ["INVITE", "INVITE", "UPDATE", "BYE", "ACK", "INFO", "CANCEL", "OPTIONS"]
JUNK = [b'"', b"<", b">", b";", b",", b"\r\n", b" ", b"=", b"\0", b"%", b"0" * 30, b"a=", b"m=audio 0 RTP/AVP 0\r\n"]
SWAPS = [(b"sendonly", b"inactive"), (b"label", b"x"), (b"tag=", b""), (b"send", b"recv"), (b"INVITE", b"UPDATE")]
LIMIT = 0.010  # s of processor time for one message, collector off


class Fuzzer:
    """Makes messages of a seed; knows the tags that we gave, so that some reach a dialog."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._torture = [path.read_bytes() for path in TORTURE.glob("*/*")] if TORTURE.is_dir() else [BODY]
        self.tags: list[str] = []

    def message(self) -> bytes:
        chance = self._chance
        kind = chance.randrange(3)
        if kind == 0:
            seed = self._request("INVITE", 1, "")
        elif kind == 1 and self.tags:
            seed = self._request(chance.choice(METHODS), chance.randrange(9), f";tag={chance.choice(self.tags)}")
        else:
            seed = chance.choice(self._torture)
        for _ in range(chance.choice([0, 1, 1, 2, 5])):
            seed = self._mutated(seed)
        return seed

    def _request(self, method: str, cseq: int, tag: str) -> bytes:
        chance = self._chance
        head = (
            f"{method} sip:q@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bK{chance.random()};rport\r\n"
            f"From: <sip:a@b>;tag=f\r\nTo: <sip:q@h>{tag}\r\nCall-ID: c{chance.randrange(50)}\r\n"
            f"CSeq: {cseq} {method}\r\n"
            f"Contact: <sip:a@192.0.2.8>;+sip.src\r\nContent-Type: multipart/mixed;boundary={BOUNDARY}\r\n"
        )
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY

    def _mutated(self, data: bytes) -> bytes:
        chance = self._chance
        here, there = chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                return data[:here] + bytes([chance.randrange(256)]) + data[here + 1 :]
            case 1:
                return data[:here] + chance.choice(JUNK) + data[here:]
            case 2:
                return data[:here] + data[here + chance.randrange(40) :]
            case 3:
                return data[:here] + data[there : there + chance.randrange(60)] + data[here:]
        old, new = chance.choice(SWAPS)
        return data.replace(old, new)


class Server:
    """The ingress' part, without sockets."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(Identity(session_expires=1800), make_token=tokens("t"))
        self.host = FakeHost(room=10**9)
        self._settings = settings()
        self._calls: dict[str, SipCall] = {}

    def receive(self, data: bytes, now: float) -> Iterator[bytes]:
        self.endpoint.receive(data, FLOW, now)
        for event in self.endpoint.take_events():
            self._take(event, now)
        self.endpoint.take_events()
        yield from (message.data for message in self.endpoint.take_outgoing())

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, IncomingCall | Reoffer):
            try:
                self.endpoint.accept(event.dialog, self._answer(event, now), now)
            except (SdpError, CapacityError):
                self.endpoint.reject(event.dialog, 488, now)
        elif isinstance(event, Confirmed) and self._calls[event.dialog].is_offered_by_us:
            self._calls[event.dialog].answered_by_ack(event.request, now)
        elif isinstance(event, Ended):
            self._calls.pop(event.dialog, None)

    def _answer(self, event: IncomingCall | Reoffer, now: float):
        if isinstance(event, Reoffer):
            return self._calls[event.dialog].reoffered(event.request, now)
        call = SipCall(event.dialog, event.request, event.flow, self._settings, hang_up=print)
        body = call.open(self.host, now)  # type: ignore[arg-type]
        self._calls[event.dialog] = call
        return body


def test_nothing_escapes_nothing_is_slow_and_nothing_is_left() -> None:
    seed = random.SystemRandom().randrange(2**32)
    fuzzer, server, now, n, worst = Fuzzer(seed), Server(), 0.0, 0, 0.0
    end = time.monotonic() + SECONDS
    gc.collect()
    gc.disable()
    try:
        while time.monotonic() < end:
            data, n, now = fuzzer.message(), n + 1, now + 0.1
            start = time.process_time()
            sent = list(server.receive(data, now))
            worst = max(worst, time.process_time() - start)
            fuzzer.tags += [part.split(b"\r\n")[0].decode() for line in sent for part in line.split(b";tag=")[1:]][-1:]
            if n % 50 == 0:
                server.endpoint.handle_timer(now)
                server.endpoint.take_outgoing()
            if n % 2000 == 0:
                server.host.calls.clear()
                del fuzzer.tags[:-50]
                gc.collect()
    finally:
        gc.enable()
    print(f"seed {seed}: {n} messages, worst {worst * 1000:.1f} ms")
    for _ in range(30):
        now += 2000
        server.endpoint.handle_timer(now)
        server.endpoint.take_outgoing()
    assert worst < LIMIT
    assert server.endpoint.n_dialogs == server.endpoint.n_transactions == 0
