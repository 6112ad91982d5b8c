"""One key press is one, whatever is lost or sent twice (RFC 4733)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.key_presses import SILENT_AFTER, Key, KeyPresses
from rtpcodecs.telephone_event import DIGITS, TelephoneEvent

Packet = tuple[float, int, bytes]
"When, RTP timestamp, payload."


def press(digit: str, at: float, seconds: float, *, clock_hz: int = 8000) -> list[Packet]:
    """As phones send it: every 20 ms, the end three times."""
    n = round(seconds / 0.02)
    packets = []
    for k in [*range(1, n + 1), n, n]:
        event = TelephoneEvent(DIGITS.index(digit), k == n, -10, k * clock_hz // 50)
        packets.append((at + k * 0.02, round(at * clock_hz), event.build()))
    return packets


def told(keys: KeyPresses, packets: list[Packet], *, until: float = 60.0, clock_hz: int = 8000) -> list[Key]:
    found: list[Key] = []
    for at, timestamp, payload in packets:
        found += keys.settle(at)
        found += keys.packet(payload, timestamp, clock_hz=clock_hz, now=at)
    return found + keys.settle(until)


@pytest.mark.parametrize("clock_hz", [8000, 16000, 48000])
def test_every_press_is_told_once_with_its_length(clock_hz: int) -> None:
    packets = press("5", 1.0, 0.1, clock_hz=clock_hz) + press("5", 1.3, 0.24, clock_hz=clock_hz)
    assert told(KeyPresses(), packets, clock_hz=clock_hz) == [Key("5", 100), Key("5", 240)]


def test_a_press_whose_three_end_packets_are_lost_is_told_when_nothing_more_is_heard_of_it() -> None:
    keys, packets = KeyPresses(), press("7", 1.0, 0.1)[:4]
    assert told(keys, packets, until=1.08 + SILENT_AFTER) == []
    assert keys.settle(1.09 + SILENT_AFTER) == [Key("7", 80)]
    assert keys.settle(9.0) == []


def test_a_press_whose_end_is_lost_is_told_when_the_next_begins() -> None:
    packets = press("7", 1.0, 0.1)[:3] + press("8", 1.1, 0.1)
    assert told(KeyPresses(), packets) == [Key("7", 60), Key("8", 100)]


def test_an_end_that_comes_late_is_no_second_press() -> None:
    packets = press("7", 1.0, 0.1)
    late = [*packets[:4], *((at + 2.0, timestamp, payload) for at, timestamp, payload in packets[4:])]
    assert told(KeyPresses(), late) == [Key("7", 80)]


def test_a_press_of_many_seconds_is_one_though_it_takes_several_events() -> None:
    """Section 2.5.1.3: the next segment begins where the first could count no further."""
    packets = []
    for k in range(1, 601):
        units = k * 160
        segment, rest = divmod(units - 1, 0xFFFF)
        event = TelephoneEvent(3, k == 600, -10, rest + 1)
        packets.append((k * 0.02, 1000 + segment * 0xFFFF, event.build()))
    ((digit, duration_ms),) = told(KeyPresses(), packets)
    assert digit == "3"
    assert duration_ms == pytest.approx(12_000, abs=2)


def test_an_event_of_no_duration_is_none() -> None:
    assert told(KeyPresses(), [(1.0, 5, TelephoneEvent(3, True, -10, 0).build())]) == []


def test_info_and_packets_of_one_press_are_one() -> None:
    by_packets, by_info = KeyPresses(), KeyPresses()
    assert told(by_packets, press("1", 1.0, 0.1)) == [Key("1", 100)]
    assert by_packets.info("1", 160) == []
    assert by_info.info("1", 160) == [Key("1", 160)]
    assert told(by_info, press("1", 1.0, 0.1)) == []
    assert by_info.info("1", 160) == [Key("1", 160)]


@given(st.integers(0, 2**32), st.floats(0, 0.8))
def test_loss_and_reordering_neither_double_nor_invent_a_press(seed: int, loss: float) -> None:
    chance = random.Random(seed)
    wanted = [chance.choice(DIGITS) for _ in range(5)]
    packets = [packet for n, digit in enumerate(wanted) for packet in press(digit, 1.0 + n, 0.1)]
    kept = sorted(
        (packet for packet in packets if chance.random() >= loss), key=lambda p: p[0] + chance.random() * 0.04
    )
    found = [key.digit for key in told(KeyPresses(), kept)]
    seen = [digit for n, digit in enumerate(wanted) if any(1.0 + n <= at < 2.0 + n for at, _, _ in kept)]
    assert found == seen


@given(st.lists(st.tuples(st.binary(max_size=8), st.integers(0, 3))))
def test_any_payload_is_a_press_or_none(packets: list[tuple[bytes, int]]) -> None:
    keys = told(KeyPresses(), [(n * 0.01, timestamp, payload) for n, (payload, timestamp) in enumerate(packets)])
    assert all(key.digit in DIGITS and key.digit for key in keys)
