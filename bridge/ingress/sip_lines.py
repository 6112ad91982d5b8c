"""The m-lines of one call that came over SIP, and how legs stay with their streams while those move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bridge.ingress.contract import IngressLeg
from bridge.ingress.sip_media import Stream
from bridge.ingress.siprec import Party
from bridge.sip.sdp import Description, Media

MAX_LEGS = 8
"Audio m-lines taken of one recording session."


@dataclass(slots=True)
class Line:
    """One m-line of ours. Without a leg it is rejected."""

    stream: Stream | None = None
    leg: IngressLeg | None = None
    media: Media | None = None
    "As the peer described it last."
    party: Party = field(default_factory=Party)
    moved_from: Line | None = None
    "The m-line whose leg this one has taken over."

    @property
    def has_null_address(self) -> bool:
        """Nothing is to be sent there, whatever the direction says (RFC 3264 section 8.4)."""
        return self.media is not None and self.media.is_null_address


def keep_few(lines: Sequence[Line], room: int) -> None:
    """Rejects the streams beyond the first `room`."""
    for line in lines:
        if line.stream is not None:
            if room == 0:
                line.stream = None
            else:
                room -= 1


def move_legs(before: Sequence[Line], lines: Sequence[Line], *, by_label: bool) -> None:
    """A stream that ends on one m-line and begins on another is the same party's: by its label in a recording session,
    by being the one in a plain call (some PBXs use a new m-line after each transfer). `before`: the lines so far."""
    ended = [
        (was, line) for was, line in zip(before, lines, strict=False) if line.leg and line.media and not line.media.port
    ]
    for line in lines:
        if line.leg is not None or line.stream is None:
            continue
        for was, old in ended:
            label = was.media.label if was.media is not None else ""
            if old.leg is not None and (not by_label or (label and label == line.stream.label)):
                line.leg, line.moved_from, old.leg = old.leg, was, None
                break


def is_sendonly(description: Description) -> bool:
    return any(media.direction == "sendonly" for media in description.media)
