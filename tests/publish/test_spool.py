from __future__ import annotations

import itertools
import json

from hypothesis import given
from hypothesis import strategies as st

from bridge.publish import events
from bridge.publish.books import Book
from bridge.publish.spool import HEADER, Kind, Recovery, frame, ledger, mark, scan, snapshot

payloads = st.lists(st.tuples(st.sampled_from(list(Kind)), st.binary(max_size=60)), max_size=12)


def contents(data: bytes) -> list[tuple[int, bytes]]:
    return [(kind, data[offset : offset + length]) for kind, offset, length in scan(data)]


@given(payloads)
def test_records_are_read_back_as_they_were_written(records: list[tuple[Kind, bytes]]) -> None:
    data = HEADER + b"".join(frame(kind, payload) for kind, payload in records)
    assert contents(data) == records


@given(payloads, st.integers(0, 200))
def test_a_torn_tail_costs_the_last_record_only(records: list[tuple[Kind, bytes]], cut: int) -> None:
    data = HEADER + b"".join(frame(kind, payload) for kind, payload in records)
    torn = data[: max(len(HEADER), len(data) - cut)]
    ends = list(itertools.accumulate((len(frame(kind, payload)) for kind, payload in records), initial=len(HEADER)))
    assert contents(torn) == records[: sum(end <= len(torn) for end in ends[1:])]


@given(payloads.filter(bool), st.data())
def test_a_flipped_byte_costs_no_record_but_its_own(records: list[tuple[Kind, bytes]], data: st.DataObject) -> None:
    framed = [frame(kind, payload) for kind, payload in records]
    hit = data.draw(st.integers(0, len(framed) - 1))
    at = data.draw(st.integers(0, len(framed[hit]) - 1))
    broken = bytearray(framed[hit])
    broken[at] ^= data.draw(st.integers(1, 255))
    found = contents(HEADER + b"".join([*framed[:hit], bytes(broken), *framed[hit + 1 :]]))
    others = records[:hit] + records[hit + 1 :]
    assert [record for record in found if record in others][: len(others)] == others or len(found) >= len(others)


@given(st.binary(max_size=300))
def test_any_bytes_are_scanned_and_folded_without_an_error(data: bytes) -> None:
    recovery = Recovery()
    recovery.read_segment(1, HEADER + data)
    assert recovery.lost_bytes <= len(data)


@given(st.sampled_from(list(Kind)), st.binary(max_size=50) | st.text().map(lambda t: json.dumps(t).encode()))
def test_a_sound_record_with_nonsense_in_it_is_counted(kind: Kind, payload: bytes) -> None:
    recovery = Recovery()
    recovery.read_segment(1, HEADER + frame(kind, payload))
    assert recovery.damaged == 1
    assert recovery.calls == {}


def test_recovery_knows_events_marks_and_ledgers() -> None:
    first = events.call_started("a", 1000, ingress="sip", from_="", to="", legs=[{"leg": "x", "role": "caller"}])
    second = events.dtmf("a", 3000, leg="x", role="caller", digit="1", duration_ms=50)
    data = HEADER + b"".join(
        [
            frame(Kind.EVENT, events.encode(first, 1, "i")),
            frame(Kind.EVENT, events.encode(second, 2, "i")),
            frame(Kind.MARK, mark({"a": 1})),
            frame(Kind.LEDGER, ledger("a", {"x": {"sent_s": 1.5}})),
        ]
    )
    recovery = Recovery()
    assert recovery.read_segment(4, data + b"\xcb\x1e torn") == 2
    remains = recovery.calls["a"]
    assert sorted(remains.events) == [1, 2]
    assert (remains.held, remains.book.seq, remains.book.ledgers) == (1, 2, {"x": {"sent_s": 1.5}})
    where = remains.events[2].where
    assert where.segment == 4
    assert data[where.offset : where.offset + where.length] == events.encode(second, 2, "i")
    assert recovery.lost_bytes == 7


def test_a_snapshot_never_takes_a_book_back_behind_later_events() -> None:
    old = Book()
    old.fold(events.call_started("a", 1000, ingress="sip", from_="", to="", legs=[]), 1)
    early = snapshot({"a": (0, old)})
    later = events.dtmf("a", 3000, leg="x", role="caller", digit="1", duration_ms=50)
    recovery = Recovery()
    recovery.read_segment(1, HEADER + frame(Kind.SNAPSHOT, early) + frame(Kind.EVENT, events.encode(later, 2, "i")))
    recovery.read_segment(2, HEADER + frame(Kind.SNAPSHOT, early))
    assert recovery.calls["a"].book.seq == 2
