"""WebRTC legs as load, in a process of their own: N aiortc clients whose packets were encoded beforehand.

    python -m tests.bench.whip_legs http://127.0.0.1:8080 --legs 50

ICE, DTLS and SRTP are aiortc's; what they send is the tapes of `tests.bench.tapes` as Opus, protected and sent packet
by packet, so that fifty clients need a tenth of a core. Speaks JSON lines: tells `up` when all legs had their answer;
answers `quiet` (end of the RTP) and `stop` (DELETE of every session) on its standard input.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any

import aiohttp
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc import sdp as wire

from rtpcodecs import CODECS
from tests.bench import tapes

PACKET = 0.02  # s
UNITS = 960  # of 1/48000 s
PHASES = 4  # groups of legs whose packets leave 5 ms apart
CONNECT_WITHIN = 20.0  # s


class Nothing(MediaStreamTrack):  # type: ignore[misc]
    """A microphone for the offer; what is said goes around it."""

    kind = "audio"

    async def recv(self) -> Any:
        """Never."""
        await asyncio.Event().wait()


class Client:
    """One leg."""

    def __init__(self, tape: tapes.Tape, at: int) -> None:
        self._tape, self._at = tape, at
        self._sequence, self._timestamp = at & 0xFFFF, at * UNITS & 0xFFFFFFFF
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.sender = self.peer.addTrack(Nothing())
        self.location = ""
        self.sent = 0

    async def dial(self, http: aiohttp.ClientSession, url: str) -> str:
        """Answers `connected`, or what went wrong."""
        await self.peer.setLocalDescription(await self.peer.createOffer())
        headers = {"Content-Type": "application/sdp"}
        async with http.post(f"{url}/whip", data=self.peer.localDescription.sdp, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 201:
                return f"HTTP {answer.status} {json.loads(text).get('detail', '')}"
            self.location = answer.headers["Location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(text, "answer"))
        media = wire.SessionDescription.parse(text).media[0]
        self._type = next(codec.payloadType for codec in media.rtp.codecs if codec.mimeType.lower() == "audio/opus")
        end = time.monotonic() + CONNECT_WITHIN
        while self.peer.connectionState != "connected" and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        return str(self.peer.connectionState)

    async def speak(self) -> None:
        """One packet."""
        row = self._at % len(self._tape.sizes)
        payload = self._tape.payloads[row, : self._tape.sizes[row]].tobytes()
        header = struct.pack("!BBHII", 0x80, self._type, self._sequence, self._timestamp, self.sender._ssrc)
        self._at += 1
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._timestamp = (self._timestamp + UNITS) & 0xFFFFFFFF
        try:
            await self.sender.transport._send_rtp(header + payload)
            self.sent += 1
        except ConnectionError:
            pass


class Crowd:
    """All legs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.talking: list[Client] = []
        self.states: Counter[str] = Counter()
        self.late: list[float] = []

    async def run(self) -> None:
        """Until `stop`, or the end of the input."""
        options = self.options
        made = tapes.build(CODECS["OPUS"], n_pairs=2)
        commands: asyncio.Queue[str] = asyncio.Queue()
        threading.Thread(target=read_commands, args=(asyncio.get_running_loop(), commands), daemon=True).start()
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
            talk = tasks.create_task(self.talk())
            dialled = []
            start = time.monotonic()
            for n in range(options.legs):
                await asyncio.sleep(max(start + n / options.rate - time.monotonic(), 0.0))
                dialled.append(tasks.create_task(self.join(http, Client(made[n % len(made)], 365 * (n // 2)))))
            await asyncio.gather(*dialled)
            tell("up", legs=len(self.talking), states=dict(self.states), setup_s=time.monotonic() - start)
            while (command := await commands.get()) != "stop":
                clients = [task.result() for task in dialled]
                self.talking = [] if command == "quiet" else self.talking
                states = Counter(client.peer.connectionState for client in clients if client.location)
                tell(command, sent=sum(client.sent for client in clients), states=dict(states), late_s=self.lateness())
            talk.cancel()
            for client in [task.result() for task in dialled]:
                if client.location:
                    async with http.delete(options.url + client.location):
                        pass
                await client.peer.close()
        tell("stopped")

    async def join(self, http: aiohttp.ClientSession, client: Client) -> Client:
        """Dials, and talks from then on."""
        state = await client.dial(http, self.options.url)
        self.states[state] += 1
        if state == "connected":
            self.talking.append(client)
        return client

    async def talk(self) -> None:
        """Every leg's packet each 20 ms."""
        due, phase = time.monotonic(), 0
        while True:
            due, phase = due + PACKET / PHASES, (phase + 1) % PHASES
            await asyncio.sleep(max(due - time.monotonic(), 0.0))
            self.late.append(time.monotonic() - due)
            for client in self.talking[phase::PHASES]:
                await client.speak()

    def lateness(self) -> dict[str, float]:
        """Of the last five seconds' packets: above 20 ms it is ours and not the service's."""
        recent = sorted(self.late[-1000:]) or [0.0]
        return {"p50": recent[len(recent) // 2], "p99": recent[len(recent) * 99 // 100], "max": recent[-1]}


def read_commands(loop: asyncio.AbstractEventLoop, commands: asyncio.Queue[str]) -> None:
    for line in sys.stdin:
        loop.call_soon_threadsafe(commands.put_nowait, line.strip())
    loop.call_soon_threadsafe(commands.put_nowait, "stop")


def tell(what: str, **figures: object) -> None:
    print(json.dumps({"told": what, **figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("--legs", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10.0, help="sessions opened per second")
    asyncio.run(Crowd(parser.parse_args()).run())


if __name__ == "__main__":
    main()
