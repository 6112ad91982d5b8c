"""Failover along the routes, breakers, backoff; and what the tape lets go of."""

from __future__ import annotations

import pytest

from bridge.stt import PROVIDERS
from bridge.stt.events import Final, Finalized, Lost, Restored
from bridge.stt.routing import COOL_DOWN_HARD, Breakers, Route, RouteChoice
from bridge.stt.session import Cure, SttOptions
from tests.stt.rig import RATE, Network, Rig, speech

WORDS = speech(1, 9, 1)
SPANS = [(0.6, 9.5)]


@pytest.mark.parametrize("status", [400, 401, 402, 403])
def test_a_refusal_that_no_retry_cures_fails_over_at_once(status: int) -> None:
    rig = Rig(["deepgram", "soniox"], WORDS, SPANS, network=Network(refuse={1: status}))
    rig.run(10)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    assert {final.provider for final in rig.finals} == {"soniox"}
    assert rig.opened_at[2] - rig.origin < 1.5
    (lost,) = rig.of(Lost)
    assert isinstance(lost, Lost)
    assert (lost.provider, lost.reason) == ("deepgram", f"{status} refused")
    assert [e.provider for e in rig.of(Restored) if isinstance(e, Restored)] == ["soniox"]


def test_a_soniox_key_error_is_a_message_and_fails_over_too() -> None:
    rig = Rig(["soniox", "deepgram"], WORDS, SPANS)

    def refuse_key() -> None:
        rig.leg.received(1, '{"tokens":[],"error_code":401,"error_type":"unauthenticated"}', rig.now)
        rig.pump()

    rig.at(rig.origin + 1.0, refuse_key)
    rig.run(10)
    rig.assert_every_word_once()
    assert [e.reason for e in rig.of(Lost) if isinstance(e, Lost)] == ["401 unauthenticated"]
    assert {final.provider for final in rig.finals} == {"deepgram"}


def test_a_provider_that_keeps_failing_is_left_for_the_next_by_all_legs_and_comes_back() -> None:
    breakers = Breakers(lambda: 0.5)
    network = Network(refuse={1: 503, 2: 503, 3: 503})
    first = Rig(["deepgram", "soniox"], WORDS, SPANS, network=network, breakers=breakers)
    first.run(10)
    first.assert_every_word_once()
    assert first.providers[4] == "soniox"
    second = Rig(["deepgram", "soniox"], WORDS, SPANS, breakers=breakers, origin=first.origin + 0.5)
    second.run(10)
    second.assert_every_word_once()
    assert second.providers[1] == "soniox"  # the breaker is open
    third = Rig(["deepgram", "soniox"], WORDS, SPANS, breakers=breakers, origin=first.origin + 60)
    third.run(10)
    assert third.providers[1] == "deepgram"
    assert breakers.states(third.now) == {}


def test_one_leg_probes_an_open_breaker_and_the_others_wait() -> None:
    breakers = Breakers(lambda: 0.0)
    breakers.failed("key", Cure.ELSEWHERE, 0.0)
    assert not breakers.allows("key", COOL_DOWN_HARD - 0.1)
    assert breakers.allows("key", COOL_DOWN_HARD)
    breakers.attempt("key", COOL_DOWN_HARD)
    assert not breakers.allows("key", COOL_DOWN_HARD + 1)
    breakers.failed("key", Cure.ELSEWHERE, COOL_DOWN_HARD + 2)
    assert not breakers.allows("key", 2 * COOL_DOWN_HARD + 3)  # the second wait is twice as long
    assert breakers.allows("key", 3 * COOL_DOWN_HARD + 3)
    breakers.succeeded("key")
    assert breakers.allows("key", 0.0)


def test_a_thousand_legs_lost_at_once_do_not_push_the_probe_away() -> None:
    breakers = Breakers(lambda: 0.0)
    for _ in range(1000):
        breakers.failed("key", Cure.RETRY, 5.0)
    assert breakers.allows("key", 6.0)


def test_routes_with_equal_settings_share_a_breaker_and_others_do_not() -> None:
    deepgram = PROVIDERS["deepgram"]
    one = Route(deepgram, deepgram.settings_type(api_key="a"))
    assert one.key == Route(deepgram, deepgram.settings_type(api_key="a")).key
    assert one.key != Route(deepgram, deepgram.settings_type(api_key="b")).key
    assert "a" not in one.key.removeprefix("deepgram-") or len(one.key) > 20


def test_with_nothing_left_the_call_goes_on_and_what_the_ring_cannot_hold_is_lost() -> None:
    rig = Rig(["deepgram"], speech(1, 30, 1), [(0.0, 30.0)], options=SttOptions(replay_s=5.0),
              network=Network(down=(0.0, 20.0)))  # fmt: skip
    rig.run(31)
    rig.assert_ledger_adds_up()
    ledger = rig.leg.ledger(rig.now)
    assert ledger.unsent_s == pytest.approx(ledger.lost_s)
    assert 14 < ledger.lost_s < 24
    heard_from = 30 - ledger.sent_s
    rig.assert_every_word_once(expected=[word for word in rig.words if word.start >= heard_from])


