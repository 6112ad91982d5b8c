"""One call that came over SIP: its m-lines, its legs, and what each new offer changes. Synchronous; no sockets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import structlog

from bridge.config import Settings, TrunkSettings
from bridge.errors import CapacityError, InvalidState, SdpError
from bridge.ingress import siprec
from bridge.ingress.contract import CallOffer, Host, IngressCall, LegOffer
from bridge.ingress.sip_lines import MAX_LEGS, Line, is_sendonly, keep_few, move_legs
from bridge.ingress.sip_media import our_offer, take, widened
from bridge.ingress.siprec import Party, Recording
from bridge.sip import dtmf, multipart, sdp
from bridge.sip.answer import SEND, LocalDescription, LocalStream, answer_direction
from bridge.sip.events import Body, Flow
from bridge.sip.message import Request
from bridge.sip.multipart import Part
from bridge.sip.recording import is_recording
from bridge.sip.sdp import Description, Media
from bridge.sip.syntax import parse_name_addr

log = structlog.get_logger()
FORK_ID = "cisco_refci"
"Correlation by which the second INVITE of a forked call finds the first."
SNAPSHOT_EVERY = 60.0  # s; a client that cannot send its metadata is not asked all the time


class SipCall:
    """A dialog's media. Also what the service hangs up by (`CallControl`)."""

    def __init__(
        self, dialog: str, request: Request, flow: Flow, settings: Settings, *, hang_up: Callable[[str], None]
    ) -> None:
        parts = multipart.split(request.body, request.headers.get("Content-Type"))
        self.dialog = dialog
        self.is_recording = is_recording(request, parts)
        self.call: IngressCall | None = None
        self.is_joined = False
        "The legs were added to the call of an earlier dialog."
        self.is_offered_by_us = False
        "Our 200 carried the offer; the ACK must bring the answer."
        self.fork = siprec.fork_of(request)
        self._invite: tuple[Request, list[Part]] | None = (request, parts)
        "With the parts of its body; until `open`, a thousand calls need not keep the text of theirs."
        self._from = request.from_.name or request.from_.uri
        self._source = flow.remote[0]
        self._settings = settings
        self._hang_up = hang_up
        self._recording = Recording(settings.sip.roles)
        self._recording.take(parts)
        self._lines: list[Line] = []
        self._local = LocalDescription(session_id=int.from_bytes(dialog.encode()[-6:], "big"))
        self._version = ("", "")
        self._began_sendonly = False
        self._asked_at = -math.inf
        self.trunk = TrunkSettings()
        "How this call is answered; known from `open` on."
        self.first_answer: Body | None = None
        "What `open` returned."

    @property
    def contact_params(self) -> str:
        """Of our Contact: a recording server says so (RFC 7866 section 6.1.2)."""
        return ";+sip.srs" if self.is_recording else ""

    def hang_up(self) -> None:
        """BYE to the peer; the service has ended the call already."""
        self._hang_up(self.dialog)

    # -- the first offer -----------------------------------------------------------------------------------------

    def open(self, host: Host, now: float) -> Body:
        """Admits the call and returns the answer (or our offer) for the 200. Raises SdpError (488), CapacityError
        (503), InvalidState the second time."""
        if self._invite is None:
            raise InvalidState("opened twice")
        (request, parts), self._invite = self._invite, None
        description = _description(parts)
        self.trunk = host.trunk(self._call_offer(request, ()))
        if description is None:
            self.is_offered_by_us = True
            offer = our_offer(srtp=self.trunk.srtp, codecs=self.trunk.codecs)
            self._lines = [Line(offer, party=self._party(None, 0))]
        else:
            self._version = description.version
            self._began_sendonly = is_sendonly(description)
            self._lines = [self._line(media, n) for n, media in enumerate(description.media)]
            keep_few(self._lines, MAX_LEGS if self.is_recording else 1)
        taken = [line for line in self._lines if line.stream is not None]
        if not taken:
            raise SdpError("no audio stream that we can take")
        offers = [self._leg_offer(line, description, n) for n, line in enumerate(self._lines) if line.stream]
        self.call = host.find_call(FORK_ID, self.fork.call) if self.fork else None
        if self.call is not None:
            self.is_joined = True
            taken[0].leg = self.call.add_leg(offers[0], now)
        else:
            self.call = host.open_call(self._call_offer(request, tuple(offers)), self, now)
            for line, leg in zip(taken, self.call.legs, strict=True):
                line.leg = leg
        return self._answer(description)

    def leave(self, now: float) -> None:
        """The legs of this dialog end, the call goes on with those of another."""
        for line in self._lines:
            if line.leg is not None:
                line.leg.ended(now)

    def _line(self, media: Media, n: int, before: Line | None = None) -> Line:
        kept = before.stream if before is not None else None
        stream = None
        if media.port:
            stream = take(
                media,
                srtp=self.trunk.srtp,
                codecs=self.trunk.codecs,
                before=kept,
                keeps_label=self.is_recording,
            )
        return Line(stream, before.leg if before else None, media, self._party(media, n))

    def _party(self, media: Media | None, n: int) -> Party:
        if not self.is_recording:
            role = self.fork.role if self.fork else "caller"
            return Party(role=role, participant=self._from)
        return self._recording.party(media, n) if media is not None else Party()

    def _leg_offer(self, line: Line, description: Description | None, n: int) -> LegOffer:
        assert line.stream is not None
        return LegOffer(
            role=line.party.role,
            participant=line.party.participant,
            on_hold=description is not None and self._is_held(description.media[n], line.party),
            media=line.stream.media,
        )

    def _is_held(self, media: Media, party: Party) -> bool:
        if self.is_recording:
            return siprec.is_held(media) or party.is_out
        # a plain call that is `sendonly` from the start is fed to us that way (network-based recording), not held
        is_one_way = media.direction == "sendonly" and not self._began_sendonly
        return siprec.is_held(media) or is_one_way

    def _call_offer(self, request: Request, legs: tuple[LegOffer, ...]) -> CallOffer:
        headers: dict[str, str] = {}
        for name, value in request.headers:
            headers.setdefault(name.lower(), value)
        correlation = {"sip_call_id": request.call_id}
        if self.fork:
            correlation[FORK_ID] = self.fork.call
        if self._recording.session_id:
            correlation["siprec_session_id"] = self._recording.session_id
        for name in self._settings.sip.correlation_headers:
            if value := request.headers.get(name):
                correlation[re.sub(r"[^a-z0-9]+", "_", name.lower())] = value
        aors = self._recording.aors
        return CallOffer(
            ingress="siprec" if self.is_recording else "sip",
            legs=legs,
            from_=aors[0] if aors else request.from_.uri,
            to=aors[1] if len(aors) > 1 else parse_name_addr(request.headers.get("To")).uri,
            source=self._source,
            headers=headers,
            aors=aors,
            correlation=correlation,
        )

    def wants_snapshot(self, now: float) -> bool:
        """Whether the recording client is to be asked for its whole metadata: none came, or only changes to what never
        came. True at most once in SNAPSHOT_EVERY."""
        if not self.is_recording or self._recording.has_base or now - self._asked_at < SNAPSHOT_EVERY:
            return False
        self._asked_at = now
        return True

    # -- our side ------------------------------------------------------------------------------------------------

    def _answer(self, description: Description | None) -> Body:
        wanted = self._wanted()
        address = next(line.leg.local[0] for line in self._lines if line.leg is not None)
        streams = [self._local_stream(line, wanted, is_offer=description is None) for line in self._lines]
        if description is None:
            return Body(self._local.offer(streams, address, [line.media for line in self._lines]))
        return Body(self._local.answer(description, streams, address))

    def _local_stream(self, line: Line, wanted: str, *, is_offer: bool) -> LocalStream | None:
        if (
            line.stream is None
            or line.leg is None
            or (line.media is not None and line.media.port == 0 and (self.is_recording or not is_offer))
        ):
            if line.leg is not None:
                line.leg.sends(False)
            return None
        stream = widened(line.stream, self.trunk.codecs) if is_offer else line.stream
        local = stream.local(line.leg.local, wanted)
        line.leg.sends(SEND[local.direction] and (is_offer or not line.has_null_address))
        return local

    def _wanted(self) -> str:
        """The direction that we would have, were it ours to choose."""
        return "recvonly" if self.is_recording else self.trunk.answer

    # -- later offers and answers --------------------------------------------------------------------------------

    def answered_by_ack(self, request: Request, now: float) -> bool:
        """The answer to our offer. False where there is none that we can work with: the call must be ended."""
        self.is_offered_by_us = False
        parts = multipart.split(request.body, request.headers.get("Content-Type"))
        self._recording.take(parts)
        try:
            description = _description(parts)
        except SdpError:
            description = None
        if description is None:
            return False
        if self._version == ("", ""):  # the first that they say of themselves: CUCM's phones only ever send
            self._began_sendonly = is_sendonly(description)
        try:
            lines = self._next_lines(description)
        except SdpError:
            return False
        self._replace_lines(lines, description, now)
        for line in self._lines:
            if line.leg is not None and line.media is not None:
                sends = SEND[answer_direction(line.media.direction, self._wanted())]
                line.leg.sends(sends and not line.has_null_address)
        return any(line.stream is not None and line.leg is not None for line in self._lines)

    def reoffered(self, request: Request, now: float) -> Body | None:
        """A re-INVITE or UPDATE: applies it and returns the answer, our offer, or None where there is nothing to say.
        Raises SdpError (488); then nothing changed."""
        parts = multipart.split(request.body, request.headers.get("Content-Type"))
        description = _description(parts)
        has_metadata = self._recording.take(parts)
        if description is None:
            if has_metadata:
                self._speakers_changed(now)
            return self._offer_again() if request.method == "INVITE" else None
        lines = self._next_lines(description)
        if not any(line.stream is not None or line.leg is not None for line in lines):
            raise SdpError("no audio stream that we can take")
        self._replace_lines(lines, description, now)
        return self._answer(description)

    def informed(self, request: Request, now: float) -> None:
        """An INFO: metadata of clients that send it so, or a key press."""
        if self._recording.take(multipart.split(request.body, request.headers.get("Content-Type"))):
            self._speakers_changed(now)
        key = dtmf.pressed(request)
        leg = next((line.leg for line in self._lines if line.leg is not None), None)
        if key is not None and leg is not None:
            leg.key_pressed(key[0], duration_ms=key[1], now=now)

    def _replace_lines(self, lines: list[Line], description: Description, now: float) -> None:
        is_new = description.version != self._version or description.version == ("", "")
        before, self._lines, self._version = self._lines, lines, description.version
        for n, line in enumerate(lines):
            self._apply(line, before[n] if n < len(before) else None, now, is_new=is_new)

    def _offer_again(self) -> Body:
        """Our wish, not the held state, is what we offer (RFC 6337 section 5.3)."""
        self.is_offered_by_us = True
        return self._answer(None)

    def _next_lines(self, description: Description) -> list[Line]:
        """The m-lines as offered now. One that was there keeps its leg; one that may not be used is rejected."""
        if len(description.media) < len(self._lines):
            raise SdpError("fewer m-lines than before")  # RFC 3264 section 8
        lines: list[Line] = []
        for n, media in enumerate(description.media):
            before = self._lines[n] if n < len(self._lines) else None
            line = self._line(media, n, before)
            if line.leg is not None and media.port and line.stream is None:
                raise SdpError("no codec in common any more")
            lines.append(line)
        move_legs(self._lines, lines, by_label=self.is_recording)
        for n, line in enumerate(lines):
            if line.leg is None and (not self.is_recording or n >= MAX_LEGS):
                line.stream = None
        return lines

    def _apply(self, line: Line, before: Line | None, now: float, *, is_new: bool) -> None:
        """Tells the leg what changed. `is_new`: a new description, so another source may send from now on."""
        if line.media is None:
            return
        if line.leg is None:
            self._join(line, now)
            return
        before = line.moved_from or before
        line.moved_from = None
        kept = before.stream if before is not None else None
        if line.stream is None:
            line.stream = kept if line.media.port == 0 else None  # a resting stream comes back with what it had
        elif kept is None or is_new or line.stream.media != kept.media:
            line.leg.media_changed(line.stream.media, now)
        line.leg.hold(self._is_held(line.media, line.party), now)
        if before is not None:
            self._speaker(line, before.party, now)

    def _join(self, line: Line, now: float) -> None:
        """A stream that was added (RFC 7866 section 7.1.1.1)."""
        if line.stream is None or line.media is None or self.call is None:
            return
        on_hold = self._is_held(line.media, line.party)
        offer = LegOffer(line.party.role, line.party.participant, on_hold, line.stream.media)
        try:
            line.leg = self.call.add_leg(offer, now)
        except CapacityError:
            line.stream = None

    def _speakers_changed(self, now: float) -> None:
        """Metadata without SDP: other speakers, and hold by lost associations."""
        for n, line in enumerate(self._lines):
            if line.leg is None or line.media is None:
                continue
            before, line.party = line.party, self._party(line.media, n)
            line.leg.hold(self._is_held(line.media, line.party), now)
            self._speaker(line, before, now)

    def _speaker(self, line: Line, before: Party, now: float) -> None:
        """Another party on the same label: the audio goes on, the speaker changes."""
        party = line.party
        if line.leg is not None and party.participant and party.participant != before.participant:
            line.leg.speaker_changed(role=party.role or line.leg.role, participant=party.participant, now=now)


def _description(parts: list[Part]) -> Description | None:
    """The first SDP of a body; None for a body without one. Raises SdpError."""
    part = next((part for part in parts if part.content_type == "application/sdp"), None)
    return sdp.parse(part.content) if part is not None else None
