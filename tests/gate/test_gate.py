"""The gate as a table: what was heard or signalled goes in as numbers, changes come out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import GateSettings
from bridge.gate.ears import FRAME, Heard
from bridge.gate.gate import Change, Gates
from bridge.gate.voices import Voice
from bridge.model import Cause

SPEECH = GateSettings()
HOLD = replace(SPEECH, mode="hold")
OFF = replace(SPEECH, mode="off")
SECOND = 8000


class Line:
    """One leg of a table of three, fed frame by frame."""

    def __init__(self, settings: GateSettings, row: int = 1) -> None:
        self.gates = Gates(3)
        self.row = row
        self.position = 0
        self.changes: list[Change] = self.gates.open_leg(row, settings, 0)

    def hear(self, seconds: float, *, p: float = 0.0, dbfs: float = -30.0, digital: bool = False, music: bool = False,
             tone: bool = False, louder: bool = False) -> list[Change]:  # fmt: skip
        begin = len(self.changes)
        for _ in range(round(seconds * SECOND / FRAME)):
            self.position += FRAME
            one = (np.array([v]) for v in (self.row, p, dbfs, digital, music, tone, dbfs < -50, louder, False))
            self.changes += self.gates.hear(Heard(*one, {}), np.array([self.position]))
        return self.changes[begin:]

    def speak(self, seconds: float = 1.0) -> list[Change]:
        return self.hear(seconds, p=0.9)

    def signal(self, cause: Cause, on: bool) -> list[Change]:
        changes = self.gates.signal(self.row, cause, on, self.position)
        self.changes += changes
        return changes

    def absent(self, seconds: float) -> list[Change]:
        changes = self.gates.absent(np.array([self.row]), np.array([seconds]), np.array([self.position]))
        self.changes += changes
        return changes


def kinds(changes: list[Change]) -> list[Cause | None]:
    return [change.cause for change in changes]


def test_a_leg_begins_closed_for_silence_where_silence_is_withheld_and_open_elsewhere() -> None:
    assert kinds(Line(SPEECH).changes) == [Cause.SILENCE]
    assert kinds(Line(HOLD).changes) == kinds(Line(OFF).changes) == [None]


def test_the_preroll_is_never_longer_than_asked() -> None:
    line = Line(replace(SPEECH, preroll_ms=100))
    line.hear(2, dbfs=-60)
    start = line.position
    (opened,) = line.speak()
    assert opened.is_open
    assert start - opened.position == 100 * 8


def test_within_unsteady_music_twice_the_preroll_is_sent() -> None:
    line = Line(SPEECH)
    for _ in range(40):
        line.hear(0.064, music=True, dbfs=-40)
        line.hear(0.064, music=True, dbfs=-20)
    start = line.position
    (opened,) = line.hear(1, p=0.9, music=True, dbfs=-20)
    assert start - opened.position >= 800 * 8


def test_a_quiet_line_before_the_onset_needs_less_preroll() -> None:
    line = Line(SPEECH)
    line.hear(2, dbfs=-60)
    start = line.position
    (opened,) = line.speak()
    assert start - opened.position == 200 * 8


def test_a_voice_that_rises_before_it_is_sure_is_sent_from_its_rise() -> None:
    line = Line(SPEECH)
    line.hear(2, dbfs=-60)
    start = line.position
    line.hear(0.5, dbfs=-30, p=0.1)
    (opened,) = line.speak()
    assert start - opened.position == 200 * 8


def test_a_hint_a_second_before_belongs_to_the_same_words() -> None:
    line = Line(SPEECH)
    line.hear(2, dbfs=-60)
    start = line.position
    line.hear(0.1, p=0.4)
    line.hear(0.6, dbfs=-60)
    (opened,) = line.speak()
    assert opened.position < start


@pytest.mark.parametrize(("p", "is_sent"), [(0.4, False), (0.6, True)])
def test_within_music_a_hint_a_second_before_is_the_musics_own_and_a_word_is_not(p: float, is_sent: bool) -> None:
    line = Line(SPEECH)
    line.hear(5, music=True)
    hinted = line.position
    line.hear(0.1, p=p, music=True)
    line.hear(0.9, music=True)
    (opened,) = line.hear(1, p=0.9, music=True)
    assert (opened.position < hinted) is is_sent


def test_one_loud_frame_is_a_click_and_opens_nothing() -> None:
    line = Line(SPEECH)
    for _ in range(5):
        line.hear(FRAME / SECOND, p=0.95)
        line.hear(0.5)
    assert kinds(line.changes) == [Cause.SILENCE]


def test_the_gate_closes_after_the_hangover_and_says_where_speech_ended() -> None:
    line = Line(SPEECH)
    line.speak()
    spoken = line.position
    (closed,) = line.hear(2, dbfs=-60)
    assert closed.cause is Cause.SILENCE
    assert closed.position == spoken + 250 * 8
    assert closed.speech_end == spoken


def test_it_closes_when_the_hangover_has_passed_to_within_half_a_frame() -> None:
    line = Line(SPEECH)
    line.speak()
    spoken = line.position
    while not line.hear(FRAME / SECOND, dbfs=-60):
        pass
    assert abs(line.position - spoken - 650 * 8) <= FRAME // 2


def test_in_the_hangover_audio_behind_the_tail_waits_and_is_sent_when_speech_goes_on() -> None:
    line = Line(SPEECH)
    line.speak()
    spoken = line.position
    line.hear(0.5, dbfs=-60)
    assert line.gates.send_to[1] == spoken + 250 * 8
    assert line.speak(0.1) == []
    assert line.gates.send_to[1] > line.position


def test_a_word_that_fades_without_being_heard_as_speech_is_sent_to_its_end() -> None:
    line = Line(SPEECH)
    line.speak()
    line.hear(0.3, dbfs=-45)
    faded = line.position
    line.hear(1, dbfs=-60)
    assert line.changes[-1].position == faded + 250 * 8


def test_what_opened_briefly_within_sounding_music_closes_sooner() -> None:
    line = Line(SPEECH)
    line.hear(0.2, p=0.9)
    spoken = line.position
    while not line.hear(FRAME / SECOND, dbfs=-30):
        pass
    assert line.position - spoken < 400 * 8


def test_holding_back_is_for_legs_that_withhold_silence() -> None:
    line = Line(HOLD)
    line.speak()
    line.hear(0.6, dbfs=-60)
    assert line.gates.send_to[1] > line.position


def test_a_pause_shorter_than_the_hangover_keeps_it_open() -> None:
    line = Line(SPEECH)
    line.speak()
    line.hear(0.6)
    line.speak()
    assert kinds(line.changes) == [Cause.SILENCE, None]


def test_preroll_never_sends_audio_twice() -> None:
    line = Line(SPEECH)
    line.speak()
    (closed,) = line.hear(0.7, p=0.3)
    (opened,) = line.speak()
    assert opened.position == closed.position


@pytest.mark.parametrize("cause", [Cause.HOLD, Cause.MUTE, Cause.PAUSED])
def test_a_signal_closes_at_once_and_preroll_never_reaches_behind_its_end(cause: Cause) -> None:
    line = Line(SPEECH)
    line.speak()
    (closed,) = line.signal(cause, True)
    assert (closed.cause, closed.position) == (cause, line.position)
    assert line.speak() == []
    (after,) = line.signal(cause, False)
    end = line.position
    assert after.cause is Cause.SILENCE
    (opened,) = line.speak()
    assert opened.position == end


def test_the_stronger_signal_is_the_cause_and_the_weaker_one_returns() -> None:
    line = Line(SPEECH)
    signals = [(Cause.MUTE, True), (Cause.HOLD, True), (Cause.PAUSED, True), (Cause.HOLD, False), (Cause.PAUSED, False)]
    for cause, on in signals:
        line.signal(cause, on)
    assert kinds(line.changes[1:]) == [Cause.MUTE, Cause.HOLD, Cause.PAUSED, Cause.MUTE]


def test_a_signal_told_twice_is_told_once() -> None:
    line = Line(SPEECH)
    assert len(line.signal(Cause.HOLD, True)) == 1
    assert line.signal(Cause.HOLD, True) == []
    assert line.signal(Cause.MUTE, False) == []


def test_mode_off_obeys_only_the_pause() -> None:
    line = Line(OFF)
    line.signal(Cause.HOLD, True)
    line.hear(3, digital=True)
    line.hear(3, music=True)
    assert kinds(line.changes) == [None]
    line.signal(Cause.PAUSED, True)
    line.signal(Cause.PAUSED, False)
    assert kinds(line.changes) == [None, Cause.PAUSED, None]


def test_mode_hold_sends_silence_but_neither_hold_mute_music_nor_tones() -> None:
    line = Line(HOLD)
    assert line.hear(3) == []
    assert kinds(line.hear(3, digital=True)) == [Cause.MUTE]
    assert kinds(line.hear(1)) == [None]
    assert kinds(line.hear(1, music=True)) == [Cause.MUSIC]
    assert kinds(line.hear(1, tone=True)) == [Cause.TONE]
    assert kinds(line.signal(Cause.HOLD, True)) == [Cause.HOLD]
    assert kinds(line.signal(Cause.HOLD, False)) == [None]


def test_after_a_detected_mute_audio_is_sent_from_its_first_sounding_frame() -> None:
    line = Line(HOLD)
    line.hear(3, digital=True)
    sounding = line.position
    (opened,) = line.hear(0.5)
    assert opened.position == sounding


def test_digital_silence_is_silence_until_it_has_lasted_and_then_mute() -> None:
    line = Line(SPEECH)
    line.speak()
    spoken = line.position
    closed, muted = line.hear(3, digital=True)
    assert (closed.cause, muted.cause) == (Cause.SILENCE, Cause.MUTE)
    assert 0 <= muted.position - spoken - 1500 * 8 < FRAME
    (noisy,) = line.hear(0.5)
    assert noisy.cause is Cause.SILENCE


def test_a_leg_without_rtp_is_silent_after_the_hangover_and_mute_later() -> None:
    line = Line(SPEECH)
    line.speak()
    assert line.absent(0.5) == []
    assert kinds(line.absent(0.7)) == [Cause.SILENCE]
    assert line.absent(1.4) == []
    assert kinds(line.absent(1.5)) == [Cause.MUTE]
    resumed = line.position
    opened = line.speak()[-1]
    assert opened.is_open
    assert opened.position == resumed


def test_music_is_withheld_where_asked_and_sent_where_not() -> None:
    line, deaf = Line(SPEECH), Line(replace(HOLD, music=False))
    assert kinds(line.hear(2, music=True)) == [Cause.MUSIC]
    assert deaf.hear(2, music=True) == []


def test_singing_now_and_then_does_not_open_the_gate_but_an_announcement_does_without_loss() -> None:
    line = Line(SPEECH)
    line.hear(5, music=True)
    for _ in range(5):
        line.hear(0.2, p=0.9, music=True)
        line.hear(0.8, music=True)
    assert kinds(line.changes) == [Cause.SILENCE, Cause.MUSIC]
    start = line.position
    (opened,) = line.hear(1, p=0.9, music=True)
    assert opened.is_open
    assert opened.position <= start


def test_a_gap_in_the_music_makes_a_short_word_believed_at_once() -> None:
    line = Line(SPEECH)
    line.hear(5, music=True)
    line.hear(0.3, music=True, dbfs=-70)
    start = line.position
    (opened,) = line.hear(0.3, p=0.9, music=True)
    assert opened.position <= start


def test_speech_that_stands_out_of_the_music_is_believed_soon() -> None:
    line = Line(SPEECH)
    line.hear(5, music=True)
    start = line.position
    (opened,) = line.hear(0.3, p=0.9, music=True, louder=True, dbfs=-15)
    assert opened.position <= start


def test_what_the_ears_heard_again_opens_the_gate_from_where_it_was_said() -> None:
    line = Line(SPEECH)
    line.hear(5, music=True)
    start = line.position
    line.hear(0.5, music=True)
    again = np.zeros(48, np.float32)
    again[-16:-4] = 0.9
    line.position += FRAME
    one = (np.array([v]) for v in (1, 0.0, -65.0, False, True, False, True, False, False))
    (opened,) = line.gates.hear(Heard(*one, {1: again}), np.array([line.position]))
    assert opened.is_open
    assert start - 400 * 8 <= opened.position <= start + FRAME


def test_a_word_that_fades_for_a_while_ends_for_its_turn_when_it_has_faded() -> None:
    line = Line(SPEECH)
    line.hear(1, dbfs=-65)
    line.speak()
    for dbfs in (-40, -44, -48):
        line.hear(0.064, dbfs=dbfs)
    faded = line.position
    line.hear(1, dbfs=-65)
    assert line.gates.take_voices()[-1] == Voice(1, False, faded - 60 * 8)


def test_a_word_that_fades_into_its_room_for_half_a_second_ends_for_its_turn_when_it_has_faded() -> None:
    line = Line(SPEECH)
    line.hear(1, dbfs=-75)
    line.hear(1, p=0.9, dbfs=-15)
    for n in range(15):
        line.hear(0.032, dbfs=-22 - 1.8 * n)
    faded = line.position
    line.hear(1, dbfs=-75)
    assert line.gates.take_voices()[-1] == Voice(1, False, faded - 60 * 8)


@pytest.mark.parametrize(("dbfs", "is_heard"), [(-28, True), (-45, False)], ids=["loud", "faint"])
def test_a_syllable_behind_a_closure_is_the_word_when_it_is_nearly_as_loud(dbfs: float, is_heard: bool) -> None:
    line = Line(SPEECH)
    line.hear(1, dbfs=-65)
    line.hear(1, p=0.9, dbfs=-20)
    said = line.position
    line.hear(0.128, dbfs=-65)
    line.hear(0.128, dbfs=dbfs)
    end = line.position if is_heard else said
    line.hear(1, dbfs=-65)
    assert line.gates.take_voices()[-1] == Voice(1, False, end - 60 * 8)


def test_what_may_be_speech_soon_after_speech_is_told_as_a_stir_in_every_mode() -> None:
    for settings in (SPEECH, HOLD, OFF):
        line = Line(settings)
        line.hear(1)
        line.speak()
        line.gates.take_stirs()
        line.hear(0.7)
        assert line.gates.take_stirs() == []
        line.hear(0.064, p=0.2)
        assert line.gates.take_stirs() == [1, 1]
        assert line.gates.take_stirs() == []


@pytest.mark.parametrize(
    ("dbfs", "is_music", "n_stirs"), [(-25, False, 2), (-45, False, 0), (-25, True, 0)], ids=["loud", "faint", "music"]
)
def test_what_is_nearly_as_loud_as_the_voice_was_stirs_though_it_is_no_speech(
    dbfs: float, is_music: bool, n_stirs: int
) -> None:
    line = Line(SPEECH)
    line.hear(1, dbfs=-65)
    line.hear(1, p=0.9, dbfs=-20)
    line.gates.take_stirs()
    line.hear(0.7, dbfs=-65)
    line.hear(0.064, dbfs=dbfs, music=is_music)
    assert line.gates.take_stirs() == [1] * n_stirs


def test_a_room_that_rings_below_what_is_a_pause_elsewhere_is_still_the_word_on_a_quiet_line() -> None:
    line = Line(SPEECH)
    line.hear(1, dbfs=-75)
    line.hear(1, p=0.9, dbfs=-20)
    line.hear(0.3, dbfs=-53)
    faded = line.position
    line.hear(1, dbfs=-75)
    assert line.gates.take_voices()[-1] == Voice(1, False, faded - 60 * 8)


def test_speech_itself_is_no_stir_nor_is_anything_long_after_it() -> None:
    line = Line(SPEECH)
    line.hear(1)
    line.speak()
    line.gates.take_stirs()
    line.hear(0.5, p=0.9)
    assert line.gates.take_stirs() == []
    line.hear(5)
    line.hear(1, p=0.2)
    assert line.gates.take_stirs() == []


def test_voices_are_told_in_every_mode_for_turns() -> None:
    for settings in (SPEECH, HOLD, OFF):
        line = Line(settings)
        line.hear(1, dbfs=-60)
        start = line.position
        line.speak()
        end = line.position
        line.hear(1)
        assert line.gates.take_voices() == [Voice(1, True, start), Voice(1, False, end - 60 * 8)]
        assert line.gates.take_voices() == []


def test_a_row_is_as_new_for_its_next_leg() -> None:
    line = Line(SPEECH)
    line.speak()
    line.signal(Cause.HOLD, True)
    line.gates.close_leg(1)
    (begun,) = line.gates.open_leg(1, SPEECH, 0)
    assert begun.cause is Cause.SILENCE
    line.changes, line.position = [], 0
    assert kinds(line.speak()) == [None]


STEPS = st.one_of(
    st.tuples(st.just("hear"), st.floats(0, 1), st.booleans(), st.booleans(), st.booleans()),
    st.tuples(st.just("signal"), st.sampled_from([Cause.PAUSED, Cause.HOLD, Cause.MUTE]), st.booleans()),
    st.tuples(st.just("absent"), st.floats(0, 5)),
)


@given(st.sampled_from([SPEECH, HOLD, OFF]), st.lists(STEPS, max_size=60))
def test_whatever_happens_nothing_is_sent_twice_and_nothing_leaves_under_a_pause(
    settings: GateSettings, steps: list[tuple[object, ...]]
) -> None:
    line = Line(settings)
    is_paused = False
    for kind, *what in steps:
        if kind == "hear":
            p, digital, music, tone = what
            line.hear(0.1, p=float(p), digital=bool(digital), music=bool(music), tone=bool(tone))  # type: ignore[arg-type]
        elif kind == "signal":
            cause, on = what
            assert isinstance(cause, Cause)
            is_paused = bool(on) if cause is Cause.PAUSED else is_paused
            line.signal(cause, bool(on))
        else:
            line.absent(float(what[0]))  # type: ignore[arg-type]
        assert not (is_paused and line.gates.is_open[1])
    sent_to = 0
    for before, after in zip(line.changes, line.changes[1:], strict=False):
        assert before.cause != after.cause
        assert after.position >= sent_to
        if not after.is_open:
            sent_to = after.position if before.is_open else sent_to
        elif before.cause in (Cause.PAUSED, Cause.HOLD, Cause.MUTE):
            assert after.position >= before.position


def test_every_change_says_what_moved_the_gate() -> None:
    line = Line(SPEECH)
    line.speak()
    line.hear(1.0, dbfs=-65)
    line.hear(2.0, dbfs=-96, digital=True)
    line.hear(1.0, dbfs=-65)
    line.hear(2.0, music=True)
    line.speak()
    line.signal(Cause.HOLD, True)
    line.signal(Cause.HOLD, False)
    line.absent(2.0)
    assert [change.reason for change in line.changes] == [
        "start", "speech", "hangover", "digital silence", "mute ended", "music", "music ended", "speech",
        "hold signalled", "hold ended", "no rtp",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "told", "after"),
    [("off", None, None), ("hold", None, None), ("speech", None, Cause.SILENCE), ("off", Cause.HOLD, None),
     ("hold", Cause.HOLD, Cause.HOLD), ("off", Cause.PAUSED, Cause.PAUSED)],
)  # fmt: skip
def test_other_settings_are_in_force_at_once(mode: str, told: Cause | None, after: Cause | None) -> None:
    line = Line(SPEECH)
    line.hear(0.5, dbfs=-65)
    if told is not None:
        line.signal(told, True)
    changes = line.gates.adjust(line.row, replace(SPEECH, mode=mode), line.position)
    assert kinds([*line.changes, *changes])[-1] is after
    assert bool(line.gates.is_signalled[line.row]) == (after in (Cause.HOLD, Cause.PAUSED))
    for change in changes:
        assert (change.position, change.reason) == (line.position, "settings")
    assert line.hear(0.2, dbfs=-65) == []


def test_music_that_is_no_longer_withheld_is_sent_where_silence_is() -> None:
    line = Line(replace(SPEECH, mode="hold"))
    line.hear(1.0, music=True)
    assert kinds(line.gates.adjust(line.row, replace(SPEECH, mode="hold", music=False), line.position)) == [None]
    assert line.hear(1.0, music=True) == []


def test_a_shorter_hangover_holds_for_the_silence_that_runs() -> None:
    line = Line(replace(SPEECH, hangover_ms=2000))
    line.speak()
    assert line.hear(0.6, dbfs=-65) == []
    line.gates.adjust(line.row, replace(SPEECH, hangover_ms=400), line.position)
    assert kinds(line.hear(0.04, dbfs=-65)) == [Cause.SILENCE]


def test_a_hold_signalled_in_the_hangover_begins_when_it_was_signalled_though_less_was_sent() -> None:
    line = Line(SPEECH)
    line.speak(1.0)
    line.hear(0.5, dbfs=-60)
    (change,) = line.signal(Cause.HOLD, True)
    assert change.position < line.position - SECOND // 5
    assert change.signalled_at == line.position


def test_a_half_believed_voice_that_has_ended_opens_nothing_after_a_hold() -> None:
    line = Line(SPEECH)
    line.hear(1, dbfs=-60)
    (opened,) = line.hear(1, p=0.4, dbfs=-45)
    assert opened.is_open
    line.signal(Cause.HOLD, True)
    line.signal(Cause.HOLD, False)
    assert line.hear(1, dbfs=-60) == []


def test_a_half_believed_voice_ends_once_however_short_the_hangover() -> None:
    line = Line(replace(SPEECH, hangover_ms=200))
    line.hear(1, dbfs=-60)
    line.hear(2, p=0.4, dbfs=-45)
    assert kinds(line.hear(2, dbfs=-60)) == [Cause.SILENCE]
