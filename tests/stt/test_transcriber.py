"""One leg over its sessions, on a virtual clock."""

from __future__ import annotations

import pytest

from bridge.stt.events import Finalized, Interim
from tests.stt.rig import Rig, speech

PROVIDERS = ["deepgram", "soniox"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_call_without_trouble_has_every_word_once_at_its_time(provider: str) -> None:
    rig = Rig([provider], speech(0.5, 12.0, 1), [(0.2, 13.0)])
    rig.run(13.5)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    assert rig.is_finished
    assert rig.of(Interim)
    ledger = rig.leg.ledger(rig.now)
    assert ledger.lost_s == ledger.unsent_s == ledger.replayed_s == 0
    assert ledger.sessions == 1


@pytest.mark.parametrize("provider", PROVIDERS)
def test_after_a_pause_of_20_s_the_provider_says_10_and_we_say_30(provider: str) -> None:
    """The table of Deepgram's audio-keep-alive page, on one session."""
    rig = table(provider, {"soniox": {"park_after_s": 60.0}})
    (peer,) = rig.peers.values()
    theirs = [word for word in peer.recogniser.words if word.number > 100]
    assert theirs[0].start == pytest.approx(10, abs=0.001)
    assert peer.seconds == pytest.approx(15)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_same_pause_by_default_settings_gives_the_same_words(provider: str) -> None:
    rig = table(provider, {})
    assert len(rig.peers) == {"deepgram": 1, "soniox": 2}[provider]


def table(provider: str, settings: dict[str, object]) -> Rig:
    rig = Rig([provider], speech(0, 10, 1) + speech(30, 35, 101), [(0, 10), (30, 35)], settings=settings)
    rig.run(36)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    ours = [start for number, start, _ in rig.transcript() if number > 100]
    assert min(ours) == pytest.approx(30, abs=0.001)
    assert max(ours) < 35
    assert [e.through for e in rig.of(Finalized)] == [pytest.approx(10), pytest.approx(35)]
    return rig
