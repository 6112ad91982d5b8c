"""Coverage-guided fuzzing of one parser (atheris), as a program of its own: libFuzzer ends the process.

    python -m tests.wire.fuzz sdp CORPUS_FOLDER -max_total_time=60

Whatever a target lets through is a finding. What may be refused is refused with the floor's own error, caught here.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bridge", "rtpcodecs"]):
    from bridge.errors import MalformedPacket, SdpError
    from bridge.rtp.packet import parse_rtp
    from bridge.rtp.rtcp import parse_rtcp
    from bridge.sip import multipart, sdp
    from bridge.sip.auth import DigestServer
    from bridge.sip.events import Flow
    from bridge.sip.message import BadMessage, Request, parse
    from bridge.sip.recording import Metadata
    from tests.ingress.test_sip_fuzz_soak import BODY, Server
    from tests.ingress.test_siprec import BOTH, BOUNDARY, SDP_TYPE, offer, stream

SHARED = Path(__file__).parents[3] / "shared/assets"
FLOW = Flow("udp", ("192.0.2.9", 5060), ("192.0.2.8", 5060))
AUTHORIZATION = (
    'Digest username="u", realm="callbridge", nonce="abc", uri="sip:q@h", response="0", algorithm=SHA-256, qop=auth, '
    'nc=00000001, cnonce="x"'
)
INVITE = (
    b"INVITE sip:q@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKa;rport\r\nFrom: <sip:a@b>;tag=f\r\n"
    b"To: <sip:q@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContact: <sip:a@192.0.2.8>;+sip.src\r\n"
)


class Sip:
    """A server for a while: what one message leaves behind the next one meets."""

    def __init__(self) -> None:
        self._server, self._n = Server(), 0

    def __call__(self, data: bytes) -> None:
        self._n += 1
        if self._n % 2000 == 0:
            self._server = Server()
        for _ in self._server.receive(data, self._n * 0.1):
            pass


def multiparts(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    multipart.split(body, head.decode("utf-8", "replace"))


def descriptions(data: bytes) -> None:
    with contextlib.suppress(SdpError):
        for media in sdp.parse(data).media:
            media.audio_formats()


def metadata(data: bytes) -> None:
    first, _, second = data.partition(b"\0")
    known = Metadata()
    for part in (first, second):
        known.merge(part)
    for n in range(3):
        known.speaker(str(n), n)


def digest(data: bytes) -> None:
    server = DigestServer({"u": "p"}, realm="callbridge", secret=bytes(32))
    try:
        message = parse(INVITE + b"Authorization: " + data + b"\r\nContent-Length: 0\r\n\r\n", is_stream=False)
    except BadMessage:
        return
    if isinstance(message, Request):
        server.check(message, 1.0)


def rtp(data: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        packet = parse_rtp(data)
        assert packet.build() == data


def rtcp(data: bytes) -> None:
    with contextlib.suppress(MalformedPacket):
        parse_rtcp(data).build()


RTP = bytes((0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7)) + b"\xff" * 20
REPORT = bytes((0x80, 201, 0, 1, 0, 0, 0, 7, 0x81, 202, 0, 2, 0, 0, 0, 7, 1, 1, 120, 0, 0x81, 203, 0, 1, 0, 0, 0, 7))
STUN = bytes((0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42)) + bytes(12)
TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "sip": (
        Sip(),
        [
            INVITE + b"Content-Type: multipart/mixed;boundary=%s\r\n" % BOUNDARY.encode()
            + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
            INVITE + f"Content-Type: {SDP_TYPE}\r\n\r\n{offer(stream(1))}".encode(),
            INVITE.replace(b"INVITE", b"OPTIONS") + b"Content-Length: 0\r\n\r\n",
        ],
    ),
    "sdp": (descriptions, [offer(stream(1), stream(2, "inactive")).encode()]),
    "multipart": (multiparts, [f"multipart/mixed;boundary={BOUNDARY}\n".encode() + BODY]),
    "metadata": (metadata, [BOTH.encode(), BOTH.encode() + b"\0" + BOTH.replace("complete", "partial").encode()]),
    "digest": (digest, [AUTHORIZATION.encode()]),
    "rtp": (rtp, [RTP, STUN, REPORT]),
    "rtcp": (rtcp, [REPORT, STUN, RTP]),
}  # fmt: skip


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    target, seeds = TARGETS[name]
    if name == "sip" and SHARED.is_dir():
        seeds = [*seeds, *(path.read_bytes() for path in (SHARED / "torture-rfc4475-rfc5118").rglob("*.dat"))]
    for n, seed in enumerate(seeds):
        (folder / f"seed{n}").write_bytes(seed)
    atheris.Setup([sys.argv[0], str(folder), *sys.argv[3:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
