"""Recordings as datagrams: what would have arrived, and when. WAV, FLAC and the like, or a capture (pcap) with RTP."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from bridge.errors import ConfigError, MalformedPacket
from bridge.rtp.packet import RtpPacket, is_rtcp, parse_rtp
from rtpcodecs import CODECS, find_static
from rtpcodecs.contract import Codec
from rtpcodecs.g711 import linear_to_ulaw

PACKET_SAMPLES = 160  # 20 ms at 8 kHz
TAIL = 2.0  # s of nothing after the last packet, so that the last turn ends by itself
PCAP_MAGIC = {0xA1B2C3D4: 1e-6, 0xA1B23C4D: 1e-9}
LINK_HEADER_BYTES = {1: 14, 101: 0, 113: 16, 0: 4}  # Ethernet, raw IP, Linux cooked, BSD loopback (pcap-linktype)
VLAN = 0x8100
UDP = 17
FEWEST_PACKETS = 10  # of one source before it counts as a stream and not as a stray datagram


@dataclass(frozen=True, slots=True)
class Stream:
    """One leg: (seconds since the recording began, datagram), in order of arrival."""

    name: str
    packets: list[tuple[float, bytes]]
    payload_type: int
    codec: Codec

    @property
    def seconds(self) -> float:
        return self.packets[-1][0] if self.packets else 0.0


@dataclass(frozen=True, slots=True)
class Recording:
    """What becomes one call."""

    name: str
    streams: tuple[Stream, ...]


def load(path: Path) -> Recording:
    """Raises ConfigError for what is neither audio nor a capture with RTP that we can decode."""
    try:
        head = path.read_bytes()[:4]
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from None
    if len(head) == 4 and _byte_order(head) is not None:
        streams = _captured(path)
    elif head == b"\n\r\r\n":
        raise ConfigError([f"{path}: pcapng; convert it with `editcap -F pcap`"])
    else:
        streams = _packetised(path)
    if not streams:
        raise ConfigError([f"{path}: holds no audio that we can decode"])
    return Recording(path.name, tuple(streams))


def channels(path: Path) -> list[NDArray[np.int16]]:
    """The file's channels at 8 kHz. Raises ConfigError."""
    try:
        with av.open(str(path)) as container:
            layout = "stereo" if container.streams.audio[0].channels >= 2 else "mono"
            resampler = av.AudioResampler(format="s16p", layout=layout, rate=8000)
            blocks = [part.to_ndarray() for frame in container.decode(audio=0) for part in resampler.resample(frame)]
            blocks += [part.to_ndarray() for part in resampler.resample(None)]
    except (av.FFmpegError, IndexError, OSError):
        raise ConfigError([f"{path}: not an audio file"]) from None
    whole = np.concatenate(blocks, axis=1) if blocks else np.zeros((1, 0), np.int16)
    return [channel.astype(np.int16) for channel in whole]


def _packetised(path: Path) -> list[Stream]:
    streams = []
    for n, samples in enumerate(channels(path)):
        data = linear_to_ulaw(samples)
        packets = [
            (
                (at + PACKET_SAMPLES) / 8000,
                RtpPacket(0, k & 0xFFFF, at & 0xFFFFFFFF, n + 1, data[at : at + PACKET_SAMPLES].tobytes()).build(),
            )
            for k, at in enumerate(range(0, len(data) - PACKET_SAMPLES + 1, PACKET_SAMPLES))
        ]
        streams.append(Stream(f"channel {n + 1}", packets, 0, CODECS["PCMU"]))
    return [stream for stream in streams if stream.packets]


def _byte_order(magic: bytes) -> tuple[str, float] | None:
    for order in "<>":
        scale = PCAP_MAGIC.get(struct.unpack(order + "I", magic)[0])
        if scale is not None:
            return order, scale
    return None


def _captured(path: Path) -> list[Stream]:
    """RTP of a capture, a stream per sender and SSRC. Only static payload types say what they are."""
    found: dict[tuple[str, int], list[tuple[float, bytes]]] = {}
    types: dict[tuple[str, int], int] = {}
    for at, source, data in _datagrams(path.read_bytes()):
        if is_rtcp(data):
            continue
        try:
            packet = parse_rtp(data)
        except MalformedPacket:
            continue
        key = (source, packet.ssrc)
        if find_static(packet.payload_type) is not None:
            types.setdefault(key, packet.payload_type)
        found.setdefault(key, []).append((at, data))
    streams = []
    first = min((packets[0][0] for packets in found.values()), default=0.0)
    for key, packets in found.items():
        codec = find_static(types[key]) if key in types else None
        if codec is not None and len(packets) >= FEWEST_PACKETS:
            moved = [(at - first, data) for at, data in packets]
            streams.append(Stream(f"{key[0]} {key[1]:08x}", moved, types[key], codec))
    return streams


def _datagrams(data: bytes) -> Iterator[tuple[float, str, bytes]]:
    """(capture time, sender, UDP payload). Broken records end the file."""
    order = _byte_order(data[:4])
    assert order is not None
    endian, scale = order
    link = struct.unpack_from(endian + "I", data, 20)[0] if len(data) >= 24 else -1
    skip = LINK_HEADER_BYTES.get(link)
    at = 24
    while skip is not None and at + 16 <= len(data):
        seconds, fraction, length, _ = struct.unpack_from(endian + "IIII", data, at)
        frame = data[at + 16 : at + 16 + length]
        at += 16 + length
        if link == 1 and frame[12:14] == VLAN.to_bytes(2, "big"):
            frame = frame[4:]
        found = _udp(frame[skip:])
        if found is not None:
            yield seconds + fraction * scale, *found


def _udp(packet: bytes) -> tuple[str, bytes] | None:
    if len(packet) < 28:
        return None
    if packet[0] >> 4 == 4:
        size, protocol = (packet[0] & 15) * 4, packet[9]
        host = ".".join(str(part) for part in packet[12:16])
    elif packet[0] >> 4 == 6 and len(packet) >= 48:
        size, protocol, host = 40, packet[6], packet[8:24].hex()
    else:
        return None
    if protocol != UDP:
        return None
    port = int.from_bytes(packet[size : size + 2], "big")
    return f"{host}:{port}", packet[size + 8 :]
