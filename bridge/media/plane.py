"""The media plane: one synchronous tick for all legs. Sans-IO; the file that carries the thousand legs.

    push(arrivals)   a pass of datagrams, at most one per leg. The ordinary packet of every leg - the next one of a
                     G.711 stream - is checked and appended for all legs together; whatever is not ordinary goes
                     through that leg's `Receiver`, packet by packet.
    tick(now)        gives up on holes, lets the ears hear every leg's next 32 ms in one batch, lets the gates decide,
                     and returns what follows: audio to send, gates that moved, voices, digits.

State of all legs is in arrays (`Lanes`, `History`, `Ears`, `Gates`); a leg that does nothing special costs no Python
of its own. What a leg has of its own is its `Track`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from bridge.config import GateSettings, RtpSettings
from bridge.errors import CapacityError, MalformedPacket
from bridge.gate.ears import FRAME, Ears
from bridge.gate.gate import Change, Gates, Voice
from bridge.media.arrivals import Arrivals
from bridge.media.hearing import Hearing, kind_of
from bridge.media.history import HISTORY, History
from bridge.media.outputs import Audio, Books, Failure, Gate, Output, Speaking, Stirring, TelephoneEvent
from bridge.media.track import EXPAND, Track
from bridge.model import POSITION_HZ, AudioFormat, Cause
from bridge.rtp.frames import Frame, Kind, PayloadType
from bridge.rtp.lanes import MARKER, Lanes
from bridge.rtp.latch import Latch
from bridge.rtp.packet import is_rtcp, parse_rtp
from bridge.rtp.receiver import AHEAD, JUMP, Receiver
from bridge.rtp.srtp import SrtpReceiver

RTP_HEADER_BYTES = 12
ABSENT_AFTER = 0.1  # s without a packet: past any jitter, the leg's audio has stopped
FORGET_AFTER = 0.2  # s of absence after which the detectors start afresh
HEARD_SHARE = 0.66  # of all legs that a tick hears a frame of; 0.625 is what comes in
HEARD_AT_LEAST = 32  # legs; below that spreading them saves nothing
FAR_BEHIND = 3 * FRAME  # 96 ms: such a leg is heard whatever it costs
AHEAD_OF_EARS = 2 * FRAME  # 64 ms that leave through an open gate before they are heard: waiting would make words late
HEARD_PER_TICK = 12  # frames (0.38 s) of one leg that a tick may catch up with after a burst


class Plane:
    """Rows 0 to `capacity` - 1 are legs. Positions are in 1/8000 s of a leg's received audio."""

    def __init__(self, *, capacity: int, chunk_ms: int, rtp: RtpSettings) -> None:
        self.lanes = Lanes(capacity)
        self.gates = Gates(capacity)
        self._rtp = rtp
        self._chunk = chunk_ms * POSITION_HZ // 1000
        self._capacity = capacity
        self._histories: dict[tuple[int, int], History] = {}
        self._tracks: list[Track | None] = [None] * capacity
        self._hearing = Hearing(capacity, self._tracks, self._histories)
        self._ears = Ears(capacity, self._hearing.earlier)
        self._free = list(range(capacity - 1, -1, -1))
        self._is_live = np.zeros(capacity, bool)
        self._is_batched = np.zeros(capacity, bool)
        "A G.711 leg: its ordinary packets may take the batch path."
        self._is_secured = np.zeros(capacity, bool)
        "SRTP: each packet is opened first, and then goes the way of plain RTP."
        self._sent_to = np.zeros(capacity, np.int64)
        self._sources: list[tuple[str, int] | None] = [None] * capacity
        self._ordinary_at = np.zeros(capacity)
        "Arrival of the last packet that took the batch path: of those the latch learns only here."
        self._is_absent = np.zeros(capacity, bool)
        self._waiting: set[int] = set()
        self._out: list[Output] = []
        self.on_rtcp: Callable[[int, bytes, tuple[str, int], float], None] = lambda *_: None

    # -- legs -----------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Rows, used or not."""
        return self._capacity

    def open_leg(self, audio: AudioFormat, gate: GateSettings, now: float, *, told: Iterable[Cause] = ()) -> Track:
        """A row for a new leg. Raises CapacityError. `told`: what was signalled before. Its first gate state is among
        the next tick's outputs."""
        if not self._free:
            raise CapacityError("no free leg")
        row = self._free.pop()
        self.lanes.clear(row)
        self.lanes.last_arrival[row] = now
        self._ears.reset(row)
        track = Track(row, history=self._history(audio), audio=audio)
        self._tracks[row] = track
        self._hearing.reached[row] = self._sent_to[row] = 0
        self._is_batched[row] = self._is_secured[row] = self._is_absent[row] = False
        self._sources[row] = None
        self._ordinary_at[row] = 0.0
        self._hearing.kind[row] = kind_of(audio)
        self._is_live[row] = True
        changes = self.gates.open_leg(row, gate, 0)
        for cause in told:
            changes += self.gates.signal(row, cause, True, 0)
        self._follow(changes[-1:], now)  # one state to begin with
        return track

    def _history(self, audio: AudioFormat) -> History:
        key = (audio.rate_hz, audio.bytes_per_sample)
        if key not in self._histories:
            dtype = np.int16 if audio.bytes_per_sample == 2 else np.uint8
            self._histories[key] = History(self._capacity, rate_hz=audio.rate_hz, dtype=dtype)
        return self._histories[key]

    def receive_rtp(
        self,
        row: int,
        types: Mapping[int, PayloadType],
        *,
        event: int | None,
        comfort: frozenset[int],
        remote: tuple[str, int] | None,
        srtp: SrtpReceiver | None,
    ) -> None:
        """What the leg's RTP looks like, after each offer and answer."""
        track = self._track(row)
        if track.receiver is None or track.latch is None:
            jitter, most = self._rtp.jitter_ms / 1000, self._rtp.jitter_max_ms / 1000
            track.receiver = Receiver(self.lanes, row, jitter=jitter, jitter_max=most)
            track.latch = Latch(remote)
        else:
            track.latch.reopen(remote)
        track.srtp = srtp
        track.receiver.configure(types, event=event, comfort=comfort)
        same = all(kind.plain_bytes and kind.codec.wire_encoding == track.audio.encoding for kind in types.values())
        self._is_batched[row] = same and track.audio.encoding in EXPAND
        self._is_secured[row] = srtp is not None

    def close_leg(self, row: int, now: float) -> list[Output]:
        """The leg's last outputs: what is still owed of an open gate. Its books stay until `free_leg`."""
        track = self._track(row)
        if track.receiver is not None:
            self._play(track, track.receiver.flush())
        end = int(self.lanes.position[row])
        if track.is_open:
            self._send(track, end)
        self.gates.close_leg(row)
        self._is_live[row] = self._is_batched[row] = self.lanes.is_plain[row] = False
        self._waiting.discard(row)
        last = [output for output in self._out if output.row == row]
        self._out = [output for output in self._out if output.row != row]
        return last

    def free_leg(self, row: int) -> None:
        """After `close_leg`, once its books were read. Whatever went wrong there, the row lives no longer."""
        self._is_live[row] = self._is_batched[row] = self.lanes.is_plain[row] = False
        self._waiting.discard(row)
        self._out = [output for output in self._out if output.row != row]
        self._tracks[row] = None
        self._free.append(row)

    def _track(self, row: int) -> Track:
        track = self._tracks[row]
        assert track is not None, f"row {row} holds no leg"
        return track

    def source(self, row: int) -> tuple[str, int] | None:
        """Where the leg's RTP comes from; None before any came."""
        return self._sources[row]

    def signal(self, row: int, cause: Cause, on: bool, now: float) -> None:
        """Hold, mute or pause, signalled or asked for; in force at once, told with the next tick's outputs. A pause
        takes back what has not left yet, and ends behind what came in it and still waits for a lost packet."""
        track, taken_back = self._track(row), -1
        if cause is Cause.PAUSED and on:
            taken_back = self._take_back(track)
        elif cause is Cause.PAUSED and track.receiver is not None:
            self._play(track, track.receiver.flush())
        position = int(self.lanes.position[row])
        self._follow(self.gates.signal(row, cause, on, position), now)
        if taken_back >= 0:
            track.withheld.closed(taken_back, cause)
        if not on:
            self._ears.reset(row)
            self.lanes.last_arrival[row] = max(float(self.lanes.last_arrival[row]), now)  # absence counts from here

    def adjust(self, row: int, gate: GateSettings, now: float) -> None:
        """Other gate settings, in force at once, told with the next tick's outputs."""
        was_deaf = bool(self.gates.is_signalled[row])
        self._follow(self.gates.adjust(row, gate, int(self.lanes.position[row])), now)
        if was_deaf and not self.gates.is_signalled[row]:
            self._ears.reset(row)
            self.lanes.last_arrival[row] = max(float(self.lanes.last_arrival[row]), now)

    def _take_back(self, track: Track) -> int:
        """Audio among the next tick's outputs does not leave after all. Answers where it begins, -1: there is none."""
        row, audio = track.row, track.audio
        mine = [output for output in self._out if isinstance(output, Audio) and output.row == row]
        if not mine:
            return -1
        self._out = [output for output in self._out if output not in mine]
        n_bytes = sum(len(output.data) for output in mine)
        self._sent_to[row] -= n_bytes // (audio.bytes_per_sample * track.history.per_position)
        return int(self._sent_to[row])

    def capture_time(self, row: int, position: int) -> float:
        """Monotonic time at which the audio at `position` was captured; NaN before any audio came."""
        return float(self.lanes.origin[row]) + position / POSITION_HZ + self._track(row).shift_at(position)

    def books(self, row: int) -> Books:
        """The leg's figures as of now."""
        track, position = self._track(row), int(self.lanes.position[row])
        receiver, latch = track.receiver, track.latch
        withheld = track.withheld.until(position)
        sent = position - sum(withheld.values())
        packets = {"received": int(self.lanes.received[row]), "lost": 0, "late": 0, "duplicate": 0}
        if receiver is not None:
            counts = receiver.counts
            packets |= {"lost": counts.lost, "late": counts.late, "duplicate": counts.duplicate}
            packets["received"] -= counts.duplicate + counts.late
        return Books(
            received_s=position / POSITION_HZ,
            sent_s=sent / POSITION_HZ,
            withheld_s={str(cause): n / POSITION_HZ for cause, n in withheld.items()},
            concealed_s=track.concealed / POSITION_HZ,
            packets=packets,
            foreign=latch.foreign if latch else 0,
            malformed=track.malformed + (receiver.counts.malformed + receiver.counts.unknown if receiver else 0),
        )

    # -- audio in -------------------------------------------------------------------------------------------------

    def push(self, batch: Arrivals) -> None:
        """A pass of datagrams. Nothing on the wire raises: it is taken, or counted and dropped."""
        if not batch.rows:
            return
        rows = np.array(batch.rows, np.int64)
        n = len(rows)
        refused = self._open_srtp(batch, rows) if self._is_secured[rows].any() else []
        words = np.ascontiguousarray(batch.data[:n, :RTP_HEADER_BYTES]).view(">u4").astype(np.int64)
        times, lengths = np.array(batch.times), np.array(batch.lengths, np.int64)
        lanes, sources = self.lanes, self._sources
        units = lanes.payload_bytes[rows]
        offsets = times - (units + lanes.position[rows]) / POSITION_HZ - lanes.shift[rows]
        plain = lanes.is_plain[rows] & self._is_batched[rows]
        plain &= (words[:, 0] & ~MARKER) == lanes.first_word[rows]
        plain &= (words[:, 1] == lanes.timestamp[rows]) & (words[:, 2] == lanes.ssrc[rows])
        plain &= lengths == units + RTP_HEADER_BYTES
        plain &= (offsets < lanes.offset[rows] + JUMP) & (offsets > lanes.origin[rows] - AHEAD)
        plain &= np.array([sources[row] == source for row, source in zip(batch.rows, batch.sources, strict=True)], bool)
        if batch.rtcp or refused:
            plain[[*batch.rtcp, *refused]] = False
        if plain.all():
            self._append(rows, batch.data[:n], units, offsets, times)
            return
        taken = np.flatnonzero(plain)
        if taken.size:
            self._append(rows[taken], batch.data[taken], units[taken], offsets[taken], times[taken])
        from_rtcp, dropped = frozenset(batch.rtcp), frozenset(refused)
        for index in np.flatnonzero(~plain):
            if index in dropped:
                continue
            row, data = int(rows[index]), batch.data[index, : lengths[index]].tobytes()
            try:
                self._take(row, data, batch.sources[index], batch.times[index], index in from_rtcp)
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._fail(row, error)

    def _open_srtp(self, batch: Arrivals, rows: NDArray[np.int64]) -> list[int]:
        """Decrypts the batch's SRTP where it lies. Answers which packets are refused: not authentic, or seen before."""
        refused: list[int] = []
        from_rtcp = frozenset(batch.rtcp)
        for index in np.flatnonzero(self._is_secured[rows] & self._is_live[rows]):
            track = self._track(int(rows[index]))
            data = batch.data[index, : batch.lengths[index]].tobytes()
            if track.srtp is None or index in from_rtcp or is_rtcp(data):
                continue
            try:
                opened = track.srtp.unprotect(data, batch.times[index])
            except MalformedPacket:
                track.malformed += 1
                refused.append(int(index))
                continue
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._fail(track.row, error)
                refused.append(int(index))
                continue
            batch.data[index, : len(opened)] = np.frombuffer(opened, np.uint8)
            batch.lengths[index] = len(opened)
        return refused

    def _fail(self, row: int, error: Exception) -> None:
        self._is_live[row] = self._is_batched[row] = False
        self._waiting.discard(row)
        self._out.append(Failure(row, error))

    def _append(
        self,
        rows: NDArray[np.int64],
        data: NDArray[np.uint8],
        units: NDArray[np.int64],
        offsets: NDArray[np.float64],
        times: NDArray[np.float64],
    ) -> None:
        lanes = self.lanes
        late = self.gates.is_open[rows] & (lanes.position[rows] + units - self._sent_to[rows] > HISTORY)
        for row in rows[late]:
            self._send(self._track(int(row)), int(lanes.position[row]))
        is_uniform = bool((units == units[0]).all())
        for size in units[:1] if is_uniform else np.unique(units):
            same = slice(None) if is_uniform else units == size
            block = data[same, RTP_HEADER_BYTES : RTP_HEADER_BYTES + int(size)]
            self._histories[(POSITION_HZ, 1)].write_block(rows[same], lanes.position[rows[same]], block)
        seq = (lanes.first_word[rows] + 1) & 0xFFFF
        lanes.first_word[rows] = (lanes.first_word[rows] & 0xFFFF0000) | seq
        lanes.cycles[rows] += seq == 0
        lanes.timestamp[rows] = (lanes.timestamp[rows] + units) & 0xFFFFFFFF
        lanes.position[rows] += units
        lanes.received[rows] += 1
        lanes.last_arrival[rows] = self._ordinary_at[rows] = times
        lanes.note_offsets(rows, offsets)

    def _take(self, row: int, data: bytes, source: tuple[str, int], arrival: float, came_on_rtcp: bool) -> None:
        track = self._tracks[row]
        if track is None or not self._is_live[row] or track.receiver is None or track.latch is None:
            return
        try:
            if came_on_rtcp or is_rtcp(data):
                plain = track.srtp.unprotect_rtcp(data, arrival) if track.srtp else data
                if track.srtp or track.latch.admits_rtcp(source):
                    self.on_rtcp(row, plain, source, arrival)
                return
            packet = parse_rtp(data)
        except MalformedPacket:
            track.malformed += 1
            return
        if not track.receiver.knows(packet.payload_type) and source != track.latch.source:
            track.malformed += 1
            return
        track.latch.heard(float(self._ordinary_at[row]))
        if not track.latch.admits(source, arrival):
            return
        self._sources[row] = track.latch.source
        self._play(track, track.receiver.push(packet, arrival))
        if track.receiver.is_waiting:
            self._waiting.add(row)

    def push_pcm(self, row: int, samples: NDArray[np.int16], start: float, now: float) -> None:
        """Decoded audio at the leg's own rate whose first sample was captured at `start` (WebRTC). A start that lies
        more than the jitter bound after the end of the audio before it leaves a gap."""
        lanes, track = self.lanes, self._track(row)
        position = int(lanes.position[row])
        length = len(samples) // track.history.per_position
        if length == 0:
            return
        offset = start - position / POSITION_HZ - float(lanes.shift[row])
        origin = float(lanes.origin[row])
        if origin != origin:
            lanes.anchor(row, offset)
        elif abs(offset - origin) > self._rtp.jitter_ms / 1000:
            lanes.shift[row] += offset - origin
            offset = origin
        lanes.note_offset(row, offset)
        lanes.position[row] = position + length
        lanes.last_arrival[row] = now
        lanes.received[row] += 1
        track.mark(position, float(lanes.shift[row]))
        track.put_linear(position, length, samples, track.audio.rate_hz)

    def _play(self, track: Track, frames: list[Frame]) -> None:
        for frame in frames:
            if track.is_open and frame.position + frame.length - self._sent_to[track.row] > HISTORY:
                self._send(track, frame.position)  # unheard, rather than written over: a burst that beats the ears
            track.mark(frame.position, frame.shift)
            if frame.kind is Kind.AUDIO:
                track.put_payload(frame)
            elif frame.kind is Kind.LOST:
                track.put_concealed(frame)
            elif frame.kind is Kind.COMFORT:
                track.put_silence(frame)
            else:
                clock_hz = track.receiver.clock_hz if track.receiver is not None else POSITION_HZ
                self._out.append(TelephoneEvent(track.row, frame.payload, frame.timestamp, clock_hz))

    # -- the tick ---------------------------------------------------------------------------------------------------

    def ready(self) -> list[Output]:
        """Chunks that have just become whole and need not wait for the ears. Between the passes of `push` and `tick`:
        hearing takes milliseconds, and audio that is to be sent anyhow should not be late by them."""
        self._send_chunks()
        out, self._out = self._out, []
        return out

    def tick(self, now: float) -> list[Output]:
        """Everything that is due. Call it every `tick_ms`, after the passes of `push`."""
        self.lanes.advance(now)
        self._release(now)
        self._note_absence(now)
        self._listen(now)
        self._send_chunks()
        out, self._out = self._out, []
        return out

    def _release(self, now: float) -> None:
        for row in list(self._waiting):
            try:
                self._release_one(row, now)
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._fail(row, error)

    def _release_one(self, row: int, now: float) -> None:
        track = self._track(row)
        assert track.receiver is not None
        self._play(track, track.receiver.release(now))
        if track.receiver.in_comfort:
            self.lanes.last_arrival[row] = now
        if not track.receiver.is_waiting:
            self._waiting.discard(row)

    def _note_absence(self, now: float) -> None:
        silent_for = now - self.lanes.last_arrival
        absent = self._is_live & (silent_for > ABSENT_AFTER)
        if not absent.any() and not self._is_absent.any():
            return
        for row in np.flatnonzero(absent & ~self._is_absent & (silent_for > FORGET_AFTER)):
            self._ears.reset(int(row))
            self._is_absent[row] = True
        self._is_absent &= absent
        rows = np.flatnonzero(absent & ~self.gates.is_signalled)
        if rows.size:
            self._follow(self.gates.absent(rows, silent_for[rows], self.lanes.position[rows]), now)

    def _listen(self, now: float) -> None:
        gates, position, reached = self.gates, self.lanes.position, self._hearing.reached
        deaf = self._is_live & gates.is_signalled
        reached[deaf] = -(-position[deaf] // FRAME) * FRAME  # rounded up: frames stay aligned for the batch
        np.maximum(reached, (position - HISTORY + self._chunk) // FRAME * FRAME, out=reached)
        budget = max(HEARD_AT_LEAST, round(HEARD_SHARE * np.count_nonzero(self._is_live)))
        for _ in range(HEARD_PER_TICK):
            rows = self._due(position - reached, budget)
            if not rows.size:
                break
            budget = max(budget - rows.size, 0)
            heard = self._ears.hear(rows, self._hearing.frames(rows))
            reached[rows] += FRAME
            self._follow(gates.hear(heard, reached[rows]), now)

    def _due(self, behind: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
        """The rows to be heard next, at most `budget` of them unless they are far behind. 20 ms packets make 5 frames
        in 8 ticks: legs that began together would all be heard in the same tick, and none in the next."""
        rows = np.flatnonzero(self._is_live & (behind >= FRAME) & ~self.gates.is_signalled)
        if rows.size <= budget:
            return rows
        waiting = behind[rows]
        most = max(budget, np.count_nonzero(waiting >= FAR_BEHIND))
        return np.sort(rows[np.argsort(-waiting, kind="stable")[:most]])

    def _follow(self, changes: list[Change], now: float) -> None:
        """What the gates say, voices first: a turn must know that its speech has ended before a hold ends the turn."""
        for voice in self.gates.take_voices():
            self._speak(voice)
        self._out += map(Stirring, self.gates.take_stirs())
        for change in changes:
            self._apply(change, now)

    def _speak(self, voice: Voice) -> None:
        at = self.capture_time(voice.row, max(voice.position, 0))
        self._out.append(Speaking(voice.row, voice.is_speaking, at))

    # -- audio out --------------------------------------------------------------------------------------------------

    def _apply(self, change: Change, now: float) -> None:
        row, track = change.row, self._track(change.row)
        position = change.position
        if change.is_open:
            position = max(position, int(self.lanes.position[row]) - HISTORY + self._chunk, int(self._sent_to[row]))
            self._sent_to[row] = position
            track.withheld.opened(position)
        else:
            position = self._close(track, change)
        track.is_open = change.is_open
        at = self.capture_time(row, position)
        is_latest = position >= self.lanes.position[row]
        if at != at or (is_latest and now - at > ABSENT_AFTER):  # nothing was captured then: it happened now
            at = now
        self._out.append(Gate(row, change, at, self.capture_time(row, change.speech_end)))

    def _close(self, track: Track, change: Change) -> int:
        """Sends what is still to be sent, and books the rest. Answers from where on the cause holds."""
        row, position, cause = track.row, change.position, change.cause
        assert cause is not None
        if not track.is_open:
            # the ears may be behind what was sent (AHEAD_OF_EARS, or a burst that beat them): that was not withheld
            position = max(position, int(self._sent_to[row]))
        held_from = position
        if track.is_open:
            if cause is not Cause.PAUSED:  # of card data not even the rest of the chunk leaves
                self._send(track, position)
            held_from = int(self._sent_to[row])
            position = max(position, held_from, change.signalled_at)
            if cause is not Cause.PAUSED and held_from < change.signalled_at:
                track.withheld.closed(held_from, Cause.SILENCE)  # the hangover's, which is not of the hold
                held_from = change.signalled_at
        if cause in BARRIERS:
            self._sent_to[row] = position
        track.withheld.closed(held_from, cause)
        return position

    def _send_chunks(self) -> None:
        ready = np.minimum(self._hearing.reached + AHEAD_OF_EARS, self.lanes.position)
        waiting = np.minimum(ready, self.gates.send_to) - self._sent_to  # the hangover's silence waits for its verdict
        for row in np.flatnonzero(self._is_live & self.gates.is_open & (waiting >= self._chunk)):
            due = int(waiting[row]) // self._chunk * self._chunk
            self._send(self._track(int(row)), int(self._sent_to[row]) + due)

    def _send(self, track: Track, end: int) -> None:
        start = int(self._sent_to[track.row])
        if end <= start:
            return
        origin = float(self.lanes.origin[track.row])
        for first, last, shift in track.runs(start, end):
            self._out.append(Audio(track.row, track.read(first, last), origin + first / POSITION_HZ + shift))
        self._sent_to[track.row] = end


BARRIERS = (Cause.PAUSED, Cause.HOLD, Cause.MUTE)  # nothing of what lies behind one is ever sent as pre-roll
