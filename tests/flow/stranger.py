"""A SIP peer that does whatever a script tells it, with something to say: SIP by hand, RTP packet by packet."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.caller.audio import Samples, resample
from bridge.caller.rtp_schedule import rtp_packet
from bridge.rtp.packet import RtpPacket, parse_rtp
from rtpcodecs import CODECS
from rtpcodecs.contract import Encoder
from rtpcodecs.telephone_event import DIGITS, TelephoneEvent

from .raw_sip import Answer, RawCall

RATE_HZ = 8000
Datagrams = list[tuple[float, bytes]]
"(when it leaves in stream time, packet)"


@dataclass
class Voice:
    """One stream: what is said, and the numbers its packets go by."""

    samples: Samples
    ssrc: int
    sequence: itertools.count[int] = field(default_factory=lambda: itertools.count(random.Random(7).getrandbits(15)))
    base: int = 0xFFFF_8000
    "Timestamp of stream time 0."
    _encoders: dict[tuple[str, float], Encoder] = field(default_factory=dict)

    def says(
        self, start: float, end: float, *, codec: str = "PCMU", pt: int = 0, ptime: float = 0.02, clock_hz: int = 0
    ) -> Datagrams:  # fmt: skip
        """Packets of [start, end); each leaves when its last sample has been said."""
        kind = CODECS[codec]
        clock_hz = clock_hz or kind.clock_rate_hz
        rate, n = kind.sample_rate_hz, round(kind.sample_rate_hz * ptime)
        audio = resample(self.samples, RATE_HZ, rate)
        encoder = self._encoders.get((codec, ptime))
        if encoder is None:
            assert kind.make_encoder is not None
            encoder = self._encoders[codec, ptime] = kind.make_encoder()
        found: Datagrams = []
        for k in range(round((end - start) / ptime)):
            at = start + k * ptime
            piece = audio[round(at * rate) : round(at * rate) + n]
            if len(piece) == n:
                found.append((at + ptime, self.packet(encoder.encode(piece), pt, round(at * clock_hz))))
        return found

    def presses(
        self, digit: str, at: float, seconds: float, *, pt: int, clock_hz: int = 8000, ends: int = 3
    ) -> Datagrams:
        """A key, in place of audio; `ends` of its three end packets arrive."""
        n, units = round(seconds / 0.02), clock_hz // 50
        found = []
        for k in [*range(1, n + 1), n, n]:
            event = TelephoneEvent(DIGITS.index(digit), k == n, -10, k * units)
            found.append((at + k * 0.02, self.packet(event.build(), pt, round(at * clock_hz))))
        return found[: len(found) - 3 + ends]

    def packet(self, payload: bytes, pt: int, units: int) -> bytes:
        sequence, timestamp = next(self.sequence) & 0xFFFF, (self.base + units) & 0xFFFFFFFF
        return rtp_packet(
            payload, payload_type=pt, sequence=sequence, timestamp=timestamp, ssrc=self.ssrc, marker=False
        )


def dressed(packets: Datagrams, **parts: Any) -> Datagrams:
    """With padding, CSRC or a header extension."""
    return [(due, RtpPacket(**{**parse_rtp(data)._asdict(), **parts}).build()) for due, data in packets]


class Stranger:
    """One call and one voice. `began`: monotonic time of stream time 0."""

    def __init__(self, call: RawCall, samples: Samples) -> None:
        self.call = call
        self.voice = Voice(samples, random.Random(call.from_tag).getrandbits(32))
        self.to = ("", 0)
        self.began = 0.0
        self.answered_at = 0.0
        self.version = 0

    def sdp(self, *media: str, address: str = "127.0.0.1", session: Sequence[str] = ()) -> str:
        """`PORT` in an m-line stands for our RTP socket's."""
        self.version += 1
        port = str(self.call.rtp.getsockname()[1])
        lines = [
            "v=0", f"o=- 9 {self.version} IN IP4 127.0.0.1", "s=-", f"c=IN IP4 {address}", "t=0 0", *session,
            *(line.replace("PORT", port) for line in media),
        ]  # fmt: skip
        return "\r\n".join(lines) + "\r\n"

    def offer(self, *media: str, method: str = "INVITE", body: str | None = None, **more: Any) -> Answer:
        """An INVITE, or within the call a re-INVITE or UPDATE, answered and acknowledged."""
        text = self.sdp(*(media or ("m=audio PORT RTP/AVP 0",))) if body is None else body
        if method == "INVITE":
            answer = self.call.invite(text, **more)
        else:
            self.call.send(method, body=text, **more)
            answer = self.call.final(method)
            self.call.cseq += 1
        assert answer.status == 200, answer
        self._begin(answer)
        return answer

    def _begin(self, answer: Answer) -> None:
        if not self.began:
            self.answered_at = time.monotonic()
            self.began = self.answered_at + 0.1
        if "m=audio" in answer.body:
            lines = [line for line in answer.body.splitlines() if line.startswith("m=audio") and " 0 " not in line[:10]]
            self.to = (answer.rtp[0], int(lines[0].split()[1]))

    def asked_for_offer(self, answer_with: Callable[[Answer], str], *, method: str = "INVITE") -> Answer:
        """An INVITE without a description: theirs is in the 200, ours in the ACK."""
        self.call.send(method)
        answer = self.call.final(method)
        assert answer.status == 200, answer
        self.call.to_tag = answer.headers["to"].partition("tag=")[2]
        self._begin(answer)
        self.call.send("ACK", body=answer_with(answer))
        self.call.cseq += 1
        return answer

    def play(self, *streams: Datagrams, to: Sequence[tuple[str, int]] = (), sock: Any = None) -> None:
        """In real time; `to`: where each goes, if not all to the one leg."""
        targets = to or [self.to] * len(streams)
        queue = sorted((due, data, n) for n, stream in enumerate(streams) for due, data in stream)
        for due, data, n in queue:
            time.sleep(max(self.began + due - time.monotonic(), 0.0))
            (sock or self.call.rtp).sendto(data, targets[n])

    def wait_until(self, at: float) -> None:
        time.sleep(max(self.began + at - time.monotonic(), 0.0))