def test_a_provider_that_never_comes_leaves_a_ledger_that_adds_up() -> None:
    rig = Rig(["deepgram"], WORDS, SPANS, network=Network(down=(0.0, 1e6)))
    rig.run(10)
    assert rig.is_finished
    ledger = rig.leg.ledger(rig.now)
    assert ledger.lost_s == ledger.unsent_s == pytest.approx(rig.handed / RATE)
    assert len(rig.of(Lost)) == 1
    assert len(rig.of(Finalized)) == 1
    rig.assert_ledger_adds_up()


def test_a_replay_is_paced_and_live_audio_queues_behind_it() -> None:
    rig = Rig(["deepgram"], speech(1, 40, 1), [(0.0, 40.0)], network=Network(drops=[10.0], down=(9.0, 20.0)))
    rig.run(41)
    rig.assert_every_word_once()
    audio = [(at, len(message)) for at, message in rig.peers[max(rig.peers)].received if isinstance(message, bytes)]
    first, total = audio[0][0], 0
    for at, size in audio:
        total += size
        assert total <= 1.25 * RATE * (at - first) + 0.1 * RATE + 1


def test_purged_audio_is_neither_sent_nor_replayed() -> None:
    rig = Rig(["deepgram"], speech(1, 20, 1), [(0.6, 20.0)], network=Network(drops=[5.0], down=(4.9, 12.0)))
    rig.at(rig.origin + 10.0, lambda: rig.leg.purge(rig.now))
    rig.run(21)
    rig.assert_ledger_adds_up()
    later = b"".join(message for _, message in rig.peers[max(rig.peers)].received if isinstance(message, bytes))
    assert not {word.number for word in rig.words if word.end < 9.97} & set(later)
    told = {number for number, _, _ in rig.transcript()}
    assert {word.number for word in rig.words if word.start > 10.0} <= told
    ledger = rig.leg.ledger(rig.now)
    assert ledger.lost_s >= ledger.unsent_s > 4.9


def test_ids_go_on_over_a_lost_session_and_revisions_never_fall() -> None:
    rig = Rig(["deepgram"], speech(1, 20, 1), [(0.6, 20.0)], network=Network(drops=[4.3, 9.9]))
    rig.run(21)
    shown: dict[int, int] = {}
    closed: set[int] = set()
    for _, event in rig.events:
        number, revision = getattr(event, "utterance", None), getattr(event, "revision", None)
        if number is None or revision is None:
            continue
        assert number not in closed
        assert revision == shown.get(number, 0) + 1
        shown[number] = revision
        if isinstance(event, Final):
            closed.add(number)
    assert sorted(shown) == list(range(1, len(shown) + 1))
    assert closed == set(shown)


def test_a_call_whose_key_is_refused_ends_without_waiting_for_the_breaker() -> None:
    rig = Rig(["deepgram"], WORDS, SPANS, network=Network(down=(0.0, 1e6), refuse_status=401))
    rig.run(10)
    assert rig.is_finished
    assert rig.now - rig.origin == pytest.approx(10.0, abs=0.1)
    assert rig.leg.ledger(rig.now).lost_s == pytest.approx(rig.handed / RATE)
    rig.assert_ledger_adds_up()


def test_a_provider_that_works_for_a_few_seconds_and_dies_again_is_left_for_the_next() -> None:
    """What each death makes it hear again can only be sent a quarter faster than it was said."""
    rig = Rig(["deepgram", "soniox"], speech(1, 69, 1), [(0.6, 69.5)])

    def die() -> None:
        for session in list(rig.alive):
            if rig.providers[session] == "deepgram":
                rig.drop(session)

    for n in range(1, 15):
        rig.at(rig.origin + 5.0 * n, die)
    rig.run(70)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    assert [event.provider for event in rig.of(Lost) if isinstance(event, Lost)] == ["deepgram"] * 3
    assert rig.finals[-1].provider == "soniox"


def test_a_provider_that_a_leg_had_better_avoid_is_taken_where_there_is_no_other_and_again_after_a_minute() -> None:
    breakers = Breakers(lambda: 0.0)
    first, second = (Route(PROVIDERS[name], PROVIDERS[name].settings_type()) for name in ("deepgram", "soniox"))
    alone, both = RouteChoice([first], breakers, lambda: 0.0), RouteChoice([first, second], breakers, lambda: 0.0)
    for choice in (alone, both):
        for now in (10.0, 20.0, 30.0):
            assert choice.choose(now) is first
            choice.accepted(first)
            choice.proved()
            choice.failed(first, Cure.RETRY, now)
    assert alone.choose(31.0) is first
    assert both.choose(31.0) is second
    assert both.choose(71.0) is first
