from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from bridge.emulator.audio import Resampler
from bridge.emulator.matching import MatchingRecogniser, index_of
from bridge.emulator.recordings import Library, load
from tests.emulator.speech import Samples, conversation, cut, hear, line, lossy, pair, silence, through_g711

SHARED_AUDIO = Path(__file__).parents[2].parent / "shared" / "audio"


def test_every_word_of_the_exact_audio_is_heard_in_its_place() -> None:
    samples, spoken = conversation()
    missed, invented = pair(hear(samples), spoken, within=0.002)
    assert (missed, invented) == ([], [])


@pytest.mark.parametrize("alaw", [False, True])
@pytest.mark.parametrize("gain", [0.05, 1.0, 1.4])
def test_g711_and_level_change_nothing(alaw: bool, gain: float) -> None:
    samples, spoken = conversation()
    louder = np.clip(samples * gain, -32768, 32767).astype(np.int16)
    missed, invented = pair(hear(through_g711(louder, alaw=alaw)), spoken, within=0.002)
    assert (missed, invented) == ([], [])


def test_it_does_not_matter_how_the_audio_is_cut_into_frames() -> None:
    samples, _ = conversation()
    assert hear(samples, chunk=160) == hear(samples, chunk=1000)


def test_one_frame_longer_than_the_whole_window_is_heard_too() -> None:
    samples, spoken = conversation()
    missed, invented = pair(hear(samples, chunk=len(samples)), spoken, within=0.002)
    assert (missed, invented) == ([], [])


def test_wideband_audio_is_heard_at_the_same_times() -> None:
    samples, spoken = conversation()
    samples = samples[: len(samples) // 8000 * 8000]
    spectrum = np.fft.rfft(samples)
    wide = np.fft.irfft(np.pad(spectrum, (0, len(samples) + 1 - len(spectrum))), 2 * len(samples)) * 2
    narrow = Resampler(16000).push(np.clip(wide, -32768, 32767).astype(np.int16))
    missed, invented = pair(hear(narrow), spoken, within=0.002)
    assert (missed, invented) == ([], [])


@pytest.mark.parametrize("share", [0.05, 0.10])
def test_lost_packets_cost_only_words_that_lost_their_audio(share: float) -> None:
    samples, spoken = conversation()
    damaged, real = lossy(through_g711(samples), share, seed=1)
    missed, invented = pair(hear(damaged, chunk=160), spoken, within=0.002)
    assert invented == []
    assert all(real[word.start : word.end].mean() < 0.8 for word in missed)
    assert len(missed) <= 2


def test_with_cuts_loss_and_g711_whole_words_are_heard_and_their_times_are_right() -> None:
    """Not heard may be a word that stands alone in less than 0.4 s between two cuts: too little to place it by."""
    samples, spoken = conversation()
    words, missed_words = 0, 0
    for seed in range(8):
        shortened, whole, part = cut(through_g711(samples), spoken, gaps=12, seed=seed)
        missed, invented = pair(hear(lossy(shortened, 0.05, seed=seed)[0]), whole, within=0.020)
        assert pair(invented, part, within=0.9)[1] == []  # nothing but words of which a part is there
        words, missed_words = words + len(whole), missed_words + len(missed)
    assert missed_words / words < 0.01


def test_two_parts_of_a_recording_with_other_speech_between_them_are_both_heard() -> None:
    library = load()
    first, other = library["agent-first-in-line"], library["caller-weasels"]
    at = round(2.25 * 8000)  # the pause behind "line"
    samples, spoken = line(0.3, first.samples[:at], other, first.samples[at:], 0.5)
    heard = hear(samples)
    texts = [word.text for word in sorted(heard, key=lambda word: word.start)]
    own, others = [word.text for word in first.words], [word.text for word in other.words]
    assert texts == own[:7] + others + own[7:]
    assert pair(heard, spoken, within=0.002)[0] == []


def test_after_hang_up_in_mid_word_the_words_before_it_are_heard() -> None:
    recording = load()["agent-first-in-line"]
    samples, spoken = line(0.2, recording)
    heard = hear(samples[: spoken[4].start + 1200])  # in the middle of "first"
    assert [word.text for word in heard] == ["your", "call", "is", "now"]


def test_a_repeated_recording_is_heard_each_time() -> None:
    thanks = load()["caller-thank-you"]
    samples, spoken = line(thanks, 0.3, thanks, thanks, 0.1)
    assert pair(hear(samples), spoken, within=0.002) == ([], [])


def test_a_word_under_way_is_known_by_its_start() -> None:
    recording = load()["agent-first-in-line"]
    samples, spoken = line(0.2, recording, 1.0)
    ear = MatchingRecogniser(index_of(load()))
    ear.push(samples[: (spoken[8].start + spoken[8].end) // 2])
    assert ear.word_under_way() == pytest.approx(spoken[8].start / 8000)
    ear.push(samples[(spoken[8].start + spoken[8].end) // 2 :])
    assert ear.word_under_way() is None


def test_flush_hears_what_a_full_probe_would_have_waited_for() -> None:
    samples, spoken = line(load()["caller-thank-you"])
    ear = MatchingRecogniser(index_of(load()))
    early = ear.push(samples[:3800])
    assert early == []
    assert [word.text for word in ear.push(samples[3800:4300]) + ear.flush()] == ["thank"]
    assert spoken[0].end < 4300


def test_nothing_is_heard_in_silence_noise_or_hold_music_and_silence_costs_no_search() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 2000, 80000).astype(np.int16)
    ear = MatchingRecogniser(index_of(load()))
    assert ear.push(silence(30.0)) == []
    assert ear.searches == 0
    assert ear.push(noise) == []
    assert ear.push(load().music[0].samples) == []
    assert ear.flush() == []


def test_a_library_of_other_recordings_does_not_hear_these() -> None:
    agent = Library(tuple(r for r in load().recordings if r.name.startswith("agent")))
    caller = [r for r in load().recordings if r.name.startswith("caller")]
    samples, _ = line(*caller)
    assert hear(samples, library=agent) == []


@pytest.mark.skipif(not SHARED_AUDIO.exists(), reason="labelled telephone audio is not on this machine")
def test_nothing_is_heard_in_other_speech_music_noise_and_tones() -> None:
    with (SHARED_AUDIO / "manifest.csv").open() as manifest:
        rows = [row for row in csv.DictReader(manifest) if not _contains_ours(row)]
    found = {row["file"]: hear(_read(SHARED_AUDIO / row["file"])[: 6 * 8000]) for row in rows}
    assert len(found) > 80
    assert {name: words for name, words in found.items() if words} == {}


def _contains_ours(row: dict[str, str]) -> bool:
    """Two mixtures play prompts of the bundled library over music, and those are rightly heard."""
    return row["file"].startswith("mixed/mixed_announce_over_music")


def _read(path: Path) -> Samples:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]).astype(np.int16)
