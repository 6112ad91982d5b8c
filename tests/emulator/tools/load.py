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

from websockets.asyncio.client import connect

from bridge.emulator.options import EmulatorOptions
from bridge.emulator.recordings import load
from bridge.emulator.server import serve
from tests.emulator.speech import encode, line

QUERY = "?model=nova-3&encoding=mulaw&sample_rate=8000&interim_results=true&punctuate=true"


def emulator(pipe: Connection) -> None:
    async def run() -> None:
        async with serve(EmulatorOptions(keep_frames=0, keep_audio_bytes=0)) as server:
            pipe.send(server.url)
            await asyncio.to_thread(pipe.recv)
            pipe.send((time.process_time(), [(c.seconds, len(c.words)) for c in server.connections]))

    asyncio.run(run())


def conversation() -> tuple[bytes, list[tuple[int, int]]]:
    """mu-law of all recordings with 1 s between them, and from which to which sample each word goes."""
    samples, spoken = line(*(part for recording in load().recordings for part in (recording, 1.0)))
    return encode(samples), [(word.start, word.end) for word in spoken]


def whole_words(spoken: list[tuple[int, int]], length: int, first: int, count: int) -> int:
    """Words that lie wholly in the `count` samples from `first` on of the endlessly repeated conversation."""
    rounds = range((first + count) // length + 1)
    return sum(first <= r * length + s and r * length + e <= first + count for r in rounds for s, e in spoken)


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
    audio, spoken = conversation()
    starts = [len(audio) * n // streams for n in range(streams)]
    turned = [audio[at:] + audio[:at] for at in starts]
    lates = await asyncio.gather(*(stream(url, one, seconds, 8 * frame_ms) for one in turned))
    ours.send("stop")
    cpu, results = ours.recv()
    process.join()
    expected = sum(whole_words(spoken, len(audio), at, round(seconds * 8000)) for at in starts)
    heard = sum(words for _, words in results)
    print(f"{streams} streams, {seconds:g} s, {frame_ms} ms frames: emulator {cpu / seconds:.1%} of a core", end="; ")
    print(f"{heard} words heard, {expected} spoken in full; latest send {max(lates):.3f} s")


if __name__ == "__main__":
    args = [float(arg) for arg in sys.argv[1:]]
    asyncio.run(main(*(int(a) if i != 1 else a for i, a in enumerate(args + [100.0, 20.0, 100.0][len(args) :]))))
