"""One baresip, told what to do over its control socket (netstrings of JSON)."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BARESIP = shutil.which("baresip")
MODULES = next((path for path in Path("/usr/lib").glob("**/baresip/modules") if path.is_dir()), None)
CONFIG = """
poll_method epoll
sip_listen 127.0.0.1:0
audio_source aufile,{wav}
audio_player aufile,{wav}.out
module_path {modules}
module g711.so
module g722.so
module opus.so
module aufile.so
module srtp.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{port}
rtp_ports 30000-39000
"""


class Baresip:
    """A running one."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def command(self, name: str, parameters: str = "") -> None:
        """dial, hold, resume, mute, hangup."""
        text = json.dumps({"command": name, "params": parameters, "token": "t"})
        self._writer.write(f"{len(text)}:{text},".encode())


@asynccontextmanager
async def running(
    folder: Path, codec: str, *, account: str = "", user: str = "alice", samples: NDArray[np.int16] | None = None
) -> AsyncIterator[Baresip]:
    """`codec` as baresip names it, such as `PCMU/8000/1`; `account`: further parameters of the one account; `samples`:
    what it says, mono at the codec's own rate, else a tone."""
    assert BARESIP is not None
    wav, port = folder / "says.wav", _free_port()
    _, rate_hz, channels = codec.split("/")
    write_wav(wav, tone(int(rate_hz)) if samples is None else samples, int(rate_hz), int(channels))
    (folder / "config").write_text(CONFIG.format(wav=wav, modules=MODULES, port=port))
    (folder / "accounts").write_text(f"<sip:{user}@127.0.0.1;transport=udp>;regint=0;audio_codecs={codec}{account}\n")
    process = await asyncio.create_subprocess_exec(
        BARESIP, "-f", str(folder), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        writer = await _control(port)
        yield Baresip(writer)
        writer.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _control(port: int) -> asyncio.StreamWriter:
    async with asyncio.timeout(10):
        while True:
            try:
                return (await asyncio.open_connection("127.0.0.1", port))[1]
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tone(rate_hz: int) -> NDArray[np.int16]:
    """Ten seconds."""
    return np.tile(np.array([4096, -4096], np.int16), 5 * rate_hz)


def write_wav(path: Path, samples: NDArray[np.int16], rate_hz: int, channels: int) -> None:
    """baresip's aufile does not resample: the file must be at the codec's own rate, with its channels."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.repeat(channels).astype("<i2").tobytes())
