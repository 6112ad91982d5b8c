"""A Deepgram stand-in for load: takes thousands of WebSockets, counts what comes, answers the least a client needs.

    python -m tests.bench.sink_provider --port 9000 [--interim 1.0] [--final-after 0.25] [--certificate FILE]

It does not recognise anything. Per `--interim` seconds of audio a connection gets one interim result and each Finalize
gets a final one a quarter of a second later, about when Deepgram answers, so that the service has results to handle;
the words in them are invented, but for a final's last: that is its `stamp`, the time at which it left here. Frames are
parsed by hand and binary ones are unmasked in one big-number XOR, only to find the generator's time marks in them: that
keeps it far below the load that it is to bear. With a certificate (and its key, one PEM file) `port` speaks TLS.
`GET /stats` on the port `stats`, which is plain, tells the sums; `/stats/reset` forgets what was timed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import os
import resource
import signal
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.bench.flood import MARK
from tests.bench.turn_ends import make_stamp

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
MARKED_BYTES_PER_SECOND = 8000  # only G.711 comes through untouched
PACKET_BYTES = 160  # of it
PACKET = 0.02  # s
MARK_BYTES = len(MARK) + 8
PAUSE = 0.25  # s without a frame
STEADY_FRAMES = 6
CATCHING_UP = 0.9  # of real time: frames that come faster than this carry a backlog
LONGEST_SEGMENT = 7.0  # s; Deepgram too makes a long one final unasked
SHORTEST_FINAL = 0.3  # s of audio; less has no words in it
LOOK_EVERY = 0.02  # s between two looks at how late this process's own loop is
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Totals:
    """Of the whole process."""

    def __init__(self) -> None:
        self.connections = self.open = self.audio_bytes = self.audio_frames = 0
        self.keepalives = self.finalizes = self.close_streams = self.interims = 0
        self.empty_frames = 0

        self.latencies: deque[float] = deque(maxlen=200_000)
        "Seconds from the sending of the packet that completes a chunk to that chunk's arrival here; see `via`."

        self.catch_up: deque[float] = deque(maxlen=200_000)
        "The same for what comes after a pause, until the stream is back at real time."

        self.late: deque[float] = deque(maxlen=10_000)
        "How late this process's own loop was, seconds: what the others' latencies may contain of ours."

    def forget(self) -> None:
        """What was timed so far."""
        for timed in (self.latencies, self.catch_up, self.late):
            timed.clear()

    def as_dict(self) -> dict[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        figures = {name: value for name, value in self.__dict__.items() if isinstance(value, int)}
        return {
            **figures, "latency_s": percentiles(self.latencies), "catch_up_s": percentiles(self.catch_up),
            "late_s": percentiles(self.late), "cpu_s": usage.ru_utime + usage.ru_stime,
        }  # fmt: skip


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Empty for no values."""
    ordered = sorted(values)
    shares = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
    found = {name: round(ordered[min(int(len(ordered) * s), len(ordered) - 1)], 6) for name, s in shares if ordered}
    return {**found, "n": len(ordered)}


