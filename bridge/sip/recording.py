"""SIPREC (RFC 7866, metadata RFC 7865): which calls are recording sessions, and who speaks on which stream.

Elements are matched by local name and identifiers are opaque, because vendors spell namespaces, attributes and nesting
in their own ways (Oracle: `id`, `<send>` inside participant; Ribbon: prefix `tns:`; BroadWorks: another root).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from bridge.sip.message import Request
from bridge.sip.multipart import Part
from bridge.sip.syntax import parse_name_addr, split_outside

SNAPSHOT_REQUEST = (
    b'<?xml version="1.0" encoding="UTF-8"?>\r\n'
    b'<requestsnapshot xmlns="urn:ietf:params:xml:ns:recording:1">'
    b"<requestreason>no complete metadata</requestreason></requestsnapshot>\r\n"
)
"""Asks a recording client for all of its metadata (RFC 7866 section 9.2)."""
MAX_METADATA_BYTES = 256 * 1024
MAX_ELEMENTS = 5000
METADATA_TYPES = ("application/rs-metadata", "application/rs-metadata+xml")


def is_metadata(part: Part) -> bool:
    """By type (RFC 7866 or RFC 9806) or, where a vendor's type is its own, by disposition."""
    return part.content_type in METADATA_TYPES or part.disposition == "recording-session"


def is_recording(request: Request, parts: list[Part]) -> bool:
    """A recording session, by any of the marks that vendors leave: metadata, +sip.src, ;src, Require: siprec."""
    if "siprec" in request.headers.tokens("Require") or any(is_metadata(part) for part in parts):
        return True
    for contact in request.headers.values("Contact"):
        address = parse_name_addr(contact)
        inside = {part.partition("=")[0].strip().lower() for part in split_outside(address.uri, ";")[1:]}
        if {"+sip.src", "src"} & (inside | set(address.params)):
            return True
    return False


