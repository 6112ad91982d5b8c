from __future__ import annotations

from dataclasses import astuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bridge.publish import events
from bridge.publish.box import Entry, Room, Take
from bridge.publish.contract import Position, Receipt
from bridge.publish.events import Event
from bridge.publish.outbox import Outbox
from bridge.publish.spool import Kind, Recovery, Where, frame, mark, snapshot


def outbox(**more: float) -> Outbox:
    return Outbox("i", lambda call: 0, **more)  # type: ignore[arg-type]


def started(call: str, at_ms: int = 1000) -> Event:
    return events.call_started(call, at_ms, ingress="sip", from_="", to="", legs=[{"leg": "a", "role": "caller"}])


def digit(call: str, at_ms: int = 1000) -> Event:
    return events.dtmf(call, at_ms, leg="a", role="caller", digit="5", duration_ms=80)


def ended(call: str, at_ms: int = 9000) -> Event:
    return events.call_ended(call, at_ms, reason="hangup", duration_s=8.0, legs={})


def interim(call: str, utterance: str, revision: int) -> Event:
    return events.transcript_interim(
        call, 1000, leg="a", role="caller", text=f"{utterance}{revision}", start=0, end=1, utterance=utterance,
        revision=revision, words=[],
    )  # fmt: skip


def final(call: str, utterance: str, turn: int = 1) -> Event:
    return events.transcript_final(
        call, 2000, leg="a", role="caller", text=f"final {utterance}", start=1, end=2, utterance=utterance, turn=turn,
        language="en", confidence=1, provider="p", words=[],
    )  # fmt: skip


def accept(box: Outbox, *made: Event, now: float = 0.0) -> list[Entry]:
    entries = [entry for event in made if (entry := box.offer(event, now)) is not None]
    for entry in entries:
        assert entry.body is not None
        entry.where = Where(1, entry.ticket, len(entry.body))
    box.made_durable(box.last_ticket)
    return entries


def type_of(entry: Entry) -> str:
    assert entry.body is not None
    return events.parse(events.decode(entry.body)).type


def numbers(takes: list[Take]) -> dict[str, list[int]]:
    return {take.call: [entry.seq for entry in take.entries] for take in takes}


def test_each_call_is_numbered_by_itself_from_one() -> None:
    box = outbox()
    entries = accept(box, started("a"), started("b"), digit("a"), digit("a"))
    assert [entry.seq for entry in entries] == [1, 1, 2, 3]
    assert numbers(box.take(0)) == {"a": [1, 2, 3], "b": [1]}


def test_nothing_is_sent_before_it_is_written_ahead() -> None:
    box = outbox()
    box.offer(started("a"), 0.0)
    box.offer(digit("a"), 0.0)
    assert box.take(0) == []
    assert box.made_durable(1) == {0}
    assert numbers(box.take(0)) == {"a": [1]}


def test_a_batch_that_failed_is_taken_again_as_it_was_and_with_what_came_since() -> None:
    box = outbox()
    accept(box, started("a"))
    assert numbers(box.take(0)) == {"a": [1]}
    accept(box, digit("a"))
    assert numbers(box.take(0)) == {"a": [1, 2]}


def test_a_batch_is_bounded_in_events_and_bytes() -> None:
    box = outbox()
    accept(box, started("a"), *(digit("a") for _ in range(99)), started("b"))
    assert sum(len(take.entries) for take in box.take(0, max_events=30)) == 30
    assert sum(len(take.entries) for take in box.take(0, max_bytes=1000)) in range(2, 8)
    assert numbers(box.take(0, max_bytes=1))["a"] == [1]


def test_calls_take_turns_so_that_a_busy_one_holds_up_nobody() -> None:
    box = outbox()
    accept(box, started("busy"), *(digit("busy") for _ in range(50)), started("quiet"))
    takes = box.take(0, max_events=10)
    box.wrote(0, takes, Receipt({"busy": 10}), now=1.0)
    assert "quiet" in numbers(box.take(0, max_events=10))


def test_ids_never_go_back_in_time_within_a_call() -> None:
    box = outbox()
    entries = accept(box, started("a", 5000), digit("a", 4000), digit("a", 6000))
    assert [entry.at_ms for entry in entries] == [5000, 5000, 6000]


