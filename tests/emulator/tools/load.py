"""How many streams one stand-in process carries: `python -m tests.emulator.tools.load [STREAMS [SECONDS [FRAME_MS]]]`.

Every stream speaks the bundled conversation, each from another place in it, at real time over a real socket. Prints the
emulator process's CPU and whether every word was found.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection

import numpy as np
from websockets.asyncio.client import connect

from bridge.emulator.options import EmulatorOptions
from bridge.emulator.recordings import load
from bridge.emulator.server import serve
from rtpcodecs.g711 import linear_to_ulaw

QUERY = "?model=nova-3&encoding=mulaw&sample_rate=8000&interim_results=true&punctuate=true"


def emulator(pipe: Connection) -> None:
    async def run() -> None:
        async with serve(EmulatorOptions(keep_frames=0, keep_audio_bytes=0)) as server:
            pipe.send(server.url)
            await asyncio.to_thread(pipe.recv)
            pipe.send((time.process_time(), [(c.seconds, len(c.words)) for c in server.connections]))

    asyncio.run(run())


def conversation() -> tuple[bytes, int]:
    """mu-law of all recordings with 1 s between them, and how many words are in it."""
    samples = np.concatenate([np.concatenate((r.samples, np.zeros(8000, np.int16))) for r in load().recordings])
    return linear_to_ulaw(samples).tobytes(), sum(len(r.words) for r in load().recordings)


async def stream(url: str, audio: bytes, seconds: float, frame: int) -> float:
    """Worst lateness of a send, seconds."""
    late = 0.0
    async with connect(url + QUERY, additional_headers={"Authorization": "Token k"}, compression=None) as socket:

        async def read() -> None:
            async for message in socket:
                if json.loads(message)["type"] == "Metadata":
                    return

        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            start = time.monotonic()
            for number in range(int(seconds * 8000 / frame)):
                due = start + number * frame / 8000
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                late = max(late, time.monotonic() - due)
                at = number * frame % len(audio)
                await socket.send(audio[at : at + frame])
            await socket.send('{"type":"CloseStream"}')
    return late


async def main(streams: int, seconds: float, frame_ms: int) -> None:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=emulator, args=(theirs,))
    process.start()
    url = ours.recv()
    audio, words = conversation()
    turned = [audio[(at := len(audio) * n // streams) :] + audio[:at] for n in range(streams)]
    lates = await asyncio.gather(*(stream(url, one, seconds, 8 * frame_ms) for one in turned))
    ours.send("stop")
    cpu, results = ours.recv()
    process.join()
    expected = words * seconds / (len(audio) / 8000)
    print(f"{streams} streams, {seconds:g} s, {frame_ms} ms frames: emulator {cpu / seconds:.1%} of a core", end="; ")
    print(f"words per stream {np.mean([n for _, n in results]):.1f} of about {expected:.1f},", end=" ")
    print(f"fewest {min(n for _, n in results)}; latest send {max(lates):.3f} s")


if __name__ == "__main__":
    args = [float(arg) for arg in sys.argv[1:]]
    asyncio.run(main(*(int(a) if i != 1 else a for i, a in enumerate(args + [100.0, 20.0, 100.0][len(args) :]))))
