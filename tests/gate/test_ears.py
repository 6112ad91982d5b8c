"""Ears on bundled recordings and made-up signals, through the gate where that is what counts."""

from __future__ import annotations

import numpy as np
import pytest

from bridge.config import GateSettings
from bridge.gate.ears import FRAME
from bridge.gate.gate import Change, Gates
from bridge.gate.silero import Silero
from bridge.model import Cause
from tests.gate.keeping import KeepingEars
from tests.gate.sounds import Sound, at_level, frames_of, noise, recording, silence, sines


def listen(sound: Sound, settings: GateSettings | None = None) -> list[Change]:
    """One leg's changes, sound through ears and gate, frame by frame."""
    ears, gates = KeepingEars(1), Gates(1)
    changes = gates.open_leg(0, settings or GateSettings(), 0)
    row = np.array([0])
    for n, frame in enumerate(frames_of(sound)):
        changes += gates.hear(ears.hear(row, frame[None]), np.array([(n + 1) * FRAME]))
    return changes


def sent_seconds(changes: list[Change], end: int) -> float:
    total, opened = 0, None
    for change in changes:
        if change.is_open:
            opened = change.position
        elif opened is not None:
            total, opened = total + change.position - opened, None
    return (total + (end - opened if opened is not None else 0)) / 8000


@pytest.mark.parametrize("value", [0, 8, -8])
def test_digital_silence_of_both_laws_is_mute(value: int) -> None:
    changes = listen(silence(3, value))
    assert [change.cause for change in changes] == [Cause.SILENCE, Cause.MUTE]


def test_line_noise_is_silence() -> None:
    assert [change.cause for change in listen(noise(10, -55))] == [Cause.SILENCE]


@pytest.mark.parametrize("dbfs", [-15, -30])
@pytest.mark.parametrize("name", ["caller-weasels", "agent-please-hold", "caller-thank-you"])
def test_speech_opens_the_gate_before_its_first_word_at_any_level(name: str, dbfs: float) -> None:
    word = at_level(recording(name), dbfs)
    changes = listen(np.concatenate([silence(1), word, silence(2)]))
    assert [change.is_open for change in changes[:2]] == [False, True]
    assert changes[1].position < 8000 + int(np.flatnonzero(np.abs(word) > np.abs(word).max() / 10)[0])


def test_hold_music_is_withheld_and_called_music() -> None:
    music = recording("hold-music")
    changes = listen(np.concatenate([music, music]))
    assert sent_seconds(changes, 2 * len(music)) < 0.02 * 2 * len(music) / 8000
    assert Cause.MUSIC in [change.cause for change in changes]