def via(arrived: float, sent: float, at: int, n: int) -> float:
    """What the service took for a chunk of `n` bytes of G.711 in which the packet sent at `sent` begins at byte `at`:
    from the sending of the packet that holds the chunk's last sample. The wait for the packets in between is the
    chunk's, not the service's."""
    behind = max(-(-(n - at) // PACKET_BYTES) - 1, 0)
    return arrived - sent - behind * PACKET


class Connection(asyncio.Protocol):
    """One WebSocket, or one GET /stats."""

    def __init__(self, totals: Totals, options: argparse.Namespace) -> None:
        self.totals, self.interim_s, self.final_after = totals, options.interim, options.final_after
        self.buffer = bytearray()
        self.is_upgraded = False
        self.audio_bytes = 0
        self.bytes_per_second = 8000
        self.told = 0.0
        self.arrivals: deque[float] = deque(maxlen=STEADY_FRAMES + 1)
        self.final_until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        if self.is_upgraded:
            self.totals.open -= 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_upgraded:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.buffer[:end])
            del self.buffer[: end + 4]
            if not self.upgrade(head):
                return
        self.take_frames()

    def upgrade(self, head: bytes) -> bool:
        request, *lines = head.split(b"\r\n")
        target = urlsplit(request.split(b" ")[1].decode("latin-1"))
        if target.path.startswith("/stats"):
            if target.path.endswith("/reset"):
                self.totals.forget()
            body = json.dumps(self.totals.as_dict()).encode()
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
            )
            self.transport.close()
            return False
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(b":") for line in lines)}
        accept = base64.b64encode(hashlib.sha1(headers[b"sec-websocket-key"] + GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\ndg-request-id: 0\r\n\r\n"
        )
        query = parse_qs(target.query)
        width = 2 if query.get("encoding", ["mulaw"])[0] == "linear16" else 1
        self.bytes_per_second = width * int(query.get("sample_rate", ["8000"])[0])
        self.is_upgraded = True
        self.totals.connections += 1
        self.totals.open += 1
        return True

    def take_frames(self) -> None:
        """Client frames are always masked: 2 bytes, extended length, 4 bytes of key, payload (RFC 6455 section 5.2)."""
        buffer, at = self.buffer, 0
        while len(buffer) - at >= 6:
            size = buffer[at + 1] & 0x7F
            begin = at + 6
            if size == 126:
                if len(buffer) - at < 8:
                    break
                size = buffer[at + 2] << 8 | buffer[at + 3]
                begin = at + 8
            elif size == 127:
                if len(buffer) - at < 14:
                    break
                (size,) = struct.unpack_from("!Q", buffer, at + 2)
                begin = at + 14
            if len(buffer) < begin + size:
                break
            opcode = buffer[at] & 0x0F
            if opcode == BINARY:
                self.audio(size)
                self.find_marks(buffer[begin - 4 : begin], buffer[begin : begin + size])
            else:
                key = buffer[begin - 4 : begin]
                self.control(opcode, bytes(b ^ key[n & 3] for n, b in enumerate(buffer[begin : begin + size])))
            at = begin + size
        if at:
            del buffer[:at]

    def audio(self, size: int) -> None:
        self.audio_bytes += size
        self.totals.audio_bytes += size
        self.totals.audio_frames += 1
        self.totals.empty_frames += size == 0
        heard = self.audio_bytes / self.bytes_per_second
        if self.interim_s and heard - self.told >= self.interim_s:
            self.told = heard
            is_long = heard - self.final_until >= LONGEST_SEGMENT
            self.totals.interims += not is_long
            self.send_results(heard, is_final=is_long, from_finalize=False)

    def find_marks(self, key: bytearray, masked: bytearray) -> None:
        """What is sent after a pause is old by intention (pre-roll) and comes faster than real time until it has caught
        up: those marks are kept apart."""
        if self.bytes_per_second != MARKED_BYTES_PER_SECOND:
            return
        now = time.monotonic()
        self.arrivals.append(now)
        paced = [b - a for a, b in pairwise(self.arrivals)]
        real_time = STEADY_FRAMES * len(masked) / MARKED_BYTES_PER_SECOND
        is_steady = len(paced) == STEADY_FRAMES and max(paced) < PAUSE and sum(paced) > CATCHING_UP * real_time
        n = len(masked)
        pad = int.from_bytes((bytes(key) * (n // 4 + 1))[:n], "little")
        payload = (int.from_bytes(masked, "little") ^ pad).to_bytes(n, "little")
        at = payload.find(MARK)
        while 0 <= at <= n - MARK_BYTES:
            sent = int.from_bytes(payload[at + len(MARK) : at + MARK_BYTES], "big") / 1e6
            (self.totals.latencies if is_steady else self.totals.catch_up).append(via(now, sent, at, n))
            at = payload.find(MARK, at + PACKET_BYTES)

    def control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.send(PONG, payload)
        elif opcode == CLOSE:
            self.send(CLOSE, payload[:2])
            self.transport.close()
        elif opcode == TEXT:
            self.command(json.loads(payload)["type"])

    def command(self, kind: str) -> None:
        heard = self.audio_bytes / self.bytes_per_second
        if kind == "KeepAlive":
            self.totals.keepalives += 1
        elif kind == "Finalize":
            self.totals.finalizes += 1
            asyncio.get_running_loop().call_later(self.final_after, self.answer_finalize, heard)
        elif kind == "CloseStream":
            self.totals.close_streams += 1
            self.send_results(heard, is_final=True, from_finalize=False)
            self.send_json({
                "type": "Metadata", "transaction_key": "deprecated", "request_id": "0", "sha256": "", "created": "",
                "duration": round(heard, 3), "channels": 1,
            })  # fmt: skip
            self.send(CLOSE, struct.pack("!H", 1000))

    def answer_finalize(self, heard: float) -> None:
        if not self.transport.is_closing():
            self.send_results(heard, is_final=True, from_finalize=True)

    def send_results(self, heard: float, *, is_final: bool, from_finalize: bool) -> None:
        start = min(self.final_until, heard)
        said = ["word"] * (int(heard - start) * 3)
        if is_final and heard - start >= SHORTEST_FINAL:
            said.append(make_stamp(time.monotonic()))
        step = (heard - start) / max(len(said), 1)
        words = [
            {"word": word, "start": start + i * step, "end": start + (i + 0.8) * step, "confidence": 0.99}
            for i, word in enumerate(said)
        ]
        self.send_json({
            "type": "Results", "channel_index": [0, 1], "duration": heard - start, "start": start, "is_final": is_final,
            "speech_final": False, "from_finalize": from_finalize,
            "channel": {"alternatives": [{"transcript": " ".join(said), "confidence": 0.99, "words": words}]},
            "metadata": {
                "request_id": "0", "model_uuid": "0", "model_info": {"name": "sink", "version": "0", "arch": "none"},
            },
        })  # fmt: skip
        if is_final:
            self.final_until = self.told = heard

    def send_json(self, message: dict[str, object]) -> None:
        self.send(TEXT, json.dumps(message).encode())

    def send(self, opcode: int, payload: bytes) -> None:
        n = len(payload)
        size = (
            bytes([n]) if n < 126 else b"\x7e" + struct.pack("!H", n) if n < 65536 else b"\x7f" + struct.pack("!Q", n)
        )
        self.transport.write(bytes([0x80 | opcode]) + size + payload)


async def look_at_self(totals: Totals) -> None:
    """Forever."""
    due = time.monotonic()
    while True:
        due += LOOK_EVERY
        await asyncio.sleep(max(due - time.monotonic(), 0.0))
        totals.late.append(max(time.monotonic() - due, 0.0))
        due = max(due, time.monotonic() - LOOK_EVERY)


async def serve(options: argparse.Namespace, ready: Callable[[int, int], None]) -> None:
    """Until SIGTERM. `ready` is told the port (0 picks one) and the port of /stats."""
    totals = Totals()
    loop = asyncio.get_running_loop()
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
    make = lambda: Connection(totals, options)  # noqa: E731
    server = await loop.create_server(make, "127.0.0.1", options.port, backlog=4096, ssl=context)
    plain = await loop.create_server(make, "127.0.0.1", 0)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ready(server.sockets[0].getsockname()[1], plain.sockets[0].getsockname()[1])
    async with asyncio.TaskGroup() as tasks:
        looking = tasks.create_task(look_at_self(totals))
        await stop.wait()
        looking.cancel()
    server.close()
    plain.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--interim", type=float, default=1.0, help="seconds of audio per interim result; 0: none")
    parser.add_argument("--final-after", type=float, default=0.25, help="seconds from Finalize to the final result")
    parser.add_argument("--certificate", type=Path, help="PEM file with a certificate and its key: speak TLS")
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 16384), hard), hard))
    try:
        import uvloop

        run = uvloop.run
    except ImportError:
        run = asyncio.run

    def ready(port: int, stats: int) -> None:
        print(json.dumps({"port": port, "stats": stats, "pid": os.getpid()}), flush=True)

    run(serve(options, ready))


if __name__ == "__main__":
    main()