def test_after_a_failover_a_call_goes_on_behind_what_the_stream_holds() -> None:
    box = outbox()
    accept(box, started("a"), *(digit("a") for _ in range(9)))
    box.wrote(0, box.take(0), Receipt({"a": 10}), now=1.0)
    assert (box.pending, box.take(0)) == (0, [])
    box.resume({"a": Position(6)}, now=2.0, now_ms=0)
    assert numbers(box.take(0)) == {"a": [7, 8, 9, 10]}
    assert box.counts.resumed == 4


def test_a_stream_that_somebody_took_away_is_not_filled_again_with_what_others_still_hold() -> None:
    box = outbox()
    accept(box, started("a"), *(digit("a") for _ in range(9)))
    box.wrote(0, box.take(0), Receipt({"a": 10}), now=1.0)
    accept(box, digit("a"))
    box.resume({"a": Position(0, is_gone=True)}, now=2.0, now_ms=0)
    assert numbers(box.take(0)) == {"a": [11]}
    assert box.counts.resumed == 0


def test_a_sink_that_refuses_to_write_behind_a_gap_makes_the_call_go_back() -> None:
    box = outbox()
    accept(box, started("a"), digit("a"), digit("a"))
    box.wrote(0, box.take(0), Receipt({"a": 3}), now=1.0)
    accept(box, digit("a"))
    takes = box.take(0)
    assert takes[0].floor == 1
    box.wrote(0, takes, Receipt({"a": 1}), now=2.0)
    assert numbers(box.take(0)) == {"a": [2, 3, 4]}


def test_what_is_older_than_keep_s_can_not_be_offered_again_and_the_floor_says_so() -> None:
    box = outbox(keep_s=60.0)
    accept(box, started("a"), digit("a"))
    box.wrote(0, box.take(0), Receipt({"a": 2}), now=0.0)
    accept(box, digit("a"))
    box.wrote(0, box.take(0), Receipt({"a": 3}), now=50.0)
    assert box.expire(59.9) == []
    assert len(box.expire(65.0)) == 2
    box.resume({"a": Position(0)}, now=61.0, now_ms=0)
    (take,) = box.take(0)
    assert (take.floor, [entry.seq for entry in take.entries]) == (3, [3])


def test_what_a_failover_lost_comes_back_as_it_was_with_its_body_or_its_place_on_disk() -> None:
    box = outbox()
    (first,) = accept(box, started("a"), now=7.0)
    body = first.body
    assert body is not None
    second = box.offer(digit("a"), 8.0)
    assert second is not None
    second.where = Where(1, 99, 3)
    box.made_durable(2, is_saved=False)  # sent although the disk has only the first
    box.wrote(0, box.take(0), Receipt({"a": 2}), now=9.0)
    box.resume({"a": Position(0)}, now=10.0, now_ms=0)
    found, whole = box.take(0)[0].entries
    assert whole is second
    assert whole.body is not None
    assert astuple(found) == astuple(Entry(1, 1000, None, 7.0, 1, Where(1, 1, len(body)), is_first=True))


def test_events_that_no_replica_confirmed_are_kept_until_one_does() -> None:
    box = outbox(keep_s=1.0)
    accept(box, started("a"))
    assert box.wrote(0, box.take(0), Receipt({"a": 1}, is_durable=False), now=0.0) == {}
    assert box.expire(100.9) == []
    assert box.replicated(0, 100.0) == {"a": 1}
    assert len(box.expire(101.2)) == 1


def test_a_spool_short_of_room_does_not_wait_for_replicas() -> None:
    box = outbox(keep_s=60.0)
    accept(box, started("a"), digit("a"))
    box.wrote(0, box.take(0), Receipt({"a": 2}, is_durable=False), now=0.0)
    assert box.expire(1.0) == []
    box.hurry()
    assert len(box.expire(1.0)) == 2


def test_a_finished_call_is_forgotten_once_it_is_confirmed_and_old() -> None:
    box = outbox(keep_s=10.0)
    accept(box, started("a"), ended("a"))
    box.wrote(0, box.take(0), Receipt({"a": 2}), now=0.0)
    assert "a" in box.snapshot()
    box.expire(11.0)
    assert box.snapshot() == {}
    assert box.memory_bytes == 0


