"""What the bench measures, by name: how many legs, of which codec, over what."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bridge.caller.options import find_codec

NAME = re.compile(r"([a-z0-9]+?)((?:\+(?:srtp|wss))*)-(\d+)")
PEERS = ("pipecat", "livekit")
MAKE_BENCH = (
    "pcmu-100", "pcmu-300", "pcmu-600", "pcmu-1000", "pcmu-1500",
    "pcma-300", "g722-300", "opus-300", "pcmu+srtp-300", "pcmu+wss-600",
    "pipecat-25", "livekit-25", "start",
)  # fmt: skip
"What `make bench` measures. All legs of pipecat and LiveKit run in one process as well; 25 is what both can bear."


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `program`: callbridge, a peer's name, or `start`."""

    program: str
    legs: int = 0
    codec: str = "PCMU"
    is_srtp: bool = False
    is_wss: bool = False

    @property
    def name(self) -> str:
        """As `parse_row` takes it."""
        if self.program == "start":
            return "start"
        if self.program in PEERS:
            return f"{self.program}-{self.legs}"
        return f"{self.codec.lower()}{'+srtp' * self.is_srtp}{'+wss' * self.is_wss}-{self.legs}"


def parse_row(name: str) -> Row:
    """`start`, `pipecat-N`, `livekit-N`, or `CODEC[+srtp][+wss]-N`. Raises ValueError."""
    text = name.strip().lower()
    if text == "start":
        return Row("start")
    found = NAME.fullmatch(text)
    if found is None:
        raise ValueError(f"{name!r} is no row: start, pipecat-N, livekit-N or CODEC[+srtp][+wss]-N")
    what, options, legs = found[1], found[2].split("+")[1:], int(found[3])
    if what in PEERS:
        if options:
            raise ValueError(f"{name!r}: {what} is measured on plain RTP and ws:// only")
        return Row(what, legs)
    return Row("callbridge", legs, find_codec(what).name, "srtp" in options, "wss" in options)


def parse_rows(text: str) -> list[Row]:
    """Names with commas between them; `all` is what `make bench` measures. Raises ValueError."""
    return [parse_row(name) for part in text.split(",") for name in (MAKE_BENCH if part == "all" else (part,))]
