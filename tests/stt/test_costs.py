"""What pauses cost, and that the ledger says so."""

from __future__ import annotations

import itertools

import pytest

from bridge.stt.events import Finalized
from tests.stt.rig import HANDSHAKE, Rig, speech

HOLD = 2 * 3600.0


def after_a_long_hold(provider: str, **settings: object) -> Rig:
    """Speech to 10 s, two hours of hold, and 5 s of speech after it."""
    back = 10 + HOLD
    words = speech(1, 10, 1) + speech(back, back + 5, 101)
    rig = Rig([provider], words, [(0.6, 10.0)], settings={provider: settings} if settings else None)
    rig.run(10.4, finish=False)
    rig.skip(HOLD - 0.4)
    rig.open_spans = [(back, back + 5)]
    rig.run_on(back, back + 5.5)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    return rig


def test_two_hours_of_hold_cost_nothing_on_deepgram() -> None:
    rig = after_a_long_hold("deepgram")
    ledger = rig.leg.ledger(rig.now)
    assert ledger.billable_s == pytest.approx(9.4 + 5.0)
    assert ledger.sent_s == pytest.approx(ledger.provider_s, abs=0.1)
    assert ledger.sessions == 1
    (peer,) = rig.peers.values()
    times = [at for at, message in peer.received]
    assert max(b - a for a, b in itertools.pairwise(times)) <= 5.0
    assert ledger.keepalives == sum("KeepAlive" in text for _, text in peer.texts())
    assert ledger.keepalives == pytest.approx(HOLD / 4, abs=2)


def test_two_hours_of_hold_cost_at_most_the_parking_time_on_soniox() -> None:
    rig = after_a_long_hold("soniox", park_after_s=15.0)
    ledger = rig.leg.ledger(rig.now)
    assert ledger.billable_s <= 9.4 + 15.0 + 5.0 + 15.0
    assert ledger.billable_s == pytest.approx(ledger.connected_s)
    assert ledger.sessions == 2


def test_no_keepalive_is_sent_while_audio_flows() -> None:
    rig = Rig(["deepgram"], speech(1, 59, 1), [(0, 60)])
    rig.run(60.5)
    assert rig.leg.ledger(rig.now).keepalives == 0
    rig.assert_every_word_once()


def test_a_call_that_starts_on_hold_connects_to_nobody_until_somebody_speaks() -> None:
    rig = Rig(["deepgram"], speech(61, 65, 1), [(60.6, 65.5)])
    rig.run(60.0, finish=False)
    assert rig.leg.ledger(rig.now).sessions == 0
    rig.run_on(60.0, 66.0)
    rig.assert_every_word_once()
    assert rig.leg.ledger(rig.now).padded_s == 0
    assert rig.opened_at[1] == pytest.approx(rig.origin + 60.6 + HANDSHAKE, abs=0.05)


def test_priming_connects_at_once_and_its_silence_is_on_the_ledger() -> None:
    rig = Rig(["deepgram"], speech(3, 8, 1), [(2.6, 8.5)], settings={"deepgram": {"prime_s": 0.5}})
    rig.run(9.0)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    ledger = rig.leg.ledger(rig.now)
    assert ledger.padded_s == pytest.approx(0.5)
    assert ledger.sent_s == pytest.approx(5.9 + 0.5)
    assert rig.opened_at[1] == pytest.approx(rig.origin + HANDSHAKE)


def test_a_deepgram_session_that_never_answered_is_not_left_to_die_in_a_hold() -> None:
    """Too little audio for a first response, then KeepAlive only: Deepgram would close it with NET-0000."""
    rig = Rig(["deepgram"], speech(60, 63, 1), [(0.0, 0.2), (59.6, 63.5)])

    def say_nothing() -> None:
        for peer in rig.peers.values():
            peer.answers_flush = False

    rig.at(rig.origin + 0.23, say_nothing)
    rig.run(64.0)
    rig.assert_every_word_once()
    assert [m for _, m in rig.peers[1].texts()][-1] == '{"type":"CloseStream"}'
    assert rig.leg.ledger(rig.now).sessions == 2
    assert len(rig.of(Finalized)) == 2


def test_a_soniox_stream_is_rotated_in_a_pause_before_its_300_minutes_are_over() -> None:
    rig = Rig(["soniox"], speech(1, 5, 1), [(0.6, 5.5)], settings={"soniox": {"park_after_s": 1e6}})
    rig.run(6.0, finish=False)
    rig.skip(271 * 60)
    assert [m for _, m in rig.peers[1].texts()][-1] == ""
    assert not rig.alive
    rig.assert_every_word_once()


def test_a_soniox_stream_without_any_pause_is_rotated_by_replay() -> None:
    words = speech(1, 12, 1)
    rig = Rig(["soniox"], words, [(0.6, 12.5)])
    rig.at(rig.origin + 5.0, lambda: make_old(rig))
    rig.run(13.0)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    assert rig.leg.ledger(rig.now).sessions == 2


def make_old(rig: Rig) -> None:
    run = rig.leg._runs.find(1)
    assert run is not None
    assert run.opened_at is not None
    run.opened_at -= 291 * 60
    rig.leg.handle_timer(rig.now)
    run.opened_at += 291 * 60
