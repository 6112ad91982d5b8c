"""Telephone events, comfort noise, and what the package costs to import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtpcodecs import comfort_noise, telephone_event
from rtpcodecs.comfort_noise import ComfortNoise, noise
from rtpcodecs.fmtp import parameters
from rtpcodecs.g729 import sid_level_dbov
from rtpcodecs.telephone_event import TelephoneEvent


def test_an_event_is_read_as_rfc_4733_draws_it() -> None:
    event = telephone_event.parse(bytes.fromhex("0b8a0320"))

    assert event == TelephoneEvent(event=11, is_end=True, volume_dbm0=-10, duration=800)
    assert event.digit == "#"
    assert telephone_event.parse(bytes.fromhex("0b4a0320")).is_end is False  # R bit: to be ignored


def test_every_dtmf_digit_has_its_number() -> None:
    digits = "".join(telephone_event.parse(bytes((n, 0, 0, 1))).digit for n in range(20))

    assert digits == "0123456789*#ABCD"


def test_an_event_that_is_too_short_is_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes"):
        telephone_event.parse(b"\1\2\3")


@given(st.integers(0, 255), st.booleans(), st.integers(-63, 0), st.integers(0, 65535))
def test_an_event_survives_its_round_trip(event: int, is_end: bool, volume: int, duration: int) -> None:
    whole = TelephoneEvent(event, is_end, volume, duration)

    assert telephone_event.parse(whole.build()) == whole
    assert telephone_event.parse(whole.build() + b"more") == whole


@given(st.binary(max_size=32))
def test_junk_is_an_event_or_refused(payload: bytes) -> None:
    for parse in (telephone_event.parse, comfort_noise.parse):
        try:
            parse(payload)
        except ValueError:
            assert len(payload) < 4


@given(st.integers(-127, 0), st.lists(st.integers(0, 254), max_size=12))
def test_comfort_noise_survives_its_round_trip(level: int, spectrum: list[int]) -> None:
    payload = bytes((-level, *spectrum))

    parsed = comfort_noise.parse(payload)

    assert parsed.level_dbov == level
    assert all(-1 <= k <= 1 for k in parsed.reflection)
    assert parsed.build() == payload


def test_comfort_noise_ignores_the_unused_bit_and_needs_a_level() -> None:
    assert comfort_noise.parse(b"\xc5") == ComfortNoise(-69)
    with pytest.raises(ValueError, match="empty"):
        comfort_noise.parse(b"")


@pytest.mark.parametrize("level", [-30, -50, -70])
def test_noise_has_the_level_it_was_asked_for(level: int) -> None:
    samples = noise(level, 16000, np.random.default_rng(1)).astype(float)

    measured = 20 * np.log10(np.sqrt((samples**2).mean()) / 32124)
    assert abs(measured - level) < 0.5
    assert samples.std() > 0


def test_noise_of_the_lowest_level_is_silence_and_of_the_highest_does_not_wrap() -> None:
    assert not noise(-127, 800, np.random.default_rng(1)).any()
    assert np.abs(noise(0, 8000, np.random.default_rng(1)).astype(int)).max() <= 32768


def test_a_g729_sid_grows_louder_with_its_gain() -> None:
    levels = [sid_level_dbov((gain << 1).to_bytes(2, "big")) for gain in range(32)]

    assert levels == sorted(levels)
    assert sid_level_dbov(b"\x34\xd6") == pytest.approx(-58.3)  # bcg729 makes RMS 39 of it: 20 log(39 / 32124)


@given(st.text(max_size=60))
def test_any_fmtp_text_is_read(text: str) -> None:
    assert all(name == name.lower().strip() for name in parameters(text))


def test_fmtp_is_read_in_every_spelling() -> None:
    assert parameters("Octet-Align=1; mode-set=0,2 ;useinbandfec") == {
        "octet-align": "1", "mode-set": "0,2", "useinbandfec": "",
    }  # fmt: skip


def test_importing_the_formats_does_not_import_pyav() -> None:
    code = "import sys, rtpcodecs; rtpcodecs.CODECS['PCMU'].make_decoder(''); sys.exit('av' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
