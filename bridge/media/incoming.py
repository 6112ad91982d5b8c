"""Audio in: datagrams and decoded audio of all legs, checked and put into the histories.

The ordinary packet of every leg - the next one of its stream - is checked for all legs together. G.711's are appended
together as well, others are decoded one by one; whatever is not ordinary goes through that leg's `Receiver`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from bridge.config import RtpSettings
from bridge.errors import MalformedPacket
from bridge.media.arrivals import Arrivals, address_of, packed_address
from bridge.media.history import HISTORY, UNHEARD_MOST
from bridge.media.legs import Legs
from bridge.media.outputs import TelephoneEvent
from bridge.media.track import Track
from bridge.model import POSITION_HZ
from bridge.rtp.frames import Frame, Kind, PayloadType
from bridge.rtp.lanes import MARKER
from bridge.rtp.latch import Address, Latch, Stream
from bridge.rtp.packet import is_rtcp, parse_rtp
from bridge.rtp.receiver import AHEAD, JUMP, Receiver
from bridge.rtp.srtp import SrtpReceiver

RTP_HEADER_BYTES = 12

Rows = NDArray[np.int64]


class Incoming:
    """`make_room(rows, starts, ends)` is called before audio is written: the rings hold 3 s."""

    def __init__(self, legs: Legs, make_room: Callable[[Rows, Rows, Rows], None], *, rtp: RtpSettings) -> None:
        self._legs = legs
        self._make_room = make_room
        self._rtp = rtp
        self._is_batched = np.zeros(legs.capacity, bool)
        "The last audio was G.711 as the leg keeps it: the next is appended as it is, if it is the expected packet."
        self._is_secured = np.zeros(legs.capacity, bool)
        "SRTP: each packet is opened first, and then goes the way of plain RTP."
        self._sources = np.zeros((legs.capacity, 3), np.uint64)
        "The address that each row's latch has closed on, packed; zeros before."
        self._ordinary_at = np.zeros(legs.capacity)
        "Arrival of the last ordinary packet: of those the latch learns only here."
        self._waiting: set[int] = set()
        "Rows in which a lost packet is waited for."
        self.on_rtcp: Callable[[int, bytes, Address, float], None] = lambda *_: None

    def open_leg(self, row: int) -> None:
        """A new leg, of which nothing has come."""
        self._is_batched[row] = self._is_secured[row] = False
        self._sources[row] = 0
        self._ordinary_at[row] = 0.0
        self._waiting.discard(row)

    def receive_rtp(
        self,
        row: int,
        types: Mapping[int, PayloadType],
        *,
        events: Mapping[int, int],
        comfort: frozenset[int],
        remote: Address | None,
        srtp: SrtpReceiver | None,
        left: Collection[Stream] = (),
    ) -> None:
        """What the leg's RTP looks like, after each offer and answer. `left`: see `Latch`; as of the first time."""
        track = self._legs.track(row)
        if track.receiver is None or track.latch is None:
            jitter, most = self._rtp.jitter_ms / 1000, self._rtp.jitter_max_ms / 1000
            track.receiver = Receiver(self._legs.lanes, row, jitter=jitter, jitter_max=most)
            track.latch = Latch(remote, left=left)
        else:
            track.latch.reopen(remote)
        track.srtp = srtp
        track.receiver.configure(types, events=events, comfort=comfort)
        self._is_secured[row] = srtp is not None

    def source(self, row: int) -> Address | None:
        """Where the leg's RTP comes from; None before any came."""
        return address_of(self._sources[row]) if self._sources[row].any() else None

    def stream(self, row: int) -> Stream | None:
        """The leg's RTP so far, while the row is nobody else's; None before any came."""
        source, lanes = self.source(row), self._legs.lanes
        return None if source is None else Stream(source, lanes.ssrc.item(row), lanes.first_word.item(row) & 0xFFFF)

    def flush(self, track: Track) -> None:
        """What still waits for a lost packet waits no longer."""
        if track.receiver is not None:
            self._play(track, track.receiver.flush())

    def push(self, batch: Arrivals) -> None:
        """A pass of datagrams. Nothing on the wire raises: it is taken, or counted and dropped.

        Three ways in, cheapest first: `_append` writes the ordinary packets of all G.711 legs in one block, `_decode`
        those of other codecs one by one, and `_take` gives whatever is not ordinary to its leg's receiver.
        """
        if not batch:
            return
        rows, times = batch.rows, batch.times
        refused = self._open_srtp(batch, rows) if self._is_secured[rows].any() else []
        lanes, is_batched = self._legs.lanes, self._is_batched[rows]
        offsets = times - (lanes.length[rows] + lanes.position[rows]) / POSITION_HZ - lanes.shift[rows]
        ordinary = self._are_ordinary(batch, rows, offsets, is_batched)
        ordinary[refused] = False
        if ordinary.all() and is_batched.all():  # a thousand legs of G.711: nothing is picked apart
            self._append(rows, batch.data[: len(rows)], offsets, times)
            return
        taken = np.flatnonzero(ordinary & is_batched)
        if taken.size:
            self._append(rows[taken], batch.data[taken], offsets[taken], times[taken])
        taken = np.flatnonzero(ordinary & ~is_batched)
        if taken.size:
            ordinary[taken] = self._decode(rows, taken, batch, offsets, times)
        for index in sorted(set(np.flatnonzero(~ordinary).tolist()).difference(refused)):
            row, source = int(rows[index]), address_of(batch.sources[index])
            try:
                self._take(row, batch.datagram(index), source, float(times[index]), bool(batch.is_rtcp[index]))
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._legs.fail(row, error)

    def _are_ordinary(
        self, batch: Arrivals, rows: Rows, offsets: NDArray[np.float64], is_batched: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Which packets are the very ones that their lanes expect: their header word for word (but for the marker), of
        the expected length, from the known address, and neither late nor early beyond jitter (`JUMP`, `AHEAD`)."""
        lanes = self._legs.lanes
        header = np.ascontiguousarray(batch.data[: len(rows), :RTP_HEADER_BYTES]).view(">u4").astype(np.int64)
        first_word, timestamp, ssrc = header[:, 0] & ~MARKER, header[:, 1], header[:, 2]
        ordinary: NDArray[np.bool_] = lanes.is_plain[rows] & ~batch.is_rtcp & (first_word == lanes.first_word[rows])
        ordinary &= (timestamp == lanes.timestamp[rows]) & (ssrc == lanes.ssrc[rows])
        is_as_long = batch.lengths == lanes.length[rows] + RTP_HEADER_BYTES
        ordinary &= ~is_batched | is_as_long  # of others `_decode` asks the codec
        ordinary &= (offsets < lanes.offset[rows] + JUMP) & (offsets > lanes.origin[rows] - AHEAD)
        ordinary &= (batch.sources == self._sources[rows]).all(axis=1)
        return ordinary

    def _open_srtp(self, batch: Arrivals, rows: NDArray[np.int64]) -> list[int]:
        """Decrypts the batch's SRTP where it lies. Answers which packets are refused: not authentic, or seen before."""
        refused: list[int] = []
        secured = np.flatnonzero(self._is_secured[rows] & self._legs.is_live[rows] & ~batch.is_rtcp)
        flat, stride, lengths = batch.data.reshape(-1).data, batch.data.shape[1], batch.lengths
        whose, sizes, times = rows[secured].tolist(), lengths[secured].tolist(), batch.times[secured].tolist()
        for index, row, size, arrival in zip(secured.tolist(), whose, sizes, times, strict=True):
            track, at = self._legs.track(row), index * stride
            data = bytes(flat[at : at + size])
            if track.srtp is None or is_rtcp(data):
                continue
            try:
                opened = track.srtp.unprotect(data, arrival)
            except MalformedPacket:
                track.malformed += 1
                refused.append(index)
                continue
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._legs.fail(track.row, error)
                refused.append(index)
                continue
            flat[at : at + len(opened)] = opened
            lengths[index] = len(opened)
        return refused

    def _append(
        self,
        rows: NDArray[np.int64],
        data: NDArray[np.uint8],
        offsets: NDArray[np.float64],
        times: NDArray[np.float64],
    ) -> None:
        """The ordinary packets of G.711 legs."""
        lanes = self._legs.lanes
        sizes, positions = lanes.length[rows], lanes.position[rows]
        self._go_on(rows, offsets, times)
        is_uniform = bool((sizes == sizes[0]).all())
        for size in sizes[:1].tolist() if is_uniform else set(sizes.tolist()):
            same = slice(None) if is_uniform else sizes == size
            block = data[same, RTP_HEADER_BYTES : RTP_HEADER_BYTES + size]
            self._legs.histories[(POSITION_HZ, 1)].write_block(rows[same], positions[same], block)

    def _decode(
        self,
        rows: NDArray[np.int64],
        taken: NDArray[np.int64],
        batch: Arrivals,
        offsets: NDArray[np.float64],
        times: NDArray[np.float64],
    ) -> NDArray[np.bool_]:
        """The batch's ordinary packets of other legs. Answers which of `taken` were taken: not those that last longer
        or shorter than the one before."""
        lanes, tracks = self._legs.lanes, self._legs.tracks
        flat, stride = batch.data.reshape(-1).data, batch.data.shape[1]
        due: list[tuple[Track, bytes]] = []
        lasting = np.zeros(taken.size, bool)
        lasts, sizes = lanes.length[rows[taken]].tolist(), batch.lengths[taken].tolist()
        for n, (index, row, length, size) in enumerate(
            zip(taken.tolist(), rows[taken].tolist(), lasts, sizes, strict=True)
        ):
            track, at = tracks[row], index * stride
            payload = bytes(flat[at + RTP_HEADER_BYTES : at + size])
            if track is None or not _lasts(track, payload, length):
                continue
            due.append((track, payload))
            lasting[n] = True
        now = taken[lasting]
        positions, lengths = lanes.position[rows[now]].tolist(), lanes.length[rows[now]].tolist()
        self._go_on(rows[now], offsets[now], times[now])
        for (track, payload), position, length in zip(due, positions, lengths, strict=True):
            try:
                track.put_next(position, length, payload)
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._legs.fail(track.row, error)
        return lasting

    def _go_on(self, rows: NDArray[np.int64], offsets: NDArray[np.float64], times: NDArray[np.float64]) -> None:
        """Each row has got its expected packet: what is expected next. Its audio is still to be written."""
        lanes = self._legs.lanes
        starts = lanes.position[rows]
        ends = starts + lanes.length[rows]
        self._make_room(rows, starts, ends)
        seq = (lanes.first_word[rows] + 1) & 0xFFFF
        lanes.first_word[rows] = (lanes.first_word[rows] & 0xFFFF0000) | seq
        lanes.cycles[rows] += seq == 0
        lanes.timestamp[rows] = (lanes.timestamp[rows] + lanes.units[rows]) & 0xFFFFFFFF
        lanes.position[rows] = ends
        lanes.received[rows] += 1
        lanes.last_arrival[rows] = self._ordinary_at[rows] = times
        lanes.note_offsets(rows, offsets)

    def _take(self, row: int, data: bytes, source: Address, arrival: float, came_on_rtcp: bool) -> None:
        track = self._legs.tracks[row]
        if track is None or not self._legs.is_live[row] or track.receiver is None or track.latch is None:
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
        if track.latch.is_left_over(source, packet.ssrc, packet.sequence):
            return
        track.latch.heard(float(self._ordinary_at[row]))
        if not track.latch.admits(source, arrival):
            return
        self._sources[row] = packed_address(source)
        self._play(track, track.receiver.push(packet, arrival))
        if track.receiver.is_waiting:
            self._waiting.add(row)

    def push_pcm(self, row: int, samples: NDArray[np.int16], start: float, now: float) -> None:
        """Decoded audio at the leg's own rate whose first sample was captured at `start` (WebRTC). A start that lies
        more than the jitter bound after the end of the audio before it leaves a gap; an earlier one tells that the
        audio before was late as well."""
        lanes, track = self._legs.lanes, self._legs.track(row)
        position = int(lanes.position[row])
        length = len(samples) // track.history.per_position
        if length == 0:
            return
        offset = start - position / POSITION_HZ - float(lanes.shift[row])
        origin = float(lanes.origin[row])
        if origin != origin:
            lanes.anchor(row, offset)
        elif not -AHEAD < offset - origin < self._rtp.jitter_ms / 1000:
            lanes.shift[row] += offset - origin
            offset = origin
        self._make_room_for(track, position, length)
        lanes.note_offset(row, offset)
        lanes.position[row] = position + length
        lanes.last_arrival[row] = now
        lanes.received[row] += 1
        track.mark(position, float(lanes.shift[row]))
        track.put_linear(position, length, samples, track.audio.rate_hz)

    def _make_room_for(self, track: Track, start: int, length: int) -> None:
        legs, row, end = self._legs, track.row, start + length
        if end - legs.heard_to[row] > UNHEARD_MOST or (track.is_open and end - legs.sent_to[row] > HISTORY):
            self._make_room(np.array([row]), np.array([start]), np.array([end]))

    def _play(self, track: Track, frames: list[Frame]) -> None:
        for frame in frames:
            self._make_room_for(track, frame.position, frame.length)
            track.mark(frame.position, frame.shift)
            if frame.kind is Kind.AUDIO:
                track.put_payload(frame)
                self._is_batched[track.row] = track.is_passed_through
            elif frame.kind is Kind.LOST:
                track.put_concealed(frame.position, frame.length)
            elif frame.kind is Kind.COMFORT:
                track.put_silence(frame)
            else:
                event = TelephoneEvent(track.row, frame.payload, frame.timestamp, frame.clock_hz)
                self._legs.outputs.append(event)

    def release(self, now: float) -> None:
        """Gives up on packets that are too late by now."""
        for row in list(self._waiting):
            try:
                self._release_one(row, now)
            except Exception as error:  # noqa: BLE001 - the boundary of one leg; told as a Failure
                self._legs.fail(row, error)

    def _release_one(self, row: int, now: float) -> None:
        if not self._legs.is_live[row]:
            self._waiting.discard(row)
            return
        track = self._legs.track(row)
        assert track.receiver is not None
        self._play(track, track.receiver.release(now))
        if track.receiver.in_comfort:
            self._legs.lanes.last_arrival[row] = now
        if not track.receiver.is_waiting:
            self._waiting.discard(row)


def _lasts(track: Track, payload: bytes, length: int) -> bool:
    """Whether a payload of the track's last type lasts that long."""
    if track.payload_type is None:
        return False
    codec = track.payload_type.codec
    try:
        return codec.duration(payload) * POSITION_HZ // codec.clock_rate_hz == length
    except ValueError:
        return False