def test_nothing_follows_the_end_of_a_call() -> None:
    box = outbox()
    accept(box, started("a"), ended("a"))
    assert box.offer(digit("a"), 0.0) is None
    assert box.counts.late == 1


def test_an_ended_call_whose_stream_may_have_expired_is_left_alone() -> None:
    box = outbox(call_ttl_s=100.0)
    accept(box, started("old"), ended("old", 9000), started("runs"))
    box.wrote(0, box.take(0), Receipt({"old": 2, "runs": 1}), now=0.0)
    assert box.to_ask(0, now_ms=9000 + 99_999) == ["old", "runs"]
    assert box.to_ask(0, now_ms=9000 + 100_000) == ["runs"]


def test_under_pressure_only_the_newest_interim_of_an_utterance_waits() -> None:
    box = outbox(pressed_events=3)
    accept(box, started("a"), digit("a"), digit("a"), interim("a", "u", 1), interim("a", "u", 2), interim("a", "v", 1))
    assert box.counts.conflated == 1
    assert box.release(0.0) == []
    box.wrote(0, box.take(0), Receipt({"a": 3}), now=0.0)
    entries = box.release(0.0)
    assert [(entry.seq, type_of(entry)) for entry in entries] == [(4, "transcript.interim"), (5, "transcript.interim")]
    assert b"u2" in (entries[0].body or b"")


def test_an_interim_that_waits_is_dropped_when_its_final_comes_or_its_call_ends() -> None:
    box = outbox()
    box.room = Room.TIGHT
    accept(box, started("a"), interim("a", "u", 1), interim("a", "v", 1), final("a", "u"))
    assert box.counts.conflated == 1
    accept(box, ended("a"))
    assert box.counts.conflated == 2
    box.room = Room.OPEN
    assert box.release(0.0) == []


def test_without_any_room_only_the_start_and_end_of_calls_are_taken_and_no_number_is_left_out() -> None:
    box = outbox()
    box.room = Room.FULL
    entries = accept(box, started("a"), digit("a"), final("a", "u"), ended("a"))
    assert [entry.seq for entry in entries] == [1, 2]
    assert box.counts.refused == 2


def test_beyond_the_memory_limit_bodies_stay_on_disk_only() -> None:
    box = outbox(memory_bytes=1000)
    entries = accept(box, started("a"), *(digit("a") for _ in range(50)))
    assert box.memory_bytes <= 1000
    assert sum(entry.body is None for entry in entries) > 30


def test_what_is_not_on_disk_keeps_its_body() -> None:
    box = outbox(memory_bytes=10)
    entry = box.offer(started("a"), 0.0)
    assert entry is not None
    entry.where = Where(1, 0, 1)
    box.made_durable(box.last_ticket, is_saved=False)
    assert numbers(box.take(0)) == {"a": [1]}
    box.wrote(0, box.take(0), Receipt({"a": 1}), now=0.0)
    assert entry.body is not None
    assert box.unspool() == ([Where(1, 0, 1)], [])


def recovered(*records: bytes) -> Recovery:
    recovery = Recovery()
    recovery.read_segment(1, b"".join(records))
    return recovery


def spooled(*made: Event) -> list[bytes]:
    box = outbox()
    return [frame(Kind.EVENT, entry.body or b"") for entry in accept(box, *made)]


def test_a_new_process_sends_what_was_left_and_ends_the_calls_that_died() -> None:
    left = [*spooled(started("a", 1000), final("a", "u"), digit("a", 3500)), frame(Kind.MARK, mark({"a": 1}))]
    box = outbox()
    box.restore(recovered(*left), now=0.0)
    assert box.pending == 2
    assert numbers(box.take(0)) == {"a": [2, 3]}
    made = box.resume({"a": Position(1)}, now=0.0, now_ms=99_000)
    assert [(entry.seq, type_of(entry)) for entry in made] == [(4, "turn.ended"), (5, "call.ended")]
    box.made_durable(box.last_ticket)
    end = events.parse(events.decode(made[-1].body or b""))
    assert end.data["reason"] == "crash"
    assert end.data["duration_s"] == 2.5
    assert end.data["legs"]["a"] == events.untold_ledger("caller") | {"finals": 1}
    turn = events.parse(events.decode(made[0].body or b""))
    assert (turn.text, turn.data["reason"], turn.start) == ("final u", "interrupted", 1.0)