@dataclass(slots=True)
class Participant:
    """One party. `send` and `recv` are stream ids; None: the metadata never said."""

    id: str
    aor: str = ""
    name: str = ""
    is_calling: bool | None = None
    "What a vendor's extension says (Oracle callingParty); None: nothing."
    send: set[str] | None = None
    recv: set[str] | None = None


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who is heard on a stream."""

    participant: str
    "Display name, or AOR, or empty."
    aor: str
    is_calling: bool | None
    is_out: bool
    "The party neither sends nor receives any more: it is on hold (RFC 7865 section 6.8)."


@dataclass(slots=True)
class Metadata:
    """What is known of a recorded session, after every update so far."""

    session_id: str = ""
    participants: dict[str, Participant] = field(default_factory=dict)
    stream_of_label: dict[str, str] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    last_sender: dict[str, str] = field(default_factory=dict)
    "Stream to the participant that sent it last: who is silent on it while nobody sends."
    was_in: set[str] = field(default_factory=set)
    "Participants that have sent or received."
    has_base: bool = False
    "A complete document has come: partial ones have something to change."

    def merge(self, content: bytes) -> bool:
        """Takes a metadata document: a complete one replaces what was known, a partial one changes it. False, and
        nothing changed, for what is no metadata."""
        root = _parse(content)
        if root is None:
            return False
        if not _is_partial(root):
            self.participants.clear()
            self.stream_of_label.clear()
            self.labels.clear()
            self.has_base = True
        # associations may stand before the participant they speak of
        for element in sorted(root.iter(), key=lambda item: _local(item).endswith("assoc")):
            self._take(element)
        return True

    def _take(self, element: Element) -> None:
        match _local(element):
            case "session":
                self.session_id = _id(element, "session_id", "id") or self.session_id
            case "stream":
                self._take_stream(element)
            case "participant":
                self._take_participant(element)
            case "participantstreamassoc":
                self._take_association(element)
            case "participantsessionassoc" if _child_text(element, "disassociate-time"):
                # the party left the call (RFC 7865 section 6.5)
                self.participants.pop(_id(element, "participant_id"), None)

    def _take_stream(self, element: Element) -> None:
        label, stream = _child_text(element, "label"), _id(element, "stream_id", "id")
        if label:
            self.stream_of_label[label] = stream
            if label not in self.labels:
                self.labels.append(label)

    def _take_participant(self, element: Element) -> None:
        id_ = _id(element, "participant_id", "id")
        party = self.participants.setdefault(id_, Participant(id_))
        for child in element:
            if _local(child) == "nameid":
                party.aor = child.get("aor", "").strip()[:256] or party.aor
                party.name = _child_text(child, "name")[:256] or party.name
        for child in element.iter():
            if _local(child) == "callingparty":
                party.is_calling = (child.text or "").strip().lower() == "true"
        if any(_local(child) in ("send", "recv") for child in element):
            self._associate(party, element)  # Oracle nests them here

    def _take_association(self, element: Element) -> None:
        party = self.participants.get(_id(element, "participant_id", "participant"))
        if party is not None:
            self._associate(party, element)

    def _associate(self, party: Participant, element: Element) -> None:
        """States all that the party sends and receives now (RFC 7865 section 6.8). A stream it sends is no one else's
        any more: that is how a transfer looks when the old party is not mentioned."""
        # an empty id is kept: Avaya sends one before it knows better, and it is no sign of hold
        party.send = {(child.text or "").strip() for child in element if _local(child) == "send"}
        party.recv = {(child.text or "").strip() for child in element if _local(child) == "recv"}
        if party.send or party.recv:
            self.was_in.add(party.id)
        for stream in party.send - {""}:
            self.last_sender[stream] = party.id
            for other in self.participants.values():
                if other is not party and other.send:
                    other.send.discard(stream)

    def speaker(self, label: str, position: int) -> Speaker | None:
        """Who speaks on the m-line with that label; where label or association is missing, by order. None: nobody is
        known."""
        if not label and position < len(self.labels):
            label = self.labels[position]  # m-lines without labels: in the document's order
        stream = self.stream_of_label.get(label)
        party = next((p for p in self.participants.values() if stream and p.send and stream in p.send), None)
        if party is None:
            party = self.participants.get(self.last_sender.get(stream or "", ""))
        if party is None:
            party = self._by_order(label, stream, position)
        if party is None:
            return None
        # lost, not merely absent: a first document that ties nobody to anything must not silence a call
        is_out = party.id in self.was_in and not party.send and not party.recv
        return Speaker(party.name or party.aor, party.aor, party.is_calling, is_out)

    def _by_order(self, label: str, stream: str | None, position: int) -> Participant | None:
        """The party at the stream's place in the document, if no association gives that party another stream."""
        place = self.labels.index(label) if label in self.labels else position
        parties = list(self.participants.values())
        party = parties[place] if place < len(parties) else None
        if party is None or (party.send and party.send - {stream or ""}):
            return None
        return party


def _parse(content: bytes) -> Element | None:
    if not content or len(content) > MAX_METADATA_BYTES:
        return None
    try:
        root: Element = fromstring(content.strip(), forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        return None  # LookupError: an encoding that nobody has
    if _local(root) not in ("recording", "recording_metadata"):
        return None
    return root if sum(1 for _ in _limited(root)) <= MAX_ELEMENTS else None


def _limited(root: Element) -> Iterator[Element]:
    for n, element in enumerate(root.iter()):
        yield element
        if n > MAX_ELEMENTS:
            return


def _is_partial(root: Element) -> bool:
    return any(_local(child) == "datamode" and (child.text or "").strip().lower() == "partial" for child in root)


def _local(element: Element) -> str:
    tag = element.tag if isinstance(element.tag, str) else ""
    return tag.rpartition("}")[2].lower()


def _id(element: Element, *names: str) -> str:
    return next((value.strip()[:256] for name in names if (value := element.get(name))), "")


def _child_text(element: Element, name: str) -> str:
    return next(((child.text or "").strip()[:256] for child in element if _local(child) == name), "")


def role_of(speaker: Speaker | None) -> str:
    """The role that metadata gives; empty where it does not say."""
    if speaker is None or speaker.is_calling is None:
        return ""
    return "caller" if speaker.is_calling else "agent"
