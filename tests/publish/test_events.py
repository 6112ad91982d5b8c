from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Word
from bridge.publish import events
from bridge.publish.events import Event, decode, encode, fields, parse, rfc3339, unix_ms
from bridge.publish.keys import Keys

FINAL = events.transcript_final(
    "c1", 1_790_000_000_123, leg="a", role="agent", text="Guten Tag", start=1.23456, end=2.0, utterance="u1", turn=3,
    language="de", confidence=0.98765432, provider="deepgram",
    words=[Word("Guten", 1.23456, 1.5, 0.9), Word("Tag", 1.6, 2, 1)],
)  # fmt: skip


def test_an_entry_has_the_fields_of_the_contract_all_of_them_text() -> None:
    entry = fields(FINAL, 7, "host-1")
    assert list(entry) == ["v", "type", "call", "seq", "at", "instance", "leg", "role", "text", "start", "end", "data"]
    assert {**entry, "data": ""} == {
        "v": "1", "type": "transcript.final", "call": "c1", "seq": "7", "at": "2026-09-21T14:13:20.123Z",
        "instance": "host-1",
        "leg": "a", "role": "agent", "text": "Guten Tag", "start": "1.235", "end": "2.000", "data": "",
    }  # fmt: skip
    assert json.loads(entry["data"]) == {
        "utterance": "u1", "turn": 3, "language": "de", "confidence": 0.9877, "provider": "deepgram",
        "words": [["Guten", 1.235, 1.5, 0.9], ["Tag", 1.6, 2, 1]],
    }  # fmt: skip


def test_fields_that_do_not_apply_are_left_out() -> None:
    entry = fields(events.call_started("c", 0, ingress="sip", from_="1", to="2", legs=[]), 1, "i")
    assert not entry.keys() & {"leg", "role", "text", "start", "end"}


def test_a_closed_gate_names_its_cause_and_an_open_one_none() -> None:
    closed = events.leg_gate("c", 0, leg="a", role="caller", cause="hold", since=1.5)
    opened = events.leg_gate("c", 0, leg="a", role="caller", cause=None, since=2.5)
    told = events.leg_gate("c", 0, leg="a", role="caller", cause="hold", since=1.5, reason="hold signalled")
    assert closed.data == {"state": "closed", "cause": "hold", "since": 1.5}
    assert told.data == closed.data | {"reason": "hold signalled"}
    assert opened.data == {"state": "open", "since": 2.5}


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
made_events = st.builds(
    Event,
    type=st.sampled_from([events.DTMF, events.TRANSCRIPT_FINAL, events.LEG_GATE]),
    call=st.text(string.ascii_letters + "-", min_size=1),
    at_ms=st.integers(0, 4_000_000_000_000),
    leg=st.text(),
    role=st.text(),
    text=st.none() | st.text(),
    start=st.none() | st.integers(0, 10**7).map(lambda ms: ms / 1000),
    end=st.none() | st.integers(0, 10**7).map(lambda ms: ms / 1000),
    data=st.dictionaries(st.text(), json_values, max_size=4),
)


@given(made_events, st.integers(1, 10**9))
def test_what_is_encoded_is_read_back_the_same(event: Event, seq: int) -> None:
    got = parse(decode(encode(event, seq, "inst")), entry="1-1")
    assert (got.seq, got.instance, got.entry) == (seq, "inst", "1-1")
    for name in ("type", "call", "at_ms", "leg", "role", "text", "start", "end", "data"):
        assert getattr(got, name) == getattr(event, name), name


@given(st.dictionaries(st.sampled_from(["v", "type", "call", "seq", "at", "start", "data"]) | st.text(), st.text()))
def test_whatever_stands_in_a_stream_is_an_event_or_a_value_error(flat: dict[str, str]) -> None:
    try:
        got = parse(flat)
    except ValueError:
        return
    assert (got.type, got.call, got.seq) == (flat["type"], flat["call"], int(flat["seq"]))


@given(st.binary())
def test_whatever_a_body_holds_is_an_entry_or_a_value_error(body: bytes) -> None:
    try:
        entry = decode(body)
    except ValueError:
        return
    assert all(isinstance(value, str) for value in entry.values())


def test_text_that_is_no_unicode_still_leaves() -> None:
    event = Event(events.DTMF, "c", 0, text="a\ud800b")
    assert decode(encode(event, 1, "i"))["text"] == "a?b"


@given(st.integers(0, 4_000_000_000_000))
def test_times_survive_to_the_millisecond(ms: int) -> None:
    assert unix_ms(rfc3339(ms)) == ms


def test_keys_are_bare_with_one_partition_and_tagged_with_more() -> None:
    assert Keys("cb").events(0) == "cb:events"
    assert Keys("cb").call("x") == "cb:call:x"
    assert Keys("cb", tagged=True).calls(0) == "{cb:0}:calls"
    four = Keys("cb", 4)
    assert four.call("x") == f"{{cb:{four.partition('x')}}}:call:x"
    assert {four.partition(f"call-{n}") for n in range(100)} == {0, 1, 2, 3}


@pytest.mark.parametrize("at", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_a_time_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        unix_ms(at)
