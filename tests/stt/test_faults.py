"""Every fault on every provider: words lost 0, doubled 0, times right to 20 ms. On a virtual clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.stt.events import Lost, Restored
from tests.stt.peers import ClockCutDeepgramPeer
from tests.stt.rig import PEERS, Network, Rig, speech

PROVIDERS = ["deepgram", "soniox", "vosk"]
WORDS = speech(1.0, 11.0, 1) + speech(31.0, 41.0, 101)
SPANS = [(0.6, 11.6), (30.6, 41.6)]
HANG_UP = 42.0


@dataclass(frozen=True)
class Fault:
    network: dict[str, Any]
    losing: tuple[str, ...] = tuple(PROVIDERS)
    "Providers that have a session to lose just then."


HELD = ("deepgram", "soniox")  # vosk's sessions end with every pause

FAULTS = {
    "drop in mid-word": Fault({"drops": [5.15]}),
    "drop before the first result": Fault({"drops": [1.2]}),
    "two drops in a row": Fault({"drops": [5.0, 5.5]}),
    "drop while the tail is replayed": Fault({"drops": [5.15, 6.2]}),
    "drop at the end of speech": Fault({"drops": [11.55]}),
    "drop in the hold": Fault({"drops": [20.0]}, losing=HELD),
    "drop before parking is over": Fault({"drops": [26.15]}, losing=HELD),
    "drop as the gate opens again": Fault({"drops": [30.7]}, losing=("deepgram",)),
    "drop on finalize": Fault({"drop_on": "inalize"}, losing=HELD),
    "drop just after the hang-up": Fault({"drops": [HANG_UP + 0.02]}, losing=HELD),
    "refused 503 three times at first": Fault({"refuse": {1: 503, 2: 503, 3: 503}}),
    "refused 429 at first": Fault({"refuse": {1: 429}}),
    "no connection for 20 s": Fault({"down": (0.0, 20.0), "refuse_status": 0}),
    "down for 25 s in mid-call": Fault({"drops": [5.0], "down": (4.0, 25.0)}),
    "half-open in speech": Fault({"deaf_from": 5.0}),
    "half-open in the hold": Fault({"deaf_from": 20.0, "ping_finds_after": 8.0}, losing=HELD),
    "half-open found in speech": Fault({"deaf_from": 20.0}, losing=HELD),
    "slow results": Fault({"downlink": 3.0}, losing=()),
}


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", FAULTS)
def test_no_word_is_lost_or_doubled(provider: str, name: str) -> None:
    fault = FAULTS[name]
    rig = Rig([provider], WORDS, SPANS, network=Network(**fault.network))
    rig.run(HANG_UP)
    assert rig.is_finished
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    assert rig.leg.ledger(rig.now).lost_s == 0
    ids = [final.utterance for final in rig.finals]
    assert len(set(ids)) == len(ids)
    assert bool(rig.of(Lost)) == (provider in fault.losing)
    assert len(rig.of(Lost)) - len(rig.of(Restored)) in (0, 1)
    assert rig.leg.ledger(rig.now).lost_s == 0


@pytest.mark.parametrize("dropped", [2.05, 2.3, 2.65, 3.1, 3.7, 4.22, 5.15])
def test_a_word_across_the_end_of_a_segment_is_not_lost_with_the_session(
    monkeypatch: pytest.MonkeyPatch, dropped: float
) -> None:
    monkeypatch.setitem(PEERS, "deepgram", ClockCutDeepgramPeer)
    rig = Rig(["deepgram"], WORDS, SPANS, network=Network(drops=[dropped]))
    rig.run(HANG_UP)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    ledger = rig.leg.ledger(rig.now)
    assert ledger.lost_s == 0
    assert ledger.replayed_s <= 2.2  # the open segment, and at most a second before it


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_line_cut_by_the_end_of_the_stream_loses_nothing(provider: str) -> None:
    network = Network(drop_on="CloseStream" if provider == "deepgram" else "")
    rig = Rig([provider], WORDS, [*SPANS[:1], (30.6, 41.14)], network=network)
    if provider == "soniox":
        rig.at(rig.origin + 41.15, rig.drop_all)
    rig.words = [word for word in WORDS if word.end <= 41.14]
    rig.run(41.14)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_provider_that_answers_no_finalize_loses_nothing(provider: str) -> None:
    rig = Rig([provider], WORDS, SPANS)

    def silence_them() -> None:
        for peer in rig.peers.values():
            peer.answers_flush = False

    rig.at(rig.origin + 1.0, silence_them)
    rig.run(HANG_UP)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()


@settings(max_examples=25, deadline=None)
@given(
    provider=st.sampled_from(PROVIDERS),
    drops=st.lists(st.floats(0.5, 30.0), max_size=4),
    down=st.tuples(st.floats(0.0, 25.0), st.floats(0.0, 8.0)),
    pauses=st.lists(st.tuples(st.floats(0.5, 4.0), st.floats(1.0, 4.0)), min_size=1, max_size=5),
)
def test_whatever_breaks_and_whenever_no_word_is_lost_or_doubled(
    provider: str, drops: list[float], down: tuple[float, float], pauses: list[tuple[float, float]]
) -> None:
    at, words, spans = 0.0, [], []
    for pause, length in pauses:
        start = round(at + pause, 2)
        said = speech(start + 0.4, start + 0.4 + length, len(words) + 1)
        words += [replace(word, number=len(words) + n + 1) for n, word in enumerate(said)]
        at = round(start + length + 1.0, 2)
        spans.append((start, at))
    rig = Rig([provider], words, spans, network=Network(drops=drops, down=(down[0], sum(down))))
    rig.run(at + 0.1)
    rig.assert_every_word_once()
    rig.assert_ledger_adds_up()
    assert rig.leg.ledger(rig.now).lost_s == 0
