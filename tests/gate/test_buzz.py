"""What machines repeat to the sample is no voice, and a voice repeats itself for a moment at most."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from bridge.gate.buzz import REPEAT_FRAMES, Buzzes, repeats
from bridge.gate.ears import FRAME, Heard
from bridge.gate.silero import Rows
from bridge.gate.thresholds import REPEATS
from tests.gate.sounds import RATE, Sound, frames_of, noise, recording
from tests.gate.test_ears import listen, sent_seconds


def tdma(seconds: float, hz: float) -> Sound:
    """A radio's bursts as a telephone's amplifier demodulates them, half a second of each one and a half."""
    t = np.arange(round(seconds * RATE)) / RATE
    bursts = (t * hz % 1 < 0.125) & (np.floor(t * 2) % 3 == 0)
    return (bursts * 5000 + noise(seconds, -58)).astype(np.int16)


def shares(sound: Sound) -> list[float]:
    frames = frames_of(sound)
    return [repeats(frames[n - REPEAT_FRAMES : n].ravel()) for n in range(REPEAT_FRAMES, len(frames))]


@pytest.mark.parametrize("hz", [100.0, 217.0, 216.7])
def test_a_radios_buzz_repeats_itself_and_hiss_does_not(hz: float) -> None:
    t = np.arange(RATE) / RATE
    assert min(shares((((t * hz + 0.006) % 1 < 0.125) * 5000).astype(np.int16))) > REPEATS
    assert max(shares(noise(2, -30))) < 0.5
    assert shares(np.zeros(RATE, np.int16))[0] == 0.0


def test_a_voice_repeats_itself_seldom() -> None:
    said = np.array(shares(recording("caller-weasels")))
    assert (said > REPEATS).mean() < 0.06


def test_behind_what_repeats_one_frame_more_is_refused() -> None:
    buzzes, hiss = Buzzes(), frames_of(noise(1, -30))[:REPEAT_FRAMES, None]
    same = np.repeat(hiss[:1], REPEAT_FRAMES, axis=0)
    assert [is_refused(buzzes, sound) for sound in (hiss, same, hiss, hiss)] == [False, True, True, False]
    is_refused(buzzes, same)
    buzzes.reset(3)
    assert not is_refused(buzzes, hiss)


def test_only_what_the_network_is_not_sure_of_is_compared_unless_it_repeated_just_before() -> None:
    buzzes, same = Buzzes(), np.repeat(frames_of(noise(1, -30))[:1, None], REPEAT_FRAMES, axis=0)
    refused = [is_refused(buzzes, same, speech) for speech in (0.4, 0.95, 0.6, 0.95, 0.4)]
    assert refused == [False, False, True, True, False]


def test_in_music_a_note_that_repeats_is_no_voice_however_sure_the_network_is() -> None:
    hiss, same = frames_of(noise(1, -30))[:, None], np.repeat(frames_of(noise(1, -30))[:1, None], REPEAT_FRAMES, axis=0)
    assert not is_refused(Buzzes(), hiss, 0.99, is_music=True)
    assert is_refused(Buzzes(), same, 0.99, is_music=True)


def is_refused(buzzes: Buzzes, sound: NDArray[np.int16], speech: float = 0.7, *, is_music: bool = False) -> bool:
    """`sound`: the last frames of row 3, the second of those heard."""
    rows, none, no = np.array([1, 3]), np.zeros(2, np.float32), np.zeros(2, np.bool_)

    def earlier(rows: Rows, n: int) -> NDArray[np.int16]:
        assert rows.tolist() == [3]
        return sound[-n:]

    speech_of, music = np.array([0.7, speech], np.float32), np.array([False, is_music])
    heard = Heard(rows, speech_of, none, no, music, no, no, no, no, {}, earlier=earlier)
    return buzzes.is_buzzing(heard, 1)


def test_a_mobile_beside_the_telephone_opens_no_gate_and_a_word_behind_it_does() -> None:
    buzz, word = tdma(12, 217.0), recording("caller-weasels")
    assert sent_seconds(listen(buzz), len(buzz)) == 0.0
    changes = listen(np.concatenate([buzz, word, noise(1, -60)]))
    opened = next(change for change in changes if change.is_open)
    assert opened.speech_end > len(buzz)
    assert opened.position <= len(buzz) + 20 * FRAME


def test_a_buzz_that_begins_within_speech_does_not_hold_the_gate_open() -> None:
    word, buzz = recording("caller-weasels"), (np.arange(20 * RATE) * 217 / RATE % 1 < 0.125) * 5000
    sound = np.concatenate([word, (buzz + noise(20, -58)).astype(np.int16)])
    assert sent_seconds(listen(sound), len(sound)) < len(word) / RATE + 5
