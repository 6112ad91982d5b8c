"""One party's audio in a call: from the plane's outputs to events, top to bottom.

plane   Audio           -> speech-to-text, in call time
        Gate            -> `leg.gate`; a closing gate flushes: Finalize, then keepalive
        Speaking        -> `Speech`: turns
        TelephoneEvent  -> `Digits`: `dtmf`
stt     results         -> `Speech`: transcripts and turns

Where its RTP comes in is its `MediaLine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from bridge.config import GateSettings, SttSettings, build
from bridge.digits import Digits
from bridge.errors import InvalidState, PeerError
from bridge.gate.turns import Turns
from bridge.ingress.contract import LegOffer, MediaOffer
from bridge.ledger import count, ledger
from bridge.media.outputs import Audio, Books, Gate, Output, Retimed, Speaking, Stirring, TelephoneEvent
from bridge.media_line import MediaLine
from bridge.model import AudioFormat, Cause
from bridge.publish import events
from bridge.publish.events import Event
from bridge.speech import Speech
from bridge.stt.events import Finished, SttEvent
from bridge.wiring import Stt, Wiring

WEBRTC_AUDIO, WEBRTC_CODEC = AudioFormat("linear16", 16000), "OPUS"
STRAGGLES = 0.02  # s, a tick: audio sent before a BYE that is stamped behind it, by another path and another clock
log = structlog.get_logger()


class Party(Protocol):
    """The call, as its legs see it."""

    id: str

    @property
    def source(self) -> str:
        """IP address of whoever brought the call."""
        ...

    def spoke(self, leg: Leg, now: float) -> None:
        """The leg has spoken for long enough to have taken over."""
        ...

    def leg_done(self, leg: Leg, now: float) -> None:
        """The leg's last event is out."""
        ...

    def end_leg(self, leg: Leg, now: float, *, at: float) -> None:
        """The leg's audio has ended at `at`; the others go on, and the call ends with its last leg."""
        ...

    def fail_leg(self, leg: Leg, now: float) -> None:
        """A bug of ours has ended the leg; without another one the call is hung up."""
        ...


