"""One leg's packets in, its audio in order out. Sans-IO; time is passed in.

Nobody listens live, so nothing is played out by a clock: a packet that is next in sequence is released at once, and
only a hole is waited for (`jitter` seconds, more on a jittery path). What the sender did and what the network did are
told apart (RFC 3550, RFC 3551 section 4.1, RFC 3389, RFC 4733):

    sequence gap                      lost packets: concealed
    timestamp gap, sequence in order  silence not sent (DTX, hold): absent, nothing is made up
    neither, yet late by a jump       a burst after a stall, or a sender that stopped its clock: see `_settle_doubt`
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from bridge.model import POSITION_HZ
from bridge.rtp.clock_guess import ClockGuess
from bridge.rtp.frames import Counts, Frame, Kind, PayloadType
from bridge.rtp.lanes import VERSION_2, Lanes
from bridge.rtp.packet import RtpPacket
from bridge.rtp.rivals import Rivals
from bridge.rtp.sequence import signed16, signed32

MAX_DROPOUT = 3000  # packets ahead that still are the same stream (RFC 3550 A.1)
MAX_MISORDER = 100  # packets behind (RFC 3550 A.1)
MAX_CONCEAL = POSITION_HZ  # positions (1 s): a longer hole is absence, not loss
MAX_BUFFERED = 200  # packets (4 s at 20 ms) held behind a hole or a doubt
JUMP = 0.25  # s: two packets whose delay differs by more are not explained by jitter
AHEAD = 0.3  # s: a packet earlier than the path allows by that much means the sender's clock leapt
PACED = 0.005  # s: packets that come on time do so to within that; those of a burst are earlier
DOUBT = 0.1  # s: how long a doubt may hold audio back
FOLLOWS = 1.0  # s: what came longer ago may have been played over since, its time is past
LATEST = 60.0  # s: no network keeps a packet for longer
COMFORT_BEHIND = 0.06  # s that filled-in comfort noise stays behind real time, so that audio can still come in
COMFORT_STEPS = 50  # of 20 ms at a time; what a loop that stood still is behind by, it fills in its next ticks


class _Item(NamedTuple):
    seq: int
    timestamp: int
    payload: bytes
    payload_type: int
    arrival: float


class Receiver:
    """Takes every packet that the batch path did not. `push` and `release` return frames in order."""

    def __init__(self, lanes: Lanes, row: int, *, jitter: float, jitter_max: float) -> None:
        self._lanes = lanes
        self._row = row
        self._jitter = jitter
        self._jitter_max = jitter_max
        self.counts = Counts()
        self._types: Mapping[int, PayloadType] = {}
        self._agreed: Mapping[int, PayloadType] = {}
        "By the last offer and answer; `_types` also holds those of the one before."
        self._rivals = Rivals()
        self._guesses: dict[int, ClockGuess] = {}
        "Of payload types whose senders count in one of two clocks."
        self._pushed = 0
        self._ordinary = 0
        "Packets that the batch path took, as far as the guesses know."
        self._events: Mapping[int, int] = {}
        self._comfort_types: frozenset[int] = frozenset()
        self._buffer: dict[int, _Item] = {}
        self._hole_since = 0.0
        self._skipped = array("H")
        self._leapt: _Item | None = None
        "A packet far from what is expected: dropped, unless the next one follows it."
        self._missing = 0
        self._is_new_clock = True
        "The next audio starts a timestamp line that has nothing to do with the one before."
        self._is_started = False
        self._last_units = 0
        self.clock_hz = POSITION_HZ
        "Of the last audio's timestamps."
        self.in_comfort = False

    def configure(
        self, types: Mapping[int, PayloadType], *, events: Mapping[int, int], comfort: frozenset[int]
    ) -> None:
        """What may come, after an offer was answered; `events`: each payload type's clock in Hz. Audio of the types
        that were agreed before is still taken: such packets are on their way (RFC 3264 section 8.3.2)."""
        self._events = events
        taken = comfort | events.keys()  # a number that meant audio before may now mean one of these
        before = {number: kind for number, kind in self._agreed.items() if number not in taken}
        self._types, self._agreed = {**before, **types}, types
        self._comfort_types = comfort
        self.counts.unknown += self._rivals.forget()
        self._guesses = {
            number: self._guesses.get(number) or ClockGuess(kind.codec.clock_rate_hz, kind.codec.other_clock_hz)
            for number, kind in self._types.items()
            if kind.codec.other_clock_hz
        }
        self._expect_slowly()

    def _expect_slowly(self) -> None:
        self._lanes.is_plain[self._row] = False

    @property
    def next_seq(self) -> int:
        return self._lanes.first_word.item(self._row) & 0xFFFF

    @property
    def is_waiting(self) -> bool:
        """Something is held back: call `release` every tick."""
        return bool(self._buffer) or self.in_comfort

    def knows(self, payload_type: int) -> bool:
        """Whether a packet of that type may be ours at all (a latch must not follow anything else)."""
        return payload_type in self._types or payload_type in self._events or payload_type in self._comfort_types

    # -- in -----------------------------------------------------------------------------------------------------

    def push(self, packet: RtpPacket, arrival: float) -> list[Frame]:
        """One packet, `arrival` in monotonic seconds. Returns what can be released because of it."""
        lanes, row = self._lanes, self._row
        if self._is_started and packet.ssrc != lanes.ssrc[row] and self._rivals.knows(packet.ssrc):
            return self._push_left(packet, arrival)
        lanes.received[row] += 1
        self._pushed += 1
        lanes.last_arrival[row] = arrival
        item = _Item(packet.sequence, packet.timestamp, packet.payload, packet.payload_type, arrival)
        if not self.knows(packet.payload_type):
            self.counts.unknown += 1
        out: list[Frame] = []
        if not self._is_started:
            self._start(item, packet.ssrc)
        elif packet.ssrc != lanes.ssrc[row]:
            out += self.flush()
            self.counts.restarts += 1
            self._rivals.leave(int(lanes.ssrc[row]))
            self._start(item, packet.ssrc)
        return out + self._place(item)

    def _push_left(self, packet: RtpPacket, arrival: float) -> list[Frame]:
        """A packet of a stream that was left for the present one."""
        present_at = float(self._lanes.last_arrival[self._row])
        taken, n_dropped = self._rivals.judge(packet, arrival, present_at=present_at)
        self.counts.unknown += n_dropped
        return [frame for each, at in taken for frame in self.push(each, at)]

    def _start(self, item: _Item, ssrc: int) -> None:
        lanes, row = self._lanes, self._row
        lanes.ssrc[row] = ssrc
        lanes.cycles[row] = 0
        lanes.first_sequence[row] = item.seq
        lanes.received_before[row] = lanes.received[row] - 1  # all but this packet
        self._is_started = True
        self._is_new_clock = True
        self._leapt = None
        del self._skipped[:]
        for guess in self._guesses.values():
            guess.begin()
        self._expect(item.seq, item.timestamp)

    def _expect(self, seq: int, timestamp: int) -> None:
        lanes, row = self._lanes, self._row
        lanes.first_word[row] = (lanes.first_word.item(row) & 0xFFFF0000) | (seq & 0xFFFF)
        lanes.timestamp[row] = timestamp & 0xFFFFFFFF

    def _place(self, item: _Item) -> list[Frame]:
        ahead = signed16(item.seq - self.next_seq)
        if ahead == 0 and not self._buffer:
            if self._is_doubtful(item):
                self._hold(item)
                return []
            return self._deliver(item)
        if 0 <= ahead < MAX_DROPOUT:
            self._leapt = None
            if item.seq in self._buffer:
                self.counts.duplicate += 1
                return []
            self._hold(item)
            return self._drain(item.arrival)
        if -MAX_MISORDER <= ahead < 0:
            return self._behind(item)
        return self._leap(item)

    def _hold(self, item: _Item) -> None:
        if not self._buffer:
            self._hole_since = item.arrival
        self._buffer[item.seq] = item
        self._expect_slowly()

    def _behind(self, item: _Item) -> list[Frame]:
        if item.seq in self._skipped:
            self._skipped.remove(item.seq)
            self.counts.late += 1
        else:
            self.counts.duplicate += 1
        return []

    def _leap(self, item: _Item) -> list[Frame]:
        """RFC 3550 A.1: two successive packets there mean that the sender restarted without a new SSRC."""
        leapt = self._leapt
        if leapt is None or item.seq != (leapt.seq + 1) & 0xFFFF:
            self._leapt = item
            self.counts.malformed += 1
            return []
        out = self.flush()
        self.counts.restarts += 1
        if item.arrival - leapt.arrival > FOLLOWS:
            self._start(item, self._lanes.ssrc.item(self._row))
            return out + self._deliver(item)
        self.counts.malformed -= 1  # it was the first of what the sender goes on with
        self._start(leapt, self._lanes.ssrc.item(self._row))
        self._lanes.received_before[self._row] -= 1
        return out + self._deliver(leapt) + self._place(item)

    # -- holes and doubts -----------------------------------------------------------------------------------------

    def release(self, now: float) -> list[Frame]:
        """Every tick while `is_waiting`: gives up on holes that were waited for long enough, fills comfort noise."""
        out = self._drain(now) if self._buffer else []
        if self.in_comfort and not self._buffer:
            out += self._fill_comfort(now)
        return out

    @property
    def _patience(self) -> float:
        return min(max(self._jitter, 4.0 * self._lanes.jitter.item(self._row)), self._jitter_max)

    def _drain(self, now: float) -> list[Frame]:
        out: list[Frame] = []
        while self._buffer:
            item = self._buffer.get(self.next_seq)
            if item is None:
                if now - self._hole_since < self._patience and len(self._buffer) < MAX_BUFFERED:
                    break
                self._skip_hole()
                continue
            if self._is_doubtful(item) and not self._settle_doubt(item, now):
                break
            del self._buffer[item.seq]
            out += self._deliver(item)
            if self._buffer:
                self._hole_since = min(entry.arrival for entry in self._buffer.values())
        return out

    def _skip_hole(self) -> None:
        following = min(self._buffer, key=lambda seq: signed16(seq - self.next_seq))
        missing = signed16(following - self.next_seq)
        self.counts.lost += missing
        self._missing += missing
        for seq in range(self.next_seq, self.next_seq + min(missing, MAX_MISORDER)):
            self._skipped.append(seq & 0xFFFF)
        del self._skipped[:-MAX_MISORDER]
        if following < self.next_seq:
            self._lanes.cycles[self._row] += 1
        self._expect(following, self._lanes.timestamp.item(self._row))

    def flush(self) -> list[Frame]:
        """Everything that is held, holes given up: the stream it belongs to is over."""
        return self._drain(inf)

    def _is_doubtful(self, item: _Item) -> bool:
        """Suddenly late by more than jitter explains. Needs a look at what comes next before it gets its time."""
        if self._is_new_clock:
            return False
        gap = signed32(item.timestamp - self._lanes.timestamp.item(self._row)) / self.clock_hz
        return self._offset(item, gap) > self._lanes.offset.item(self._row) + JUMP

    def _settle_doubt(self, item: _Item, now: float) -> bool:
        """Burst or stopped clock? A burst brings more audio than time passes; a clock that stood still does not.

        True once it is known. After a stopped clock (seen after a hold of PJSIP) the stream is tied to real time anew.
        """
        newest = max(self._buffer.values(), key=lambda entry: signed16(entry.seq - item.seq))
        audio = signed32(newest.timestamp - item.timestamp) / self.clock_hz
        elapsed = newest.arrival - item.arrival
        if audio < DOUBT / 2 and now - item.arrival < DOUBT:
            return False
        gap = signed32(item.timestamp - self._lanes.timestamp.item(self._row)) / self.clock_hz
        late = self._offset(item, gap) - self._lanes.origin.item(self._row)
        if elapsed >= audio / 2 or late > LATEST:
            self._lanes.shift[self._row] += late
        else:
            self._lanes.offset[self._row] = self._offset(item, gap)  # a burst: late, and known to be
        return True

    # -- out ------------------------------------------------------------------------------------------------------

    def _offset(self, item: _Item, gap: float) -> float:
        lanes, row = self._lanes, self._row
        duration = self._last_units / self.clock_hz
        captured = lanes.position.item(row) / POSITION_HZ + lanes.shift.item(row) + gap
        return item.arrival - duration - captured

    def _deliver(self, item: _Item) -> list[Frame]:
        lanes, row = self._lanes, self._row
        if self.next_seq == 0xFFFF:
            lanes.cycles[row] += 1
        known = self._types.get(item.payload_type)
        if known is None:
            return self._deliver_other(item)
        try:
            units = known.codec.duration(item.payload)
        except ValueError:
            self.counts.malformed += 1
            self._expect(item.seq + 1, item.timestamp)
            return []
        clock_hz = known.codec.clock_rate_hz
        if item.payload_type in self._guesses:
            clock_hz, units = self._guess(item, units * POSITION_HZ // clock_hz)
        self.clock_hz, self._last_units = clock_hz, units
        out = self._bridge_gap(item, clock_hz)
        self.in_comfort = False
        lanes.note_offset(row, self._offset(item, 0.0))
        length = units * POSITION_HZ // clock_hz
        out.append(self._frame(Kind.AUDIO, length, item=item, payload_type=known))
        self._expect(item.seq + 1, item.timestamp + units)
        self._expect_plainly(item, units, length)
        return out

    def _guess(self, item: _Item, length: int) -> tuple[int, int]:
        """The clock that the sender counts, and how many of its units the packet lasts."""
        guess, ordinary = self._guesses[item.payload_type], self._lanes.received.item(self._row) - self._pushed
        if ordinary != self._ordinary:
            self._ordinary = ordinary
            guess.confirm()
        is_next, is_changed = guess.look(item.seq, item.timestamp, length)
        if is_next:
            self._expect(item.seq, item.timestamp)
        self._is_new_clock |= is_changed
        return guess.hz, length * guess.hz // POSITION_HZ

    def _deliver_other(self, item: _Item) -> list[Frame]:
        """Comfort noise, telephone events and unknown types share the sequence, not the audio."""
        expected = self._lanes.timestamp.item(self._row)
        self._expect(item.seq + 1, expected)
        if item.payload_type in self._comfort_types:
            out = [] if self._is_new_clock else self._bridge_gap(item, self.clock_hz)
            self._expect(item.seq + 1, item.timestamp if out or not self._is_new_clock else expected)
            self.in_comfort = not self._is_new_clock
            self._expect_slowly()
            return out
        if item.payload_type in self._events:
            return [self._frame(Kind.EVENT, 0, item=item)._replace(clock_hz=self._events[item.payload_type])]
        return []

    def _bridge_gap(self, item: _Item, clock_hz: int) -> list[Frame]:
        """Accounts for the time between what was expected and `item`: lost audio is concealed, the rest is absent."""
        lanes, row = self._lanes, self._row
        missing, self._missing = self._missing, 0
        if self._is_new_clock:
            self._is_new_clock = False
            offset = self._offset(item, 0.0)
            if lanes.origin[row] == lanes.origin[row]:  # a further stream of this leg: keep the leg's own clock
                lanes.shift[row] += offset - lanes.origin.item(row)
            else:
                lanes.anchor(row, offset)
            return []
        gap = signed32(item.timestamp - lanes.timestamp.item(row))
        out: list[Frame] = []
        if missing and gap > 0:
            lost = min(gap * POSITION_HZ // clock_hz, missing * self._last_units * POSITION_HZ // clock_hz, MAX_CONCEAL)
            out.append(self._frame(Kind.LOST, lost))
            gap -= lost * clock_hz // POSITION_HZ
        leap = gap / clock_hz
        lanes.shift[row] += leap
        ahead = lanes.origin.item(row) - self._offset(item, 0.0)
        if ahead > AHEAD:  # no network delivers before sending: the sender's clock leapt, arrival is right
            lanes.shift[row] -= ahead
        elif not self.in_comfort and _is_of_the_clock(leap, ahead):
            lanes.shift[row] -= leap
        return out

    def _frame(
        self, kind: Kind, length: int, *, item: _Item | None = None, payload_type: PayloadType | None = None
    ) -> Frame:
        lanes, row = self._lanes, self._row
        position = lanes.position.item(row)
        lanes.position[row] = position + length
        payload, timestamp = (item.payload, item.timestamp) if item else (b"", 0)
        return Frame(kind, position, length, lanes.shift.item(row), payload, payload_type, timestamp)

    def _expect_plainly(self, item: _Item, units: int, length: int) -> None:
        lanes, row = self._lanes, self._row
        seq = (item.seq + 1) & 0xFFFF
        lanes.first_word[row] = VERSION_2 | item.payload_type << 16 | seq
        lanes.units[row], lanes.length[row] = units, length
        lanes.is_plain[row] = not self._buffer

    def _fill_comfort(self, now: float) -> list[Frame]:
        """The sender said: silence until further notice. It counts as received, in steps of 20 ms."""
        lanes, row = self._lanes, self._row
        reached = lanes.origin.item(row) + lanes.position.item(row) / POSITION_HZ + lanes.shift.item(row)
        steps = min(int((now - COMFORT_BEHIND - reached) / 0.02), COMFORT_STEPS)
        if steps <= 0:
            return []
        length = steps * POSITION_HZ // 50
        self._expect(self.next_seq, lanes.timestamp.item(row) + length * self.clock_hz // POSITION_HZ)
        return [self._frame(Kind.COMFORT, length)]


def _is_of_the_clock(leap: float, ahead: float) -> bool:
    """Whether timestamps in sequence leapt though no time had passed: a pause in sending delays what follows it, and
    nothing is captured twice. `ahead`: by what the packet would be earlier than the path allows, had it passed."""
    return leap < 0 or leap / 2 <= ahead <= leap + PACED
