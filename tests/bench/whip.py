"""WebRTC legs as load: N aiortc clients that speak over WHIP to a service that runs, in a process of their own.

    python -m tests.bench.whip http://127.0.0.1:8080 --legs 50 --seconds 30

Start it beside `tests.bench.load`, whose service prints its address; look at the service's own tick lateness.
"""

from __future__ import annotations

import argparse
import asyncio
import fractions
import time

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription

from bridge.emulator import recordings

FRAME = 960  # samples of 20 ms at 48 kHz
RATE_HZ = 48000


class Speech(MediaStreamTrack):  # type: ignore[misc]
    """The bundled recordings in a loop, each client at another place of it."""

    kind = "audio"

    def __init__(self, samples: np.ndarray, offset: int) -> None:
        super().__init__()
        self._samples, self._at, self._sent, self._start = samples, offset, 0, 0.0

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms, when they are due."""
        self._start = self._start or time.monotonic()
        await asyncio.sleep(max(self._start + self._sent * 0.02 - time.monotonic(), 0))
        piece = np.take(self._samples, range(self._at, self._at + FRAME), mode="wrap")
        frame = av.AudioFrame.from_ndarray(piece[None, :], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._sent * FRAME, fractions.Fraction(1, RATE_HZ)
        self._at = (self._at + FRAME) % len(self._samples)
        self._sent += 1
        return frame


async def leg(http: aiohttp.ClientSession, url: str, samples: np.ndarray, n: int, seconds: float) -> str:
    """One client: offer, speech, DELETE. Answers the connection's state in the middle of it."""
    await asyncio.sleep(n * 0.1)
    peer = RTCPeerConnection()
    peer.addTrack(Speech(samples, n * 7919 * FRAME % len(samples)))
    await peer.setLocalDescription(await peer.createOffer())
    headers = {"Content-Type": "application/sdp"}
    async with http.post(f"{url}/whip", data=peer.localDescription.sdp, headers=headers) as answer:
        if answer.status != 201:
            return f"HTTP {answer.status}"
        location, sdp = answer.headers["Location"], await answer.text()
    await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
    await asyncio.sleep(seconds)
    state = peer.connectionState
    async with http.delete(location if location.startswith("http") else url + location):
        pass
    await peer.close()
    return str(state)


async def main(url: str, legs: int, seconds: float) -> None:
    """All of them; prints how many were connected."""
    library = recordings.load()
    narrow = np.concatenate([recording.samples for recording in library.recordings])
    samples = np.repeat(narrow, RATE_HZ // 8000)
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(leg(http, url, samples, n, seconds)) for n in range(legs)]
    states = [task.result() for task in running]
    print({state: states.count(state) for state in set(states)}, f"client CPU {time.process_time():.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--legs", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    asyncio.run(main(given.url, given.legs, given.seconds))