class Leg:
    """See the module. Until `start` only its port is reserved."""

    def __init__(
        self, name: str, offer: LegOffer, *, party: Party, wiring: Wiring, gate: GateSettings, stt: SttSettings,
        dtmf_events: bool = False,
    ) -> None:  # fmt: skip
        self.id = name
        self.role = offer.role
        self.participant = offer.participant
        self._party = party
        self._wiring = wiring
        self._gate = gate
        self._stt_settings = stt
        self._dtmf_events = dtmf_events
        self._line = MediaLine(offer.media, wiring) if offer.media is not None else None
        self.audio = self._line.audio if self._line is not None else WEBRTC_AUDIO
        "What it is kept as and what the provider gets, whatever codecs come later."
        self.codec = self._line.codec if self._line is not None else WEBRTC_CODEC
        self._told: set[tuple[Cause, str]] = {(Cause.HOLD, "signalling")} if offer.on_hold else set()
        "Holds, mutes and pauses in force, and who says so."
        self._row = -1
        self._zero = 0.0
        self._started_at = 0.0
        self._signalled_at = 0.0
        self._closed_at: float | None = None
        self._is_finished = False
        self._books: Books | None = None
        self._packets: Mapping[str, int] | None = None
        "Counted by the ingress, where it takes the packets itself."
        self._gate_state: dict[str, Any] = {"state": "closed", "cause": str(Cause.SILENCE), "since": 0.0}
        self._digits: Digits | None = None
        self._stt: Stt
        self._speech: Speech
        "Both from `start` on."

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self, zero: float, now: float) -> None:
        """The call was answered at `zero` (monotonic): from now on the leg is received and transcribed."""
        wiring = self._wiring
        self._zero, self._started_at = zero, now
        self._speech = Speech(
            self.id,
            wiring=wiring,
            publish=self._publish,
            takes_over=lambda at: self._party.spoke(self, at),
            turns=Turns(turn_end=self._gate.turn_end_ms / 1000, wait=self._stt_settings.turn_wait_s, zero=zero),
            interim=self._stt_settings.interim,
            zero=zero,
        )
        if self._dtmf_events:
            self._digits = Digits(publish=self._publish, arm=wiring.arm)
        told = {cause for cause, _ in self._told}
        track = wiring.plane.open_leg(self.audio, self._gate, now, told=told)
        self._row = track.row
        wiring.seats[self._row] = self
        self._stt = wiring.open_stt(self.audio, self._stt_settings, self._on_stt, call=self._party.id, leg=self.id)
        if self._line is not None:
            self._line.open(self._row, now)
        self._stt.transcriber.start(now)
        self._stt.wake()

    @property
    def row(self) -> int:
        """Its row in the plane; -1 before `start`."""
        return self._row

    @property
    def is_closed(self) -> bool:
        """Its audio has ended; its last words may still come."""
        return self._closed_at is not None

    @property
    def is_done(self) -> bool:
        """Its last event is out."""
        return self._is_finished

    def close_behind(self, at: float) -> None:
        """Closes it once what had arrived by `at` is read: that is its end, which may be seconds ago where the process
        stood still since. A peer that sends on is not heard beyond it."""
        self._wiring.after_read(lambda now: self.close(now, at=at), row=self._row, at=at + STRAGGLES)

    def close(self, now: float, *, at: float | None = None) -> None:
        """No more audio comes: hands over the rest, ends the stream; `Finished` follows once the last words are in.
        `at`: when it ended, if not now."""
        if self._closed_at is not None:
            return
        self._closed_at = now if at is None else at
        if self._row < 0:
            self._release_line(now)
            self._finish(now)
            return
        try:
            for output in self._wiring.plane.close_leg(self._row, now):
                self.on_output(output, now)
            self._vacate(now)
            self._speech.hang_up(now)
            self._stt.transcriber.finish(now)
            self._stt.wake()
        except Exception:  # the boundary of one leg: its row and port are free, its call goes on to its end
            log.exception("leg failed", call=self._party.id, leg=self.id)
            self._vacate(now)
            self._finish(now)

    def _vacate(self, now: float) -> None:
        """Its row and its port are free for others; its books are kept. Idempotent."""
        wiring = self._wiring
        if wiring.seats[self._row] is not self:
            return
        wiring.seats[self._row] = None
        try:
            if self._digits is not None:
                self._digits.close()
            self._books = self._now_books()
        except Exception:  # the boundary of one leg: its books are lost, its row and port are not
            log.exception("leg failed", call=self._party.id, leg=self.id)
        wiring.plane.free_leg(self._row)
        self._release_line(now)

    def give_up(self, now: float) -> None:
        """Closes it, and takes what words there are for the last ones: whatever comes later is not heard any more."""
        self.close(now)
        self._finish(now)

    def _release_line(self, now: float) -> None:
        if self._line is not None:
            self._line.close(now)

    def _finish(self, now: float) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        if self._row >= 0:
            self._speech.close(now)
            if self._books is not None:
                count(self._wiring.metrics, self.ledger(now), self._books, provider=self._stt_settings.provider)
        self._party.leg_done(self, now)

    # -- what an ingress and the API say ----------------------------------------------------------------------------

    @property
    def local(self) -> tuple[str, int]:
        """See `IngressLeg`."""
        if self._line is None:
            raise InvalidState("a leg without RTP has no port")
        return self._line.local(self._party.source)

    def hold(self, on: bool, now: float) -> None:
        """Signalled hold."""
        self.signal(Cause.HOLD, "signalling", on, now)

    def adjust(self, changes: Mapping[str, Any], now: float) -> None:
        """Some of `[gate]`'s settings, for this leg from now on. Raises PeerError for what the configuration refuses,
        and then changes none."""
        problems: list[str] = []
        gate = build(GateSettings, asdict(self._gate) | dict(changes), "gate", problems)
        if problems:
            raise PeerError("; ".join(problems))
        self._gate = gate
        if self._row < 0 or self._closed_at is not None:
            return
        self._wiring.plane.adjust(self._row, gate, now)
        self._speech.adjust(gate.turn_end_ms / 1000, now)

    def signal(self, cause: Cause, source: str, on: bool, now: float) -> None:
        """Hold, mute or pause as said by `source`; holds as long as any source says so. Idempotent. `now`: when it was
        said, which was seconds ago where the process stood still since. Audio that arrived before may be unread then,
        and is not of it. Of a pause all is that was not sent when it began, or read when we hear of its end."""
        before = self._is_told(cause)
        (self._told.add if on else self._told.discard)((cause, source))
        if self._is_told(cause) == before or self._row < 0 or self._closed_at is not None:
            return
        if cause is Cause.PAUSED and on:
            self._signalled(cause, on, now)
            if self._digits is not None:
                self._digits.forget()
            self._stt.transcriber.purge(now)
            self._stt.wake()
            return
        at = now if cause is not Cause.PAUSED else self._wiring.now()
        at = self._signalled_at = max(self._signalled_at, at)  # in the order in which we were told
        self._wiring.after_read(lambda _: self._signalled(cause, on, at), row=self._row, at=at)

    def _is_told(self, cause: Cause) -> bool:
        return any(told is cause for told, _ in self._told)

    @property
    def _is_secret(self) -> bool:
        """In a pause: card data. Until its end is told, because what was keyed in it comes out of the plane before."""
        return self._is_told(Cause.PAUSED) or self._gate_state.get("cause") == Cause.PAUSED

    def _signalled(self, cause: Cause, on: bool, at: float) -> None:
        if self._closed_at is not None or (cause is Cause.PAUSED and self._is_told(cause) != on):
            return
        try:
            self._wiring.plane.signal(self._row, cause, on, at)
        except Exception:  # the boundary of one leg
            log.exception("leg failed", call=self._party.id, leg=self.id)
            self.failed()

    def media_changed(self, media: MediaOffer, now: float) -> None:
        """See `IngressLeg`. The leg keeps the rate it began with; a narrower or wider codec is fitted to it."""
        self.codec = media.formats[0].codec.name
        if self._line is not None:
            self._line.agree(media)

    def sends(self, on: bool) -> None:
        """See `IngressLeg`."""
        if self._line is not None:
            self._line.sends(on)

    def speaker_changed(self, *, role: str, participant: str, now: float) -> None:
        """See `IngressLeg`."""
        if (role or self.role, participant) == (self.role, self.participant):
            return
        self.role, self.participant = role or self.role, participant
        if self._row < 0 or self._closed_at is not None:
            return
        self.announce(events.leg_started)

    def ended(self, now: float) -> None:
        """See `IngressLeg`."""
        self._wiring.after_read(
            lambda read_at: self._party.end_leg(self, read_at, at=now), row=self._row, at=now + STRAGGLES
        )

    def failed(self) -> None:
        """A bug of ours: the leg is ended, the others go on."""
        self._wiring.after_read(lambda read_at: self._party.fail_leg(self, read_at))

    def count_packets(self, packets: Mapping[str, int]) -> None:
        """See `IngressLeg`."""
        self._packets = packets

    def push_pcm(self, samples: NDArray[np.int16], *, start: float, now: float) -> None:
        """See `IngressLeg`."""
        if self._row >= 0 and self._closed_at is None:
            self._wiring.plane.incoming.push_pcm(self._row, samples, start, now)

    # -- what the plane says ------------------------------------------------------------------------------------------

    def on_output(self, output: Output, now: float) -> None:
        """One output of the tick that carries this leg's row."""
        if isinstance(output, Audio):
            self._stt.transcriber.send_audio(output.data, output.start - self._zero, now)
            self._stt.wake()
        elif isinstance(output, Gate):
            self._on_gate(output, now)
        elif isinstance(output, Speaking):
            self._on_speaking(output, now)
        elif isinstance(output, Stirring):
            self._speech.stirs(now)
        elif isinstance(output, Retimed):
            since = output.since - self._zero
            self._stt.transcriber.retime(output.by, since)
            self._speech.retime(output.by, since, now)
        elif isinstance(output, TelephoneEvent) and self._digits is not None:
            self._digits.received(output, now, is_secret=self._is_secret)

    def _on_gate(self, output: Gate, now: float) -> None:
        # where nothing is captured a change happens "now"; the next packet's audio can be a few ms older than that
        change, since = output.change, max(output.at - self._zero, float(self._gate_state["since"]))
        cause = change.cause
        was_open = self._gate_state["state"] == "open"
        self._gate_state = {"state": "open" if change.is_open else "closed", "cause": cause, "since": round(since, 3)}
        log.debug("gate", call=self._party.id, leg=self.id, state=self._gate_state["state"], reason=change.reason)
        self._wiring.metrics.gate_changes.add(1, str(cause or "open"))
        self._publish(events.leg_gate, cause=None if cause is None else str(cause), since=since, reason=change.reason)
        if was_open and not change.is_open and self._closed_at is None:
            self._stt.transcriber.finalize(now)
            self._stt.wake()
        self._speech.gate_moved(cause, since, now)

    def _on_speaking(self, output: Speaking, now: float) -> None:
        at = max(output.at - self._zero, 0.0)
        if output.is_speaking:
            self._speech.begins(at, now)
        else:
            self._speech.stops(at, now)

    def key_pressed(self, digit: str, *, duration_ms: int, now: float) -> None:
        """See `IngressLeg`."""
        if self._digits is not None and self._closed_at is None and not self._is_secret:
            self._digits.signalled(digit, duration_ms)

    def other_speaks(self, now: float) -> None:
        """Another leg has taken over."""
        if self._row >= 0:
            self._speech.other_speaks(now)

    def _on_stt(self, heard: list[SttEvent]) -> None:
        if self._is_finished:
            return
        now = self._wiring.now()
        self._speech.hear(heard, now)
        if isinstance(heard[-1], Finished):
            self._finish(now)

    def announce(self, make: Callable[..., Event]) -> None:
        """`leg.started` or `leg.ended`, with who and what it is."""
        self._publish(make, codec=self.codec, participant=self.participant)

    def _publish(self, make: Callable[..., Event], **data: Any) -> None:
        wiring = self._wiring
        wiring.publish(make(self._party.id, wiring.unix_ms(), leg=self.id, role=self.role, **data))

    # -- books --------------------------------------------------------------------------------------------------------

    def _now_books(self) -> Books:
        books = self._wiring.plane.books(self._row)
        if self._packets is None:
            return books
        packets = {kind: self._packets.get(kind, 0) for kind in books.packets}
        return replace(books, packets=packets, malformed=self._packets.get("malformed", 0))

    def idle_for(self, now: float) -> float:
        """Seconds since its last packet, or since its start."""
        return 0.0 if self._row < 0 else now - float(self._wiring.plane.lanes.last_arrival[self._row])

    def describe(self) -> dict[str, str]:
        """As in `call.started`."""
        described = {"leg": self.id, "role": self.role, "codec": self.codec}
        return described | ({"participant": self.participant} if self.participant else {})

    def snapshot(self, now: float) -> dict[str, Any]:
        """For the API: what it is, its gate, its ledger so far."""
        state, settings = self._gate_state, asdict(self._gate)
        return {**self.describe(), "gate": state, "gate_settings": settings, "ledger": self.ledger(now)}

    def ledger(self, now: float, *, is_last: bool = False) -> dict[str, Any]:
        """The leg's books as the contract defines them; seconds. `is_last`: should the process die now."""
        is_lost = self._books is None and self._row >= 0 and self._wiring.seats[self._row] is not self
        if self._row < 0 or is_lost:
            return events.untold_ledger(self.role)
        books = self._books or self._now_books()
        lasted_s = (self._closed_at if self._closed_at is not None else now) - self._started_at
        spent = self._stt.transcriber.ledger(now)
        if is_last:
            spent = replace(spent, lost_s=spent.lost_s + spent.unsettled_s)
        return ledger(self.role, books, spent, lasted_s=lasted_s, is_over=self._books is not None)