def test_a_crashed_call_is_numbered_behind_what_the_stream_already_holds() -> None:
    """Its last events went out without the spool: the disk was full."""
    box = outbox()
    box.restore(recovered(*spooled(started("a"))), now=0.0)
    made = box.resume({"a": Position(7)}, now=0.0, now_ms=99_000)
    assert [entry.seq for entry in made] == [8]
    assert box.pending == 1


def test_a_call_whose_end_reached_the_stream_is_not_ended_again() -> None:
    box = outbox()
    box.restore(recovered(*spooled(started("a"))), now=0.0)
    assert box.resume({"a": Position(2, is_ended=True)}, now=0.0, now_ms=0) == []


def test_a_snapshot_carries_a_long_call_over_its_first_segments() -> None:
    before = outbox()
    accept(before, started("a", 1000), final("a", "u"))
    before.remember("a", {"a": {"role": "caller", "sent_s": 61.5}})
    before.wrote(0, before.take(0), Receipt({"a": 2}), now=0.0)
    after = outbox()
    after.restore(recovered(frame(Kind.SNAPSHOT, snapshot(before.snapshot()))), now=0.0)
    made = after.resume({"a": Position(2)}, now=0.0, now_ms=5000)
    assert [entry.seq for entry in made] == [3, 4]
    assert events.parse(events.decode(made[-1].body or b"")).data["legs"]["a"]["sent_s"] == 61.5


class Stream:
    """A sink's partition that can lose its newest events, and answers."""

    def __init__(self) -> None:
        self.calls: dict[str, list[int]] = {}

    def write(self, takes: list[Take]) -> Receipt:
        held: dict[str, int] = {}
        for take in takes:
            stored = self.calls.setdefault(take.call, [])
            for entry in take.entries:
                last = stored[-1] if stored else 0
                if entry.seq > last and entry.seq in (last + 1, take.floor):
                    stored.append(entry.seq)
            held[take.call] = stored[-1] if stored else 0
        return Receipt(held)


class OutboxMachine(RuleBasedStateMachine):
    """Events, lost answers, failovers and time in any order: each stream is 1, 2, 3 ... and complete in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox(keep_s=1e9)
        self.stream = Stream()
        self.offered = {"a": 0, "b": 0}
        self.now = 0.0

    @rule(call=st.sampled_from(["a", "b"]), n=st.integers(1, 5))
    def publish(self, call: str, n: int) -> None:
        accept(self.box, *(digit(call) for _ in range(n)), now=self.now)
        self.offered[call] += n

    @rule(n=st.integers(1, 4), is_answer_lost=st.booleans())
    def send(self, n: int, is_answer_lost: bool) -> None:
        self.now += 1
        takes = self.box.take(0, max_events=n)
        receipt = self.stream.write(takes)
        if not is_answer_lost:
            self.box.wrote(0, takes, receipt, now=self.now)

    @rule(call=st.sampled_from(["a", "b"]), n=st.integers(1, 3), is_noticed=st.booleans())
    def fail_over(self, call: str, n: int, is_noticed: bool) -> None:
        stored = self.stream.calls.get(call, [])
        del stored[max(0, len(stored) - n) :]
        if is_noticed:
            self.reconnect()

    def reconnect(self) -> None:
        positions = {call: Position((self.stream.calls.get(call) or [0])[-1]) for call in self.box.to_ask(0, now_ms=0)}
        self.box.resume(positions, now=self.now, now_ms=0)

    @invariant()
    def streams_have_no_gap_and_no_double(self) -> None:
        for stored in self.stream.calls.values():
            assert stored == list(range(1, len(stored) + 1))

    def teardown(self) -> None:
        self.reconnect()
        for _ in range(200):
            takes = self.box.take(0)
            self.box.wrote(0, takes, self.stream.write(takes), now=self.now)
        assert {call: len(self.stream.calls.get(call, [])) for call in self.offered} == self.offered
        assert self.box.pending == 0


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
