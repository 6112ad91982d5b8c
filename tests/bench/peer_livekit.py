"""LiveKit's Deepgram client as a peer of the bench; runs in an environment of its own, which has none of callbridge.

    python peer_livekit.py LEGS SINK_PORT

Prints "ready PORT PORT ..." and works until its input ends. One UDP port a leg, PCMU as RTP; each packet is decoded and
pushed into that leg's stream.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import numpy as np
from livekit import rtc
from livekit.plugins import deepgram

RTP_HEADER_BYTES = 12


def decode_table() -> np.ndarray:
    """G.711 mu-law to 16 bits (ITU-T G.711, table 2)."""
    code = ~np.arange(256) & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -size, size).astype(np.int16)


TABLE = decode_table()


class Port(asyncio.DatagramProtocol):
    def __init__(self, stream: deepgram.SpeechStream) -> None:
        self.stream = stream

    def datagram_received(self, data: bytes, addr: object) -> None:
        samples = TABLE[np.frombuffer(data, np.uint8, offset=RTP_HEADER_BYTES)]
        self.stream.push_frame(rtc.AudioFrame(samples.tobytes(), 8000, 1, len(samples)))


async def listen(stream: deepgram.SpeechStream) -> None:
    async for _ in stream:
        pass


async def main() -> None:
    legs, sink = int(sys.argv[1]), int(sys.argv[2])
    loop = asyncio.get_running_loop()
    ports, tasks = [], []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        stt = deepgram.STT(
            api_key="bench", base_url=f"http://127.0.0.1:{sink}/v1/listen", sample_rate=8000, http_session=session
        )
        for _ in range(legs):
            stream = stt.stream()
            tasks.append(asyncio.ensure_future(listen(stream)))  # noqa: TID251 - not a part of callbridge
            transport, _ = await loop.create_datagram_endpoint(lambda s=stream: Port(s), ("127.0.0.1", 0))
            ports.append(transport.get_extra_info("sockname")[1])
        print("ready", *ports, flush=True)
        await loop.run_in_executor(None, sys.stdin.read)
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    asyncio.run(main())
