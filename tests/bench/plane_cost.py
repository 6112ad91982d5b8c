"""What a packet costs the media plane, without sockets and providers: microseconds of CPU time, codec by codec.

    python -m tests.bench.plane_cost [--codecs PCMU,G722,OPUS,OPUS+srtp] [--legs 300] [--seconds 4] [--profile]

All legs talk through one `Plane` in this process: 20 ms packets of the load bench's tapes, a pass of one packet a leg
and a tick every 20 ms. CPU time of this thread, so that other programs disturb it little; of several rounds the least.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import struct
import time
from dataclasses import dataclass, field

import numpy as np

from bridge.config import GateSettings, RtpSettings
from bridge.media.arrivals import Arrivals
from bridge.media.outputs import Audio
from bridge.media.plane import Plane
from bridge.model import AudioFormat
from bridge.rtp.frames import PayloadType
from bridge.rtp.srtp import SrtpReceiver, SrtpSender
from rtpcodecs import CODECS
from tests.bench import tapes

START = 1000.0  # s, monotonic
TICK = 0.02  # s
PAYLOAD_TYPE = 96


@dataclass
class Cost:
    """Seconds of CPU time."""

    push: float = 0.0
    tick: float = 0.0
    packets: int = 0
    sent_bytes: int = 0
    rounds: list[float] = field(default_factory=list)

    def per_packet_us(self) -> tuple[float, float]:
        """Of `push` and of `tick`."""
        return 1e6 * self.push / self.packets, 1e6 * self.tick / self.packets


def leg_format(codec_name: str) -> AudioFormat:
    """As a leg of that codec is opened."""
    codec = CODECS[codec_name]
    return AudioFormat(codec.wire_encoding or "linear16", codec.sample_rate_hz)


class Legs:
    """`n` legs of one codec that talk without end; each tape is encoded, and encrypted, once."""

    def __init__(self, codec_name: str, n: int, frames: int, *, is_srtp: bool, gate: str) -> None:
        codec = CODECS[codec_name]
        recorded = tapes.build(codec, n_pairs=2)
        self.plane = Plane(capacity=n, chunk_ms=100, rtp=RtpSettings())
        self.rows = []
        for _ in range(n):
            row = self.plane.open_leg(leg_format(codec_name), GateSettings(mode=gate), START).row
            srtp = SrtpReceiver(tapes.SRTP_KEYS) if is_srtp else None
            types = {PAYLOAD_TYPE: PayloadType(codec)}
            self.plane.incoming.receive_rtp(row, types, events={}, comfort=frozenset(), remote=None, srtp=srtp)
            self.rows.append(row)
        self.frames = [self.packets(tape, frames, codec.clock_rate_hz // 50, is_srtp) for tape in recorded]

    @staticmethod
    def packets(tape: tapes.Tape, frames: int, units: int, is_srtp: bool) -> list[bytes]:
        sender = SrtpSender(tapes.SRTP_KEYS)
        packets = []
        for n in range(frames):
            row = n % len(tape.sizes)
            header = struct.pack("!BBHII", 0x80, PAYLOAD_TYPE, n & 0xFFFF, n * units & 0xFFFFFFFF, tapes.SRTP_SSRC)
            packet = header + tape.payloads[row, : tape.sizes[row]].tobytes()
            packets.append(sender.protect(packet) if is_srtp else packet)
        return packets

    def arrivals(self, frame: int, now: float) -> Arrivals:
        """Everybody's packet of that frame."""
        packets = [(row, self.frames[n % len(self.frames)][frame], now) for n, row in enumerate(self.rows)]
        batch = Arrivals.of(packets, ("192.0.2.1", 4000))
        batch.sources[:, 2] += np.arange(len(self.rows), dtype=np.uint64)  # a port each
        return batch

    def run(self, first: int, last: int, cost: Cost) -> None:
        """Frames [first, last)."""
        for frame in range(first, last):
            now = START + TICK * (frame + 1)
            batch = self.arrivals(frame, now)
            began = time.thread_time()
            self.plane.incoming.push(batch)
            pushed = time.thread_time()
            out = self.plane.ready()
            out += self.plane.tick(now)
            ended = time.thread_time()
            cost.push += pushed - began
            cost.tick += ended - pushed
            cost.packets += len(batch.rows)
            cost.sent_bytes += sum(len(output.data) for output in out if isinstance(output, Audio))


def measure(name: str, options: argparse.Namespace) -> Cost:
    """The cheapest round; the first one warms up."""
    codec, _, srtp = name.partition("+")
    per_round = round(options.seconds / TICK)
    legs = Legs(codec, options.legs, per_round * (options.rounds + 1), is_srtp=bool(srtp), gate=options.gate)
    legs.run(0, per_round, Cost())
    costs = []
    for n in range(1, options.rounds + 1):
        costs.append(Cost())
        legs.run(n * per_round, (n + 1) * per_round, costs[-1])
    return min(costs, key=lambda cost: cost.push + cost.tick)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--codecs", default="PCMU,G722,OPUS,PCMU+srtp,OPUS+srtp")
    parser.add_argument("--legs", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=4.0, help="of audio in a round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--gate", default="speech", choices=("off", "hold", "speech"))
    parser.add_argument("--profile", action="store_true", help="by function, of one round (dearer by the profiler)")
    options = parser.parse_args()
    for name in options.codecs.split(","):
        if options.profile:
            profile = cProfile.Profile()
            profile.runcall(measure, name, options)
            pstats.Stats(profile).sort_stats("tottime").print_stats(35)
            continue
        cost = measure(name, options)
        push, tick = cost.per_packet_us()
        sent = cost.sent_bytes / cost.packets
        print(
            f"{name:12} push {push:6.1f} us   tick {tick:6.1f} us   both {push + tick:6.1f} us   "
            f"{(push + tick) * 50 / 1e4:.3f} % of a core a leg   {sent:.0f} bytes sent a packet",
            flush=True,
        )


if __name__ == "__main__":
    main()
