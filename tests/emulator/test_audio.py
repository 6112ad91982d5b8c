from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator.audio import WIDTHS, Activity, Decoder, Resampler, decode, wav_format


def test_g711_is_decoded_by_its_own_law() -> None:
    assert decode("mulaw", bytes([0x00, 0x80, 0xFF, 0x7F, 0xFE])).tolist() == [-32124, 32124, 0, 0, 8]
    assert decode("alaw", bytes([0xD5, 0x55, 0xAA, 0x2A])).tolist() == [8, -8, 32256, -32256]


def test_float_audio_is_scaled_and_what_is_no_number_is_silence() -> None:
    data = np.array([0.5, -1.0, 2.0, np.nan], dtype="<f4").tobytes()
    assert decode("linear32", data).tolist() == [16384, -32768, 32767, 0]


@pytest.mark.parametrize("rate_hz", [6000, 11025, 16000, 24000, 44100, 48000])
def test_any_rate_becomes_8_khz_without_moving_in_time(rate_hz: int) -> None:
    t = np.arange(rate_hz) / rate_hz
    tone = (10000 * np.sin(2 * np.pi * 440 * t)).astype(np.int16)
    resampler = Resampler(rate_hz)
    out = np.concatenate([*(resampler.push(tone[at : at + 777]) for at in range(0, rate_hz, 777)), resampler.flush()])
    expected = 10000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert len(out) == 8000
    assert np.abs(out - expected)[20:-20].max() < 10


def test_what_lies_above_4_khz_does_not_fold_back() -> None:
    tone = (10000 * np.sin(2 * np.pi * 5500 * np.arange(16000) / 16000)).astype(np.int16)
    assert np.abs(Resampler(16000).push(tone)[100:]).max() < 200


@given(st.binary(max_size=400), st.lists(st.integers(1, 50), max_size=20), st.sampled_from(sorted(WIDTHS)))
def test_frames_may_be_cut_anywhere(data: bytes, sizes: list[int], encoding: str) -> None:
    whole, pieces = Decoder(encoding, 8000, channels=2, mixed=False), Decoder(encoding, 8000, channels=2, mixed=False)
    expected = whole.push(data)
    got: list[list[int]] = [[], []]
    at = 0
    for size in [*sizes, len(data)]:
        for channel, samples in enumerate(pieces.push(data[at : at + size])):
            got[channel] += samples.tolist()
        at += size
    assert got == [samples.tolist() for samples in expected]
    assert pieces.seconds == whole.seconds == len(data) // (2 * WIDTHS[encoding]) / 8000


def test_channels_are_mixed_unless_asked_for_apart() -> None:
    data = struct.pack("<4h", 1000, 3000, -1000, 1000)
    assert [s.tolist() for s in Decoder("linear16", 8000, channels=2).push(data)] == [[2000, 0]]
    apart = Decoder("linear16", 8000, channels=2, mixed=False)
    assert [s.tolist() for s in apart.push(data)] == [[1000, -1000], [3000, 1000]]


def test_activity_tells_the_onset_and_the_end_of_speech_across_short_pauses() -> None:
    loud, quiet = np.full(8000, 1000, np.int16), np.zeros(1600, np.int16)
    activity = Activity()
    for part in (np.zeros(4000, np.int16), loud, quiet, loud, np.zeros(8000, np.int16)):
        activity.push(part)
    assert activity.onset == pytest.approx(0.5)
    assert activity.last_loud == pytest.approx(2.7)
    assert activity.quiet_for(activity.seconds) == pytest.approx(1.0)


def test_a_wav_header_is_read_and_anything_else_is_not() -> None:
    header = b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 7, 1, 8000, 8000, 1, 8)
    assert wav_format(header + b"data" + struct.pack("<I", 0)) == ("mulaw", 8000, 1, 44)
    assert wav_format(b"OggS" + bytes(40)) is None


@given(st.binary(max_size=200))
def test_no_header_raises(data: bytes) -> None:
    assert wav_format(data) is None
    assert wav_format(b"RIFF" + data[:4].ljust(4) + b"WAVE" + data) is None or b"data" in data
