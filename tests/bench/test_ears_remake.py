from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench import ears_folder, ears_phrases, ears_remake, ears_synth


@pytest.mark.parametrize("name", ["ringback_us", "fax_cng", "dtmf"])
def test_the_same_seed_makes_the_same_sound(name: str) -> None:
    first, second = (ears_synth.tone(np.random.default_rng(5), name, 4.0) for _ in range(2))
    assert (first == second).all()
    assert np.abs(first).max() > 0.1


def test_energy_labels_find_where_a_clean_recording_sounds() -> None:
    sound = np.random.default_rng(1).standard_normal(3 * 8000) * 1e-4
    sound[8000:12000] += 0.3 * np.sin(np.arange(4000) / 3)
    assert ears_phrases.by_energy(sound) == [(1.0, 1.5)]


@pytest.mark.parametrize("is_queue", [False, True])
def test_what_is_made_can_be_scored(tmp_path: Path, is_queue: bool) -> None:
    rng = np.random.default_rng(3)
    voice = 0.2 * np.sin(np.arange(8000) / 4)
    phrases = [ears_phrases.Phrase(voice, [(0.1, 0.9)], "somebody")]
    maker = ears_remake.Maker(rng, tmp_path, phrases, [(name, ears_synth.tune(rng, 8.0)) for name in ("one", "two")])
    maker.make_call(0, is_queue=is_queue)
    labels = json.loads((tmp_path / "calls" / "call0" / "labels.json").read_text())
    (tmp_path / "labels.json").write_text("{}")
    (tmp_path / "manifest.csv").write_text("file,class\n")
    items = ears_folder.read_folder(tmp_path)
    assert {item.name for item in items} == {"call0/caller", "call0/agent"}
    assert sum(len(item.turns) for item in items) == sum(len(leg["events"]) for leg in labels["legs"].values()) > 10
    assert all(b <= item.seconds for item in items for _, b in item.speech)
