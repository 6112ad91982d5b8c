from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rtp.sequence import add16, add32, extend16, extend32, is_newer16, is_newer32, signed16, signed32

UINT16, UINT32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)


@pytest.mark.parametrize(
    ("a", "b", "newer"),
    [(1, 0, True), (0, 0xFFFF, True), (0xFFFF, 0, False), (100, 100, False), (0x7FFF, 0, True), (0x8000, 0, False)],
)
def test_order_of_sequence_numbers_survives_the_wrap(a: int, b: int, newer: bool) -> None:
    assert is_newer16(a, b) is newer


def test_order_of_timestamps_survives_the_wrap() -> None:
    assert is_newer32(5, 0xFFFF_FFF0)
    assert not is_newer32(0xFFFF_FFF0, 5)


@given(UINT16, st.integers(-0x8000, 0x7FFF))
def test_a_16_bit_difference_is_what_was_added(a: int, n: int) -> None:
    assert signed16(add16(a, n) - a) == n


@given(UINT32, st.integers(-0x8000_0000, 0x7FFF_FFFF))
def test_a_32_bit_difference_is_what_was_added(a: int, n: int) -> None:
    assert signed32(add32(a, n) - a) == n


@given(st.integers(0, 1 << 62), st.integers(-0x8000, 0x7FFF))
def test_a_sequence_number_is_laid_beside_its_neighbour(near: int, n: int) -> None:
    assert extend16((near + n) & 0xFFFF, near) == near + n


@given(st.integers(0, 1 << 62), st.integers(-0x8000_0000, 0x7FFF_FFFF))
def test_a_timestamp_is_laid_beside_its_neighbour(near: int, n: int) -> None:
    assert extend32((near + n) & 0xFFFF_FFFF, near) == near + n


def test_three_turns_count_on() -> None:
    at = 65000
    for sequence in (n & 0xFFFF for n in range(65001, 65001 + 3 * 65536)):
        at = extend16(sequence, at)

    assert at == 65000 + 3 * 65536


def test_a_late_packet_before_the_first_wrap_gets_a_number_below_zero() -> None:
    assert extend16(0xFFFF, 0) == -1