@pytest.mark.parametrize(("p", "is_music"), [(0.7, True), (0.95, False)])
def test_only_what_is_surely_speech_ends_music_while_it_sounds(
    p: float, is_music: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [0.0]
    monkeypatch.setattr(Silero, "speech", lambda _self, rows, _audio, _gain: np.full(rows.size, said[0], np.float32))
    ears, tune = KeepingEars(1), frames_of(recording("hold-music"))
    heard = [ears.hear(np.array([0]), frame[None]) for frame in tune[:120]]
    assert heard[-1].music[0]
    said[0] = p
    heard += [ears.hear(np.array([0]), frame[None]) for frame in tune[120:180]]
    assert heard[-1].music[0] == is_music


def test_a_short_word_after_minutes_of_music_is_heard() -> None:
    music = recording("hold-music")
    word = recording("caller-thank-you")
    before = np.concatenate([*[music] * 6, silence(0.3)])
    changes = listen(np.concatenate([before, word, silence(2)]))
    assert any(change.is_open and len(before) - 8000 < change.position < len(before) + 3000 for change in changes)


def test_legs_heard_together_are_heard_as_if_alone() -> None:
    sounds = [frames_of(recording(name)) for name in ("caller-weasels", "agent-please-hold", "hold-music")]
    together, alone = KeepingEars(10), [KeepingEars(1) for _ in sounds]
    rows = np.array([7, 2, 4])
    for n in range(100):
        heard = together.hear(rows, np.stack([sound[n] for sound in sounds]))
        single = [ears.hear(np.array([0]), sound[n][None]) for ears, sound in zip(alone, sounds, strict=True)]
        np.testing.assert_allclose(heard.speech, [one.speech[0] for one in single], atol=1e-4)
        assert [*heard.music] == [one.music[0] for one in single]


def test_a_reset_row_has_forgotten_what_it_heard() -> None:
    ears = KeepingEars(2)
    row = np.array([1])
    sound = frames_of(recording("caller-weasels"))
    first = [ears.hear(row, frame[None]).speech[0] for frame in sound[:60]]
    ears.reset(1)
    assert [ears.hear(row, frame[None]).speech[0] for frame in sound[:60]] == first


def test_full_scale_noise_and_odd_inputs_are_numbers_all_the_same() -> None:
    ears = KeepingEars(1)
    for sound in (silence(0.2, -32768), silence(0.2, 32767), noise(0.2, 0)):
        for frame in frames_of(sound):
            heard = ears.hear(np.array([0]), frame[None])
            assert np.isfinite(heard.speech).all()
            assert np.isfinite(heard.level_dbfs).all()
    assert ears.hear(np.array([], np.intp), np.zeros((0, FRAME), np.int16)).rows.size == 0


TONES = {
    "US ringback": [(2.0, (440, 480)), (4.0, ())],
    "European ringback": [(1.0, (425,)), (4.0, ())],
    "US busy": [(0.5, (480, 620)), (0.5, ())],
    "US reorder": [(0.25, (480, 620)), (0.25, ())],
    "dial": [(4.0, (350, 440))],
    "fax CNG": [(0.5, (1100,)), (3.0, ())],
    "SIT": [(0.33, (950,)), (0.33, (1400,)), (0.33, (1800,)), (1.0, ())],
    "DTMF": [(0.1, (770, 1336)), (0.1, ()), (0.1, (941, 1477)), (0.1, ())],
}


@pytest.mark.parametrize("name", TONES)
def test_signalling_tones_are_called_tones_and_are_not_sent(name: str) -> None:
    parts = [sines(seconds, *hz) if hz else silence(seconds) for seconds, hz in TONES[name]]
    cadence = np.concatenate(parts)
    line = np.concatenate([cadence] * (1 + 64000 // len(cadence)))
    changes = listen(line + noise(len(line) / 8000, -62))
    assert Cause.TONE in [change.cause for change in changes]
    assert Cause.MUSIC not in [change.cause for change in changes]
    assert sent_seconds(changes, len(line)) == 0


def test_a_tone_straight_behind_hold_music_is_called_one_and_a_fifth_of_a_second_of_it_is_not() -> None:
    music = recording("hold-music")
    brief = np.concatenate([music, sines(0.2, 425), music])
    assert Cause.TONE not in [change.cause for change in listen(brief)]
    changes = listen(np.concatenate([music, sines(2.5, 425)]))
    told = [change.position for change in changes if change.cause is Cause.TONE]
    assert told
    assert told[0] - len(music) < 1.6 * 8000


NAMED = {
    "US ringback": "ringback", "European ringback": "tone", "US busy": "busy", "US reorder": "busy", "dial": "dial",
    "fax CNG": "fax", "DTMF": "dtmf",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_the_reason_names_the_tone_where_its_frequencies_tell(name: str) -> None:
    parts = [sines(seconds, *hz) if hz else silence(seconds) for seconds, hz in TONES[name]]
    line = np.concatenate(parts * 3)
    changes = listen(line + noise(len(line) / 8000, -62))
    assert next(change.reason for change in changes if change.cause is Cause.TONE) == NAMED[name]


def test_line_noise_is_neither_music_nor_tone_even_when_loud() -> None:
    assert {change.cause for change in listen(noise(10, -40))} == {Cause.SILENCE}


def test_a_word_straight_behind_minutes_of_music_is_heard_once_the_line_is_quiet() -> None:
    music, word = recording("hold-music"), recording("caller-thank-you")
    loud = np.flatnonzero(np.abs(word) > np.abs(word).max() / 10)
    word = word[loud[0] : loud[-1]]
    before = np.concatenate([music] * 6)
    changes = listen(np.concatenate([before, word, noise(2, -65)]))
    opened = next(change for change in changes if change.is_open and change.position > len(before) - 12000)
    assert opened.position <= len(before)


def test_a_steady_lines_noise_is_not_given_to_the_network_and_the_first_word_in_it_is() -> None:
    ears, row = KeepingEars(1), np.array([0])
    given = [ears.hear(row, frame[None]).speech.item() for frame in frames_of(noise(4, -52))]
    assert np.count_nonzero(given) < 20
    word = at_level(recording("caller-weasels"), -40)
    line = noise(len(word) / 8000 + 0.1, -52)[: len(word)]
    assert max(ears.hear(row, frame[None]).speech[0] for frame in frames_of(word + line)) > 0.9


def test_half_a_minute_of_loud_noise_does_not_deafen() -> None:
    rumble = np.convolve(noise(30, -30), 0.9 ** np.arange(16), "same")
    line = np.round(rumble * (32768 * 10 ** (-30 / 20) / rumble.std())).astype(np.int16)
    word = at_level(recording("caller-weasels"), -20)[: len(line) - 200000]
    line[200000 : 200000 + len(word)] += word
    changes = listen(line)
    assert any(change.is_open and change.position <= 201600 for change in changes)


@pytest.mark.parametrize("dbfs", [-12, -16, -20])
def test_an_announcement_over_a_minute_of_music_is_heard_from_its_onset(dbfs: float) -> None:
    music, words = recording("hold-music"), recording("agent-first-in-line")
    bed = np.concatenate([music] * 6)[: 60 * 8000].copy()
    start = 50 * 8000
    voice = at_level(words, dbfs)[: len(bed) - start]
    bed[start : start + len(voice)] += voice
    opened = [change for change in listen(bed) if change.is_open]
    assert opened[0].reason == "speech over music"
    assert start - 4000 < opened[0].position <= start + 400


def test_what_is_faint_is_given_to_the_network_on_a_faint_leg_only() -> None:
    hiss, row = frames_of(noise(0.2, -66)), np.array([0])
    for dbfs, is_given in ((-15, False), (-45, True)):
        ears = KeepingEars(1)
        for frame in frames_of(at_level(recording("caller-weasels"), dbfs)):
            ears.hear(row, frame[None])
        assert [ears.hear(row, frame[None]).speech[0] > 0 for frame in hiss[:4]] == [is_given] * 4


def test_the_last_sounds_of_a_faint_voice_are_sent() -> None:
    word = at_level(recording("caller-thank-you"), -42)
    changes = listen(np.concatenate([noise(2, -72), word, noise(3, -72, seed=2)]))
    loud = np.flatnonzero(np.abs(word) > np.abs(word).max() / 20)
    closed = [change for change in changes if change.cause is Cause.SILENCE][-1]
    assert closed.position >= 16000 + loud[-1] + 1600  # its tail lies below what is a pause on other legs
