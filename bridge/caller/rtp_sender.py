"""Sends one leg's RTP at its exact times and keeps the truth about what left when."""

from __future__ import annotations

import asyncio
import errno
import socket
from array import array
from collections import Counter
from collections.abc import Callable

from bridge.caller.rtp_schedule import Packet, RtpStream
from bridge.clock import monotonic
from bridge.errors import ConfigError

PAIR_TRIES = 100  # ephemeral ports tried until an even one has a free neighbour


class SentLog:
    """When which packet left: columns, so that an hour of it stays small."""

    def __init__(self) -> None:
        self.at = array("d")
        "Monotonic seconds, read right before the packet was handed to the kernel."
        self.start = array("d")
        "Stream time of the packet's first sample."
        self.sequence = array("H")
        self.kinds: Counter[str] = Counter()
        "Packets by kind: audio, silence, music, comfort_noise."
        self.late = 0.0
        "The greatest lateness of a packet, seconds behind its due time."

    def __len__(self) -> int:
        return len(self.at)

    def add(self, packet: Packet, *, late: float, now: float) -> None:
        self.at.append(now)
        self.start.append(packet.start)
        self.sequence.append(packet.sequence)
        self.kinds[packet.kind] += 1
        self.late = max(self.late, late)


class RtpPort:
    """A bound pair of sockets, RTP on an even port and RTCP one above (RFC 3550 section 11); symmetric (RFC 4961)."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError where `address` cannot be bound."""
        self.rtp, self.rtcp = _bind_pair(address)
        self.port: int = self.rtp.getsockname()[1]
        self.received = 0
        "Datagrams that came back on the RTP port."

    def drain(self) -> None:
        """Empties both sockets: what the other side sends is counted and dropped."""
        for sock in (self.rtp, self.rtcp):
            try:
                while sock.recv(2048):
                    self.received += sock is self.rtp
            except OSError:  # nothing there, or an ICMP answer to what we sent
                continue

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


def _bind_pair(address: str) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for _ in range(PAIR_TRIES):
        pair = tuple(socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        try:
            pair[0].bind((address, 0))
            port = pair[0].getsockname()[1]
            if port % 2 == 0 and port < 65535:
                pair[1].bind((address, port + 1))
                for sock in pair:
                    sock.setblocking(False)
                return pair[0], pair[1]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                pair[0].close()
                pair[1].close()
                raise ConfigError([f"{address}: cannot be bound for RTP: {error.strerror}"]) from None
        pair[0].close()
        pair[1].close()
    raise ConfigError([f"{address}: no free pair of ports for RTP"])


class RtpSender:
    """Paces one stream over one port. Each packet has an absolute deadline: being late once delays nothing after it."""

    def __init__(self, stream: RtpStream, port: RtpPort, *, protect: Callable[[bytes], bytes] | None = None) -> None:
        """`protect` turns a packet into SRTP."""
        self.stream, self.port = stream, port
        self.log = SentLog()
        self.remote: tuple[str, int] | None = None
        "Where to send; None swallows the packets (their log stays empty)."
        self._protect = protect

    async def run(self, start: float) -> None:
        """Sends the whole stream; stream time 0 is monotonic `start`. Returns after the last packet."""
        while (due := self.stream.deadline()) is not None:
            await asyncio.sleep(max(start + due - monotonic(), 0.0))
            for packet in self.stream.take_due(monotonic() - start):
                self._send(packet, start)
            self.port.drain()

    def _send(self, packet: Packet, start: float) -> None:
        if self.remote is None:
            return
        data = packet.data if self._protect is None else self._protect(packet.data)
        now = monotonic()
        try:
            self.port.rtp.sendto(data, self.remote)
        except OSError:  # a full buffer or an ICMP answer: UDP promises nothing, and the log says what left
            return
        self.log.add(packet, late=now - start - packet.due, now=now)
