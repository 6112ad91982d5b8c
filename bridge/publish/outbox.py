"""The outbox: numbers events, keeps their order, and knows what is still to be published.

Pure. `bridge.net.publisher` runs it: writes ahead what `offer` returns, says `made_durable`, and then moves batches:
`take` -> the sink writes -> `wrote`. Confirmed events stay known for `keep_s`, so that a failover which lost them can
be healed: `resume` compares with what the sink really holds and goes back behind that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from math import inf

from bridge.publish import events
from bridge.publish.books import Book
from bridge.publish.box import Box, Confirmed, Counts, Entry, Room, Take, Waiting
from bridge.publish.contract import Position, Receipt
from bridge.publish.events import Event
from bridge.publish.spool import Recovery, Where

PRESSED_EVENTS = 2000  # unconfirmed ones; from here on interims wait without a number. About 1 s of 500 calls
MEMORY_BYTES = 64 << 20  # bodies of unconfirmed events; what is above is read back from the spool
ENDS_INTERIMS = frozenset({events.TRANSCRIPT_FINAL, events.CALL_ENDED})
BOUNDARIES = frozenset({events.CALL_STARTED, events.CALL_ENDED})


class Outbox:
    """All calls of this process, and what earlier processes left."""

    def __init__(
        self,
        instance: str,
        partition_of: Callable[[str], int],
        *,
        partitions: int = 1,
        keep_s: float = 60.0,
        call_ttl_s: float = 86400.0,
        pressed_events: int = PRESSED_EVENTS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.instance = instance
        self.counts = Counts()
        self.room = Room.OPEN
        self.pending = 0
        self.memory_bytes = 0
        self.saved_ticket = 0
        "Events up to here are on disk."
        self.durable_ticket = 0
        "Events up to here may be sent: they are on disk, or the disk fails and they go without."
        self._partition_of = partition_of
        self._keep_s = keep_s
        self._call_ttl_s = call_ttl_s
        self._pressed_events = pressed_events
        self._memory_limit_bytes = memory_bytes
        self._boxes: dict[str, Box] = {}
        self._ready: list[dict[str, Box]] = [{} for _ in range(partitions)]
        self._waiting = Waiting()
        self._undurable: deque[tuple[Box, Entry]] = deque()
        self._unreplicated: list[dict[str, Box]] = [{} for _ in range(partitions)]
        self._confirmed = Confirmed(keep_s)
        self._ticket = 0

    # --- in ---

    @property
    def is_pressed(self) -> bool:
        """Interims wait for a number."""
        return self.room is not Room.OPEN or self.pending >= self._pressed_events

    def offer(self, event: Event, now: float) -> Entry | None:
        """Numbers `event`; the caller writes it ahead. None: an interim that waits, or there is no room, or its call is
        over; `counts` tells which."""
        box = self._box(event.call)
        if box.book.is_ended:
            self.counts.late += 1
            return None
        if event.type == events.TRANSCRIPT_INTERIM:
            if self.is_pressed:
                self.counts.conflated += self._waiting.put(event, now)
                return None
        elif event.type in ENDS_INTERIMS:
            self.counts.conflated += self._waiting.drop_stale(event)
        if self.room is Room.FULL and event.type not in BOUNDARIES:
            self.counts.refused += 1
            return None
        return self._number(box, event, now)

    def release(self, now: float) -> list[Entry]:
        """Interims that waited and may have their number now. At half the limit, so that it does not flap."""
        if not self._waiting or self.room is not Room.OPEN or self.pending >= self._pressed_events // 2:
            return []
        return [self._number(self._box(event.call), event, made) for event, made in self._waiting.take_all()]

    def _number(self, box: Box, event: Event, now: float) -> Entry:
        self._ticket += 1
        body = events.encode(event, box.next_seq, self.instance)
        box.last_ms = max(box.last_ms, event.at_ms)
        entry = Entry(box.next_seq, box.last_ms, body, now, self._ticket)
        entry.is_first, entry.is_last = event.type == events.CALL_STARTED, event.type == events.CALL_ENDED
        box.book.fold(event, entry.seq)
        box.next_seq += 1
        box.pending.append(entry)
        self.pending += 1
        self.memory_bytes += len(body)
        self.counts.numbered += 1
        self._undurable.append((box, entry))
        return entry

    def _box(self, call: str) -> Box:
        box = self._boxes.get(call)
        if box is None:
            box = self._boxes[call] = Box(call, self._partition_of(call))
        return box

    def remember(self, call: str, ledgers: Mapping[str, Mapping[str, object]]) -> bool:
        """A running call's ledgers so far. False: no such call runs."""
        box = self._boxes.get(call)
        if box is None or box.book.is_ended:
            return False
        box.book.ledgers.update({leg: dict(told) for leg, told in ledgers.items()})
        return True

    # --- written ahead ---

    def made_durable(self, ticket: int, *, is_saved: bool = True) -> set[int]:
        """Every event up to `ticket` is on disk; or is not (`is_saved` False: the spool fails) and goes without.
        Returns the partitions that have something to send now."""
        self.durable_ticket = max(self.durable_ticket, ticket)
        if is_saved:
            self.saved_ticket = max(self.saved_ticket, ticket)
        woken: set[int] = set()
        while self._undurable and self._undurable[0][1].ticket <= self.durable_ticket:
            box, entry = self._undurable.popleft()
            if self.memory_bytes > self._memory_limit_bytes:
                self._forget_body(entry)
            self._ready[box.partition][box.call] = box
            woken.add(box.partition)
        return woken

    def unspool(self, lost: Collection[int] = ()) -> tuple[list[Where], list[Entry]]:
        """The disk will not take what it was given, or the segments `lost` are gone: places that will never be, and
        unconfirmed events that are to be written ahead again."""
        places: list[Where] = []
        again: list[Entry] = []
        for box in self._boxes.values():
            for entry in (*box.kept.whole(), *box.pending):
                where = entry.where
                if where is None or entry.body is None:  # without a body it stays where it was: reading it will tell
                    continue
                if entry.ticket > self.saved_ticket or where.segment in lost:
                    places.append(where)
                    entry.where = None
            again += [entry for entry in box.pending if entry.where is None and entry.body is not None]
        return places, sorted(again, key=lambda entry: entry.ticket)

    @property
    def last_ticket(self) -> int:
        """Of the newest numbered event."""
        return self._ticket

    def _forget_body(self, entry: Entry) -> None:
        if entry.body is not None and entry.where is not None and entry.ticket <= self.saved_ticket:
            self.memory_bytes -= len(entry.body)
            entry.body = None

    # --- out ---

    def has_work(self, partition: int) -> bool:
        """`take` would give something."""
        return bool(self._ready[partition])

    def take(self, partition: int, *, max_events: int = 256, max_bytes: int = 1 << 20) -> list[Take]:
        """The next batch: oldest waiting call first, its events consecutive. Nothing changes until `wrote`: a batch
        that failed is simply taken again. Not more than one may be under way per partition."""
        takes: list[Take] = []
        n, size = 0, 0
        for box in list(self._ready[partition].values()):
            entries: list[Entry] = []
            for entry in self._sendable(box):
                length = len(entry.body) if entry.body is not None else entry.where.length if entry.where else 0
                if n >= max_events or (size and size + length > max_bytes):
                    break
                entries.append(entry)
                n, size = n + 1, size + length
            if entries:
                takes.append(Take(box.call, entries, self._floor(box)))
            elif n < max_events and size < max_bytes:
                del self._ready[partition][box.call]
            if n >= max_events or size >= max_bytes:
                break
        return takes

    def _sendable(self, box: Box) -> Iterator[Entry]:
        expected = box.pending[0].seq if box.pending else 0
        for entry in box.pending:
            if entry.ticket > self.durable_ticket or entry.seq != expected:
                return
            yield entry
            expected += 1

    def _floor(self, box: Box) -> int:
        first = box.pending[0].seq
        if not box.kept or box.kept.last_seq != first - 1:
            return first
        return box.kept.first_seq

    def wrote(self, partition: int, takes: list[Take], receipt: Receipt, *, now: float) -> dict[str, int]:
        """The sink has answered. Returns what is confirmed now, per call, for a MARK in the spool."""
        self.counts.gaps += receipt.gaps
        marks: dict[str, int] = {}
        for take in takes:
            box = self._boxes.get(take.call)
            if box is None:
                continue
            if take.call not in receipt.held:  # refused: the others come first from now on
                self._requeue(box)
                continue
            self._settle(box, receipt.held[take.call])
            self._unreplicated[partition][box.call] = box
            self._requeue(box)
        if receipt.is_durable:
            marks = self.replicated(partition, now)
        return marks

    def replicated(self, partition: int, now: float) -> dict[str, int]:
        """All that was written in this partition so far is safe at the sink: `keep_s` runs from now. Returns marks."""
        boxes, self._unreplicated[partition] = self._unreplicated[partition], {}
        for box in boxes.values():
            if box.kept:
                self._confirmed.add(box, box.held, now)
        return {box.call: box.held for box in boxes.values()}

    def _settle(self, box: Box, held: int) -> None:
        """Makes `held` the border between what is confirmed and what is pending, whichever way it moves."""
        while box.pending and box.pending[0].seq <= held:
            entry = box.pending.popleft()
            self._forget_body(entry)
            box.kept.append(entry)
            self.pending -= 1
            self.counts.confirmed += 1
        while box.kept and box.kept.last_seq > held:
            box.pending.appendleft(box.kept.pop())
            self.pending += 1
            self.counts.resumed += 1
        box.held = held
        box.next_seq = max(box.next_seq, held + 1)

    def _requeue(self, box: Box) -> None:
        """To the end of the line, if anything is left."""
        ready = self._ready[box.partition]
        ready.pop(box.call, None)
        if box.pending:
            ready[box.call] = box

    def lose(self, call: str, entry: Entry) -> None:
        """An event cannot be read back from the spool: it is given up, the call goes on behind it."""
        box = self._boxes[call]
        if entry in box.pending:
            box.pending.remove(entry)
            self.pending -= 1
            self.counts.refused += 1

    # --- after a reconnect ---

    def to_ask(self, partition: int, *, now_ms: int) -> list[str]:
        """Calls whose position at the sink decides what is to be sent again. Ended ones whose stream may have expired
        are left alone: nothing there does not mean nothing was."""
        oldest_ms = now_ms - self._call_ttl_s * 1000
        return [
            box.call
            for box in self._boxes.values()
            if box.partition == partition and not (box.book.is_ended and box.held and box.book.last_ms <= oldest_ms)
        ]

    def resume(self, positions: Mapping[str, Position], *, now: float, now_ms: int) -> list[Entry]:
        """Goes on behind what the sink holds of each call, and ends the calls that died; returns what that made, to be
        written ahead."""
        made: list[Entry] = []
        for call, position in positions.items():
            box = self._boxes.get(call)
            if box is None:
                continue
            if position.seq != box.held and not position.is_gone:
                self._settle(box, position.seq)
                self._unreplicated[box.partition][call] = box
            if box.is_dead:
                made += self._end(box, position, now=now, now_ms=now_ms)
            self._requeue(box)
        return made

    def _end(self, box: Box, position: Position, *, now: float, now_ms: int) -> list[Entry]:
        box.is_dead = False
        box.book.is_ended = box.book.is_ended or position.is_ended
        if box.book.is_ended:
            self._let_go(box)
            return []
        self.counts.crashed_calls += 1
        return [self._number(box, event, now) for event in box.book.closing(box.call, max(now_ms, box.last_ms))]

    def restore(self, recovery: Recovery, *, now: float) -> None:
        """Takes over what an earlier process left. Its events are on disk already; its calls are over."""
        for call, remains in recovery.calls.items():
            box = self._box(call)
            box.book = remains.book
            box.is_dead = not remains.book.is_ended
            box.held = remains.held
            box.last_ms = remains.book.last_ms
            for seq in sorted(remains.events):
                found = remains.events[seq]
                box.last_ms = max(box.last_ms, found.at_ms)
                entry = Entry(seq, found.at_ms, None, now, 0, found.where)
                entry.is_first, entry.is_last = found.type == events.CALL_STARTED, found.type == events.CALL_ENDED
                if seq <= remains.held:
                    box.kept.append(entry)
                else:
                    box.pending.append(entry)
                    self.pending += 1
            box.next_seq = max(remains.book.seq, remains.held, max(remains.events, default=0)) + 1
            if box.kept:
                self._confirmed.add(box, box.held, now)
            self._requeue(box)
            self._let_go(box)

    # --- done with ---

    def expire(self, now: float) -> list[Where]:
        """Places in the spool that are needed no more: confirmed, and `keep_s` has passed."""
        done: list[Where] = []
        for box, seq in self._confirmed.before(now - self._keep_s):
            seq = min(seq, box.held)
            while box.kept and box.kept.first_seq <= seq:
                entry = box.kept.popleft()
                self.memory_bytes -= len(entry.body or b"")
                if entry.where is not None:
                    done.append(entry.where)
            self._let_go(box)
        return done

    def _let_go(self, box: Box) -> None:
        if box.book.is_ended and not box.kept and not box.pending and not box.is_dead:
            self._boxes.pop(box.call, None)

    def hurry(self) -> None:
        """The spool is short of room: what is confirmed need not be kept any longer, be it safe at a replica or not."""
        for unreplicated in self._unreplicated:
            for box in unreplicated.values():
                if box.kept:
                    self._confirmed.add(box, box.held, -inf)
            unreplicated.clear()
        self._confirmed.hurry()

    def snapshot(self) -> dict[str, tuple[int, Book]]:
        """Every call that is not done with: (confirmed, book)."""
        return {call: (box.held, box.book) for call, box in self._boxes.items()}

    def oldest(self) -> float | None:
        """When the oldest unconfirmed event was made; None: there is none."""
        return min((box.pending[0].made for box in self._boxes.values() if box.pending), default=None)
