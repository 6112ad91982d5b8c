"""One party's audio in a call: from the plane's outputs to events, top to bottom.

plane   Audio     -> speech-to-text, in call time
        Gate      -> `leg.gate`; a closing gate flushes: Finalize, then keepalive
        Speaking  -> `Speech`: turns
stt     results   -> `Speech`: transcripts and turns
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from math import inf
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from bridge.config import GateSettings, SttSettings, build
from bridge.errors import InvalidState, PeerError
from bridge.gate.turns import Turns
from bridge.ingress.contract import LegOffer, MediaOffer
from bridge.ledger import count, ledger
from bridge.media.outputs import Audio, Books, Gate, Output, Speaking, Stirring, TelephoneEvent
from bridge.model import AudioFormat, Cause
from bridge.net.datagrams import MediaPort
from bridge.net.rtp_silence import SentFormat
from bridge.publish import events
from bridge.publish.events import Event
from bridge.rtp.frames import PayloadType
from bridge.rtp.key_presses import SILENT_AFTER, Key, KeyPresses
from bridge.rtp.srtp import SrtpKeys, SrtpReceiver
from bridge.speech import Speech
from bridge.stt.events import Finished, SttEvent
from bridge.wiring import Party, Wiring

WEBRTC_AUDIO = AudioFormat("linear16", 16000)
log = structlog.get_logger()


class Leg:
    """See the module. Until `start` only its port is reserved."""

    def __init__(
        self, name: str, offer: LegOffer, *, party: Party, wiring: Wiring, gate: GateSettings, stt: SttSettings,
        dtmf_events: bool = False,
    ) -> None:  # fmt: skip
        self.id = name
        self.role = offer.role
        self.participant = offer.participant
        self._offer = offer
        self._party = party
        self._wiring = wiring
        self._gate = gate
        self._stt_settings = stt
        self._dtmf_events = dtmf_events
        self._port: MediaPort | None = wiring.sockets.open_pair() if offer.media is not None else None
        self.audio = _audio_of(offer.media)
        self.codec = offer.media.formats[0].codec.name if offer.media is not None else "OPUS"
        self._sources: dict[Cause, set[str]] = {Cause.HOLD: set(), Cause.MUTE: set(), Cause.PAUSED: set()}
        if offer.on_hold:
            self._sources[Cause.HOLD].add("signalling")
        self._srtp_keys: SrtpKeys | None = None
        self._srtp: SrtpReceiver | None = None
        self._row = -1
        self._zero = 0.0
        self._started_at = 0.0
        self._closed_at: float | None = None
        self._is_finished = False
        self._books: Books | None = None
        self._packets: Mapping[str, int] | None = None
        "Counted by the ingress, where it takes the packets itself."
        self._gate_state: dict[str, Any] = {"state": "closed", "cause": str(Cause.SILENCE), "since": 0.0}
        self._keys = KeyPresses()
        self._watches_keys = False
        self._sends = False

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
        told = [cause for cause, sources in self._sources.items() if sources]
        track = wiring.plane.open_leg(self.audio, self._gate, now, told=told)
        self._row = track.row
        wiring.seats[self._row] = self
        self._stt = wiring.open_stt(self.audio, self._stt_settings, self._on_stt, call=self._party.id, leg=self.id)
        if self._port is not None:
            assert self._offer.media is not None
            wiring.reports.open(self._row, self._port, now)
            self._receive(self._offer.media)
            wiring.sockets.attach(self._port, self._row, now)
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

    def close(self, now: float) -> None:
        """No more audio comes: hands over the rest, ends the stream; `Finished` follows once the last words are in.
        Call it after the tick has read what had arrived."""
        if self._closed_at is not None:
            return
        self._closed_at = now
        if self._row < 0:
            self._release_port()
            self._finish(now)
            return
        try:
            for output in self._wiring.plane.close_leg(self._row, now):
                self.on_output(output, now)
            self._tell_keys(self._keys.settle(inf))
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
        self._books = self._now_books()
        wiring.plane.free_leg(self._row)
        if self._port is not None:
            wiring.reports.close(self._row, now)
        self._release_port()

    def give_up(self, now: float) -> None:
        """Closes it, and takes what words there are for the last ones: whatever comes later is not heard any more."""
        self.close(now)
        self._finish(now)

    def _release_port(self) -> None:
        if self._port is not None:
            self._wiring.sockets.release(self._port)
            self._port = None

    def _finish(self, now: float) -> None:
        if self._is_finished:
            return
        self._is_finished = True
        if self._row >= 0:
            self._speech.close(now)
            assert self._books is not None
            count(self._wiring.metrics, self.ledger(now), self._books, provider=self._stt_settings.provider)
        self._party.leg_done(self, now)

    # -- what an ingress and the API say ----------------------------------------------------------------------------

    @property
    def local(self) -> tuple[str, int]:
        """See `IngressLeg`."""
        if self._port is None:
            raise InvalidState("a leg without RTP has no port")
        media = self._offer.media
        peer = media.remote[0] if media is not None and media.remote is not None else self._party.source
        return self._wiring.advertise(peer), self._port.port

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
        """Hold, mute or pause as said by `source`; holds as long as any source says so. Idempotent."""
        sources = self._sources[cause]
        before = bool(sources)
        (sources.add if on else sources.discard)(source)
        if bool(sources) == before or self._row < 0 or self._closed_at is not None:
            return
        if cause is Cause.PAUSED and not on:  # what came in the pause and was not read yet is still of the pause
            self._wiring.after_read(self._unpause)
            return
        self._wiring.plane.signal(self._row, cause, on, now)
        if cause is Cause.PAUSED:
            self._stt.transcriber.purge(now)
            self._stt.wake()

    def _unpause(self, now: float) -> None:
        if not self._sources[Cause.PAUSED] and self._closed_at is None:
            self._wiring.plane.signal(self._row, Cause.PAUSED, False, now)

    def media_changed(self, media: MediaOffer, now: float) -> None:
        """See `IngressLeg`. The leg keeps the rate it began with; a narrower or wider codec is fitted to it."""
        self._offer = LegOffer(role=self.role, participant=self.participant, media=media)
        self.codec = media.formats[0].codec.name
        if self._row >= 0 and self._closed_at is None and self._port is not None:
            self._receive(media)

    def _receive(self, media: MediaOffer) -> None:
        if media.srtp != self._srtp_keys:  # the same key goes on with its packet index, which only time has taught us
            self._srtp_keys = media.srtp
            self._srtp = SrtpReceiver(media.srtp, before=self._srtp) if media.srtp is not None else None
        types = {entry.payload_type: PayloadType(entry.codec, entry.fmtp) for entry in media.formats}
        self._wiring.plane.incoming.receive_rtp(
            self._row,
            types,
            events=media.telephone_events,
            comfort=media.comfort_noise,
            remote=media.remote,
            srtp=self._srtp,
        )
        self._wiring.reports.media_changed(
            self._row,
            _rtcp_target(media),
            is_muxed=media.rtcp_mux,
            own_keys=media.srtp_own,
            clock_hz=media.formats[0].codec.clock_rate_hz,
        )
        self._tell_what_we_send()

    def sends(self, on: bool) -> None:
        """See `IngressLeg`."""
        self._sends = on
        if self._row >= 0 and self._closed_at is None and self._port is not None:
            self._tell_what_we_send()

    def _tell_what_we_send(self) -> None:
        media = self._offer.media
        formats = media.formats if media is not None and self._sends else ()
        format_ = next((f for f in formats if f.codec.make_encoder is not None), None)
        self._wiring.reports.sends(self._row, SentFormat(format_.payload_type, format_.codec) if format_ else None)

    def speaker_changed(self, *, role: str, participant: str, now: float) -> None:
        """See `IngressLeg`."""
        if (role or self.role, participant) == (self.role, self.participant):
            return
        self.role, self.participant = role or self.role, participant
        if self._row < 0 or self._closed_at is not None:
            return
        self._publish(events.leg_started, codec=self.codec, participant=participant)

    def ended(self, now: float) -> None:
        """See `IngressLeg`."""
        self._wiring.after_read(lambda read_at: self._party.end_leg(self, read_at))

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
        elif isinstance(output, TelephoneEvent):
            self._on_telephone_event(output, now)

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

    def _on_telephone_event(self, output: TelephoneEvent, now: float) -> None:
        if self._dtmf_events:
            self._tell_keys(self._keys.packet(output.payload, output.timestamp, clock_hz=output.clock_hz, now=now))
            self._watch_keys(now)

    def key_pressed(self, digit: str, *, duration_ms: int, now: float) -> None:
        """See `IngressLeg`."""
        if self._dtmf_events and self._row >= 0 and self._closed_at is None:
            self._tell_keys(self._keys.info(digit, duration_ms))

    def handle_timer(self, now: float) -> None:
        """Nothing more may have come of a key press."""
        self._watches_keys = False
        if self._closed_at is None:
            self._tell_keys(self._keys.settle(now))
            self._watch_keys(now)

    def _watch_keys(self, now: float) -> None:
        if self._keys.is_pressed and not self._watches_keys:
            self._watches_keys = True
            self._wiring.arm(self, now + SILENT_AFTER)

    def _tell_keys(self, keys: list[Key]) -> None:
        for key in keys:
            self._publish(events.dtmf, digit=key.digit, duration_ms=key.duration_ms)

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

    def ledger(self, now: float) -> dict[str, Any]:
        """The leg's books as the contract defines them; seconds."""
        if self._row < 0:
            return {"role": self.role}
        books = self._books or self._now_books()
        end = self._closed_at if self._closed_at is not None else now
        return ledger(self.role, books, self._stt.transcriber.ledger(now), lasted_s=end - self._started_at)


def _rtcp_target(media: MediaOffer) -> tuple[str, int] | None:
    if media.rtcp is not None or media.remote is None:
        return media.rtcp
    return media.remote[0], media.remote[1] + (0 if media.rtcp_mux else 1)


def _audio_of(media: MediaOffer | None) -> AudioFormat:
    if media is None:
        return WEBRTC_AUDIO
    codec = media.formats[0].codec
    if codec.wire_encoding == "mulaw":
        return AudioFormat("mulaw", 8000)
    if codec.wire_encoding == "alaw":
        return AudioFormat("alaw", 8000)
    return AudioFormat("linear16", codec.sample_rate_hz)
