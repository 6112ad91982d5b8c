"""From SIPREC metadata to legs: who speaks on an m-line, in which role, and whether the party is on hold.

Roles (CONTRACT "Times and roles"): an AOR pattern of the configuration, else what the metadata's vendor extension says,
else none, and the service numbers by position.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from bridge.sip.message import Request
from bridge.sip.multipart import Part
from bridge.sip.recording import Metadata, Speaker, is_metadata, role_of
from bridge.sip.sdp import Media
from bridge.sip.syntax import parse_params, split_outside


@dataclass(frozen=True, slots=True)
class Party:
    """What the metadata says of one m-line."""

    role: str = ""
    participant: str = ""
    is_out: bool = False
    "The party neither sends nor receives: hold."


class Recording:
    """One recording session's metadata over its life."""

    def __init__(self, roles: Mapping[str, str]) -> None:
        """`roles`: shell-style AOR pattern to role (`sip.roles`)."""
        self._roles = roles
        self._metadata = Metadata()

    @property
    def session_id(self) -> str:
        """The communication session's id, empty if not said."""
        return self._metadata.session_id

    @property
    def has_base(self) -> bool:
        """A complete metadata document has come."""
        return self._metadata.has_base

    @property
    def aors(self) -> tuple[str, ...]:
        """Of every participant, in order."""
        return tuple(party.aor for party in self._metadata.participants.values() if party.aor)

    def take(self, parts: list[Part]) -> bool:
        """Merges every metadata part; True if there was one that could be read."""
        merged = [self._metadata.merge(part.content) for part in parts if is_metadata(part)]
        return True in merged

    def party(self, media: Media, position: int) -> Party:
        """Who is heard on the m-line at `position` (0 is the first)."""
        speaker = self._metadata.speaker(media.label, position)
        if speaker is None:
            return Party()
        return Party(self._role(speaker), speaker.participant, speaker.is_out)

    def _role(self, speaker: Speaker) -> str:
        aor = speaker.aor.partition(":")[2] if speaker.aor.startswith(("sip:", "sips:", "tel:")) else speaker.aor
        for pattern, role in self._roles.items():
            if fnmatchcase(speaker.aor, pattern) or fnmatchcase(aor, pattern):
                return role
        return role_of(speaker)


@dataclass(frozen=True, slots=True)
class Fork:
    """One of the two INVITEs by which CUCM's built-in bridge sends one call: near end and far end of the recorded phone
    (Cisco "SIP header extensions for recording": x-nearend, x-farend, x-refci in From)."""

    call: str
    "x-refci, the same in both."
    role: str


def fork_of(request: Request) -> Fork | None:
    """None for any other INVITE."""
    params = parse_params(split_outside(request.from_.uri, ";")[1:]) | request.from_.params
    call = params.get("x-refci", "")
    if not call or not {"x-nearend", "x-farend"} & params.keys():
        return None
    # the phone that is recorded is the agent's
    return Fork(call[:64], "agent" if "x-nearend" in params else "caller")


def is_held(media: Media) -> bool:
    """A stream of a recording session that rests. `sendonly` is its normal state; a recorder never gets anything from
    `recvonly`."""
    return media.port == 0 or media.is_null_address or media.direction in ("inactive", "recvonly")
