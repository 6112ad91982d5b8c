"""pipecat as a peer of the bench; runs in an environment of its own, which has none of callbridge.

    python peer_pipecat.py LEGS SINK_PORT

Prints "ready PORT PORT ..." and works until its input ends. One UDP port a leg, PCMU as RTP; each packet is decoded and
queued into that leg's pipeline, which consists of DeepgramSTTService.
"""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.runner import PipelineRunner
from pipecat.pipeline.task import PipelineParams, PipelineTask
from pipecat.services.deepgram.stt import DeepgramSTTService

RTP_HEADER_BYTES = 12


def decode_table() -> np.ndarray:
    """G.711 mu-law to 16 bits (ITU-T G.711, table 2)."""
    code = ~np.arange(256) & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


TABLE = decode_table()


class Port(asyncio.DatagramProtocol):
    def __init__(self, audio: asyncio.Queue[bytes]) -> None:
        self.audio = audio

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.audio.put_nowait(TABLE[np.frombuffer(data, np.uint8, offset=RTP_HEADER_BYTES)].tobytes())


async def feed(task: PipelineTask, audio: asyncio.Queue[bytes]) -> None:
    while True:
        await task.queue_frame(InputAudioRawFrame(await audio.get(), 8000, 1))


async def main() -> None:
    legs, sink = int(sys.argv[1]), int(sys.argv[2])
    loop = asyncio.get_running_loop()
    ports, tasks = [], []
    for _ in range(legs):
        stt = DeepgramSTTService(api_key="bench", base_url=f"ws://127.0.0.1:{sink}", sample_rate=8000)
        params = PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000)
        task = PipelineTask(Pipeline([stt]), params=params, idle_timeout_secs=None)
        audio: asyncio.Queue[bytes] = asyncio.Queue()
        tasks.append(asyncio.ensure_future(PipelineRunner(handle_sigint=False).run(task)))  # noqa: TID251
        tasks.append(asyncio.ensure_future(feed(task, audio)))  # noqa: TID251 - not a part of callbridge
        transport, _ = await loop.create_datagram_endpoint(lambda a=audio: Port(a), ("127.0.0.1", 0))
        ports.append(transport.get_extra_info("sockname")[1])
    await asyncio.sleep(3.0)
    print("ready", *ports, flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    asyncio.run(main())
