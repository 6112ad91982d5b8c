"""SIP written by hand, for what no well-behaved client would send: a UDP socket, a template, and no state machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

TIMEOUT = 5.0  # s; a loaded machine


@dataclass
class Answer:
    """A response, as far as a test looks at it."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def rtp(self) -> tuple[str, int]:
        """Where the answer wants its RTP."""
        lines = self.body.splitlines()
        address = next(line for line in lines if line.startswith("c=")).split()[-1]
        return address, int(next(line for line in lines if line.startswith("m=")).split()[1])


def parse(data: bytes) -> Answer:
    head, _, body = data.decode().partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}
    return Answer(int(first.split()[1]), headers, body)


@dataclass
class RawCall:
    """One UAC. `invite`, `bye` and `send` say exactly what they are told to; the dialog's state is ours to break."""

    port: int
    call_id: str
    from_tag: str
    cseq: int = 1
    to_tag: str = ""
    sock: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    rtp: socket.socket = field(default_factory=lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))

    def __enter__(self) -> Self:
        for sock in (self.sock, self.rtp):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(TIMEOUT)
        self.sock.connect(("127.0.0.1", self.port))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()
        self.rtp.close()

    def sdp(self, *, direction: str = "sendrecv", payload_type: int = 0, port: int | None = None, v: int = 1) -> str:
        port = self.rtp.getsockname()[1] if port is None else port
        return (
            f"v=0\r\no=- 1 {v} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP {payload_type}\r\na={direction}\r\n"
        )

    def send(
        self, method: str, *, body: str = "", cseq: int | None = None, branch: str = "", to_tag: str = "",
        headers: Sequence[str] = (), kind: str = "application/sdp", uri: str = "",
    ) -> None:  # fmt: skip
        number = self.cseq if cseq is None else cseq
        local = self.sock.getsockname()
        tag = to_tag or self.to_tag
        lines = [
            f"{method} {uri or f'sip:flow@127.0.0.1:{self.port}'} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{local[1]};branch=z9hG4bK{branch or f'{self.from_tag}{method}{number}'};rport",
            "Max-Forwards: 70",
            f"From: <sip:raw@127.0.0.1>;tag={self.from_tag}",
            "To: <sip:flow@127.0.0.1>" + (f";tag={tag}" if tag else ""),
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            *(
                []
                if any(line.startswith(("Contact", "m:")) for line in headers)
                else [f"Contact: <sip:raw@127.0.0.1:{local[1]}>"]
            ),
            *headers,
            *([f"Content-Type: {kind}"] if body else []),
            f"Content-Length: {len(body.encode())}",
        ]
        self.sock.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def final(self, method: str = "") -> Answer:
        """The next final response (to `method`); provisional ones and the service's own requests are passed over."""
        while True:
            data = self.sock.recv(65535)
            if data.startswith(b"SIP/2.0") and not data.startswith(b"SIP/2.0 1"):
                answer = parse(data)
                if method in answer.headers["cseq"]:
                    return answer

    def invite(self, body: str | None = None, **changes: Any) -> Answer:
        """INVITE or re-INVITE, and its ACK."""
        self.send("INVITE", body=self.sdp() if body is None else body, **changes)
        answer = self.final()
        if answer.status < 300:
            self.to_tag = answer.headers["to"].partition("tag=")[2]
        self.send("ACK", branch="" if answer.status < 300 else f"{self.from_tag}INVITE{self.cseq}")
        self.cseq += 1
        return answer

    def bye(self) -> Answer:
        self.send("BYE")
        self.cseq += 1
        return self.final("BYE")
