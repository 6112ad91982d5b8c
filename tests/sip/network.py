"""Two endpoints and a network between them, on a clock that is a number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count

from bridge.sip.endpoint import Endpoint, Identity, serve_all
from bridge.sip.events import Event, Flow
from bridge.sip.uas import Screen

SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def tokens(prefix: str) -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"{prefix}{next(numbers)}"


def request(
    method: str, *, via: str, peer: str, uri: str, contact: str, call_id: str, tag: str = "", cseq: int = 1,
    headers: Sequence[str] = (), body: bytes = b"",
) -> bytes:  # fmt: skip
    """A request of a peer, by hand; within a dialog with the `tag` that we gave. `via`: transport, address, parameters;
    `peer` and `uri`: who speaks to whom."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{via};branch=z9hG4bK{method}{cseq}",
        f"From: <{peer}>;tag=far",
        f"To: <{uri}>" + (f";tag={tag}" if tag else ""),
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        f"Contact: <{contact}>",
        *headers,
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def tag_of(answer: bytes) -> str:
    """That we gave the dialog."""
    return answer.decode().partition("\r\nTo: ")[2].partition("\r\n")[0].partition("tag=")[2]


class Tally:
    """An Observer that counts."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.responses: Counter[tuple[str, int]] = Counter()
        self.drops: Counter[str] = Counter()

    def request(self, method: str) -> None:
        self.requests[method] += 1

    def response(self, method: str, status: int) -> None:
        self.responses[method, status] += 1

    def dropped(self, reason: str) -> None:
        self.drops[reason] += 1


class Network:
    """`left` calls, `right` is called. `drop` decides by the message's first line; `wire` remembers every message."""

    def __init__(self, *, transport: str = "udp", screen: Screen | None = None, session_expires: int = 0) -> None:
        identity = Identity(session_expires=session_expires)
        self.left = Endpoint(identity, make_token=tokens("l"))
        self.tally = Tally()
        self.right = Endpoint(identity, make_token=tokens("r"), screen=screen or serve_all, observer=self.tally)
        self.flow = Flow(transport, ("192.0.2.1", 5060), ("192.0.2.2", 5060))
        self.back = Flow(transport, ("192.0.2.2", 5060), ("192.0.2.1", 5060))
        self.now = 100.0
        self.wire: list[tuple[float, str, bytes]] = []
        self.events: dict[str, list[Event]] = {"left": [], "right": []}
        self.drop: Callable[[str, str], bool] = lambda side, line: False
        self.on_right: Callable[[Event], None] = lambda event: None

    def settle(self) -> None:
        """Carries messages until none is left."""
        moving = True
        while moving:
            moving = self._carry(self.left, "left", self.right, self.back)
            moving = self._carry(self.right, "right", self.left, self.flow) or moving

    def _carry(self, sender: Endpoint, side: str, receiver: Endpoint, flow: Flow) -> bool:
        for event in sender.take_events():
            self.events[side].append(event)
            if side == "right":
                self.on_right(event)
        sent = sender.take_outgoing()
        for message in sent:
            line = message.data.split(b"\r\n", 1)[0].decode()
            self.wire.append((self.now, side, message.data))
            if not self.drop(side, line):
                receiver.receive(message.data, flow, self.now)
        return bool(sent)

    def run_until(self, end: float) -> None:
        """Jumps from timer to timer."""
        self.settle()
        while True:
            times = [at for at in (self.left.deadline(), self.right.deadline()) if at is not None and at <= end]
            if not times:
                break
            self.now = max(self.now, min(times))
            self.left.handle_timer(self.now)
            self.right.handle_timer(self.now)
            self.settle()
        self.now = end

    def lines(self, side: str, start: str) -> list[float]:
        """When `side` sent messages whose first line starts so."""
        return [at for at, who, data in self.wire if who == side and data.startswith(start.encode())]

    def seen(self, side: str, kind: type) -> list[Event]:
        return [event for event in self.events[side] if isinstance(event, kind)]
