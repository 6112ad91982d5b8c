from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpcodecs.concealment import Concealment
from tests.rtpcodecs.voice import vowel

RATES = pytest.mark.parametrize("rate_hz", [8000, 16000])


def with_a_hole(source: np.ndarray, rate_hz: int, start: float, length: float) -> np.ndarray:
    """`source` in blocks of 20 ms, the ones of the hole made up."""
    concealment = Concealment(rate_hz)
    size = rate_hz // 50
    first, last = round(start * 50), round((start + length) * 50)
    blocks = [
        concealment.lost(size) if first <= n < last else concealment.good(source[n * size : (n + 1) * size])
        for n in range(len(source) // size)
    ]
    return np.concatenate(blocks)


def steepest(samples: np.ndarray) -> int:
    return int(np.abs(np.diff(samples.astype(int))).max())


@RATES
@pytest.mark.parametrize("start", [0.1, 0.14, 0.2, 0.26, 0.3])
@pytest.mark.parametrize("length", [0.02, 0.04, 0.1, 0.3])
def test_neither_end_of_a_hole_clicks(rate_hz: int, start: float, length: float) -> None:
    source = vowel(rate_hz, 0.8)

    heard = with_a_hole(source, rate_hz, start, length)

    assert len(heard) == len(source)
    for edge in (start, start + length):
        around = slice(round((edge - 0.004) * rate_hz), round((edge + 0.004) * rate_hz))
        assert steepest(heard[around]) <= 1.1 * steepest(source)


@RATES
def test_a_click_would_be_noticed_by_these_tests(rate_hz: int) -> None:
    source = vowel(rate_hz, 0.4)
    cut = source.copy()
    peak = int(np.argmax(np.abs(source[rate_hz // 10 : rate_hz // 5]))) + rate_hz // 10
    cut[peak + 1 : peak + 200] = -source[peak]

    assert steepest(cut) > 1.5 * steepest(source)


@RATES
@pytest.mark.parametrize("pitch_hz", [75, 130, 210, 330])
def test_a_vowel_goes_on_at_its_pitch_for_the_first_20_ms(rate_hz: int, pitch_hz: float) -> None:
    source = vowel(rate_hz, 0.6, pitch_hz=(pitch_hz, pitch_hz))
    heard = with_a_hole(source, rate_hz, 0.3, 0.02)
    hole = slice(round(0.3 * rate_hz), round(0.32 * rate_hz))

    likeness = np.corrcoef(heard[hole].astype(float), source[hole].astype(float))[0, 1]
    assert likeness > 0.6  # a pitch that is no whole number of samples costs the rest; a wrong one gives 0.2


@RATES
def test_a_long_hole_is_silent_after_60_ms(rate_hz: int) -> None:
    heard = with_a_hole(vowel(rate_hz, 0.8), rate_hz, 0.3, 0.3)

    assert np.abs(heard[round(0.36 * rate_hz) : round(0.6 * rate_hz)]).max() == 0
    assert np.abs(heard[round(0.3 * rate_hz) : round(0.31 * rate_hz)]).max() > 1000


@RATES
def test_it_never_gets_louder_while_it_fades(rate_hz: int) -> None:
    concealment = Concealment(rate_hz)
    concealment.good(vowel(rate_hz, 0.2))
    blocks = [concealment.lost(rate_hz // 100).astype(float) for _ in range(8)]

    # A pitch period is up to 15 ms: compare over 20 ms so that each stretch holds at least one.
    loudness = [np.abs(np.concatenate(blocks[n : n + 2])).max() for n in range(0, 8, 2)]
    assert loudness == sorted(loudness, reverse=True)
    assert loudness[-1] == 0


@RATES
def test_good_audio_is_untouched_but_for_5_ms_after_a_hole(rate_hz: int) -> None:
    source = vowel(rate_hz, 0.6)
    heard = with_a_hole(source, rate_hz, 0.2, 0.06)
    end_of_join = round(0.265 * rate_hz)

    assert np.array_equal(heard[: round(0.2 * rate_hz)], source[: round(0.2 * rate_hz)])
    assert np.array_equal(heard[end_of_join:], source[end_of_join:])


def test_a_hole_before_any_audio_is_silence() -> None:
    concealment = Concealment(8000)

    assert not concealment.lost(160).any()
    assert np.array_equal(concealment.good(np.full(160, 100, np.int16))[40:], np.full(120, 100, np.int16))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.integers(0, 400), st.integers(-32768, 32767), st.integers(-32768, 32767)),
        max_size=12,
    )
)
def test_any_order_of_good_and_lost_blocks_keeps_the_count_of_samples(steps: list[tuple[bool, int, int, int]]) -> None:
    concealment = Concealment(8000)
    for is_good, n, low, high in steps:
        block = np.where(np.arange(n) % 7 < 3, low, high).astype(np.int16)
        out = concealment.good(block) if is_good else concealment.lost(n)
        assert out.dtype == np.int16
        assert len(out) == n
