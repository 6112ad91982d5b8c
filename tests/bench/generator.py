"""The load as a process of its own: sets calls up by SIP, floods them with RTP, hangs them up.

    python -m tests.bench.generator --target sip:127.0.0.1:5060 --legs 1000 --siprec
    python -m tests.bench.generator --ports 20000,20002,...          (RTP only, for floor.c)

Speaks JSON lines: tells `up` when all calls are; answers `stats` on its standard input with figures; `quiet` ends the
RTP; `stop` (or the end of the input) hangs up and leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import sys
import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np

from bridge.caller import offer
from bridge.caller.options import find_codec
from bridge.caller.sip_client import Events, SipClient, Target
from bridge.clock import monotonic
from bridge.rtp.sdes import format_crypto
from bridge.sip.events import Answered, Body, Ended, Refused
from rtpcodecs.contract import Codec
from tests.bench import tapes
from tests.bench.flood import Flood

ANSWER_TIMEOUT = 30.0  # s
END_TIMEOUT = 20.0  # s for all BYEs
TAPE_STEP = 7.3  # s between the places in the tape at which two neighbouring calls begin


@dataclass(slots=True)
class Call:
    """One call that is up."""

    dialog: str
    events: Events
    legs: list[tuple[int, int]]
    version: int = 1


class Generator:
    """All calls of one run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.codec: Codec = find_codec(options.codec)
        number, units = offer.payload_type(self.codec), self.codec.clock_rate_hz // 50
        made = tapes.build(self.codec, ptime_ms=20, n_pairs=options.pairs)
        if options.srtp:
            frames = round((tapes.TAPE_SECONDS + options.lasting) * 50)
            made = [tapes.protect(tape, frames=frames, payload_type=number, frame_units=units) for tape in made]
        self.flood = Flood(
            made, capacity=options.legs, payload_type=number, frame_units=units,
            is_marked=self.codec.table is not None and not options.srtp,
        )  # fmt: skip
        self.calls: list[Call] = []
        self.failures: Counter[str] = Counter()
        self.setup_s: list[float] = []

    async def run(self) -> None:
        if self.options.ports:
            for n, port in enumerate(self.options.ports.split(",")):
                self.flood.add(("127.0.0.1", int(port)), n, n // 2 * TAPE_STEP % tapes.TAPE_SECONDS)
            self.flood.start()
            self.tell("up", legs=self.flood.legs)
            await self.obey(None)
            return
        async with SipClient(Target.parse(self.options.target), user_agent="callbridge-bench") as sip:
            self.flood.start()
            await self.set_up(sip)
            self.hold(sip)
            told = {"calls": len(self.calls), "legs": self.flood.legs, "held": self.n_held}
            self.tell("up", failures=dict(self.failures), setup_s=self.percentiles(self.setup_s), **told)
            await self.obey(sip)

    async def set_up(self, sip: SipClient) -> None:
        per_call = 2 if self.options.siprec else 1
        async with asyncio.TaskGroup() as group:
            start = monotonic()
            for n in range(self.options.legs // per_call):
                await asyncio.sleep(max(start + n / self.options.rate - monotonic(), 0.0))
                group.create_task(self.place(sip, n, per_call))

    async def place(self, sip: SipClient, n: int, n_legs: int) -> None:
        began = monotonic()
        body, headers, contact = Body(self.sdp(sip, n_legs, 1)), [], ""
        if self.options.siprec:
            roles = ("caller", "agent")[:n_legs]
            parties = [offer.Participant(role, f"sip:{role}{n}@bench.invalid") for role in roles]
            snapshot = offer.metadata(f"bench-{n}", parties, started="2026-01-01T00:00:00Z")
            body = offer.siprec_body(body.content, snapshot)
            headers, contact = [("Require", "siprec")], ";+sip.src"
        dialog, events = sip.invite(
            body, from_=f"sip:bench{n}@callbridge.invalid", headers=headers, contact_params=contact
        )
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                while not isinstance(event := await events.get(), Answered | Refused | Ended):
                    pass
        except TimeoutError:
            self.failures["timeout"] += 1
            return
        if not isinstance(event, Answered):
            self.failures[str(getattr(event, "status", "ended"))] += 1
            return
        self.setup_s.append(monotonic() - began)
        answer = offer.read_answer(event.response.body, n_legs)
        at = n * TAPE_STEP % tapes.TAPE_SECONDS
        legs = [self.flood.add((m.address, m.port), 2 * n + i, at) for i, m in enumerate(answer) if m.port]
        self.calls.append(Call(dialog, events, legs))

    def sdp(self, sip: SipClient, n_legs: int, version: int, *, is_held: bool = False) -> bytes:
        direction: offer.Direction = "sendonly" if self.options.siprec else "sendrecv"
        labels = [str(i + 1) if self.options.siprec else "" for i in range(n_legs)]
        media = [offer.Media(self.flood.port, label, direction) for label in labels]
        held: offer.HoldForm | None = "inactive" if is_held else None
        text = offer.sdp(sip.address, media, self.codec, ptime_ms=20, version=version, hold=held)
        return secured(text) if self.options.srtp else text

    def hold(self, sip: SipClient) -> None:
        """A share of the calls, evenly spread, goes on signalled hold for good and sends nothing."""
        self.n_held = 0
        every = round(1 / self.options.held) if self.options.held else 0
        for call in self.calls[::every] if every else []:
            call.version += 1
            sip.reinvite(call.dialog, Body(self.sdp(sip, len(call.legs), call.version, is_held=True)))
            for leg in call.legs:
                self.flood.hold(leg, True)
            self.n_held += len(call.legs)

    async def obey(self, sip: SipClient | None) -> None:
        commands: asyncio.Queue[str] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        threading.Thread(target=self.read_commands, args=(loop, commands), daemon=True).start()
        while (command := await commands.get()) != "stop":
            if command == "quiet":
                self.flood.stop()
            self.tell(command, **self.stats())
        if self.flood.is_running:
            self.flood.stop()
        if sip is not None:
            await self.hang_up(sip)
        self.tell("stopped", **self.stats())

    @staticmethod
    def read_commands(loop: asyncio.AbstractEventLoop, commands: asyncio.Queue[str]) -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(commands.put_nowait, line.strip())
        loop.call_soon_threadsafe(commands.put_nowait, "stop")

    async def hang_up(self, sip: SipClient) -> None:
        for call in self.calls:
            sip.hang_up(call.dialog)
            await asyncio.sleep(1 / (2 * self.options.rate))
        try:
            async with asyncio.timeout(END_TIMEOUT):
                for call in self.calls:
                    while not isinstance(await call.events.get(), Ended):
                        pass
        except TimeoutError:
            self.failures["no answer to BYE"] += 1

    def stats(self) -> dict[str, object]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "sent": self.flood.sent, "failed": self.flood.failed, "late_s": self.percentiles(self.flood.recent_late()),
            "cpu_s": usage.ru_utime + usage.ru_stime, "failures": dict(self.failures),
        }  # fmt: skip

    @staticmethod
    def percentiles(values: list[float]) -> dict[str, float]:
        if not values:
            return {}
        return {f"p{p}": round(float(np.percentile(values, p)), 6) for p in (50, 99, 100)}

    @staticmethod
    def tell(what: str, **figures: object) -> None:
        print(json.dumps({"told": what, **figures}), flush=True)


def secured(sdp: bytes) -> bytes:
    """The offer with SDES on every m-line (RFC 4568), the key being that of the tapes."""
    crypto = f"a=crypto:{format_crypto(1, tapes.SRTP_KEYS)}\r\n".encode()
    return re.sub(rb"(m=audio \d+ )RTP/AVP([^\r]*\r\n)", rb"\1RTP/SAVP\2" + crypto, sdp)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="")
    parser.add_argument("--ports", default="")
    parser.add_argument("--legs", type=int, required=True)
    parser.add_argument("--siprec", action="store_true")
    parser.add_argument("--codec", default="PCMU")
    parser.add_argument("--pairs", type=int, default=4, help="different conversations")
    parser.add_argument("--srtp", action="store_true", help="SDES, one key for all; prepared beforehand")
    parser.add_argument("--lasting", type=float, default=180.0, help="seconds of SRTP to prepare")
    parser.add_argument("--rate", type=float, default=50.0, help="calls per second while setting up")
    parser.add_argument("--held", type=float, default=0.1, help="share of the calls that is on signalled hold")
    asyncio.run(Generator(parser.parse_args()).run())


if __name__ == "__main__":
    main()
