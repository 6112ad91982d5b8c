from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bridge.emulator.recordings import BUNDLED, load
from bridge.errors import ConfigError


def test_the_bundled_library_is_small_and_every_file_is_attributed() -> None:
    files = list(BUNDLED.iterdir())
    assert sum(file.stat().st_size for file in files) < 1_500_000
    index = json.loads((BUNDLED / "recordings.json").read_text())
    entries = index["recordings"] + index["music"]
    assert {entry["file"] for entry in entries} == {file.name for file in files if file.suffix == ".wav"}
    assert all(entry["licence"] and entry["source"] for entry in entries)
    assert all(entry.get("speaker") or entry.get("artist") for entry in entries)


def test_it_has_two_parties_and_hold_music() -> None:
    library = load()
    speakers = [recording.name.split("-")[0] for recording in library.recordings]
    assert speakers.count("agent") >= 5
    assert speakers.count("caller") >= 5
    assert all(1.0 <= recording.seconds <= 7.0 for recording in library.recordings)
    assert library.music[0].seconds >= 20.0


def test_word_times_are_in_order_inside_the_recording_and_cover_its_speech() -> None:
    for recording in load().recordings:
        assert [word.printed for word in recording.words] == recording.text.split()
        edges = [edge for word in recording.words for edge in (word.start, word.end)]
        assert edges == sorted(edges)
        assert edges[-1] <= recording.seconds
        frames = recording.samples[: len(recording.samples) // 80 * 80].reshape(-1, 80).astype(float)
        level = np.sqrt((frames**2).mean(axis=1))
        loud = level > level.max() / 30
        covered = np.zeros(len(loud), dtype=bool)
        for word in recording.words:
            covered[round(word.start * 100) : round(word.end * 100)] = True
        assert (loud & ~covered).sum() <= 0.06 * loud.sum(), recording.name


def test_a_recording_is_found_by_its_name_and_an_unknown_name_is_an_error() -> None:
    assert load()["caller-weasels"].text == "Weasels have eaten our phone system."
    with pytest.raises(KeyError):
        load()["nobody"]


def test_a_broken_library_is_refused_with_every_problem(tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"not a wave file")
    entries = [
        {"file": "missing.wav", "text": "hello there", "words": [["hello", 0.0, 0.1]]},
        {"file": "noise.wav", "text": "hello", "words": [["hello", 0.0, 0.1]]},
    ]
    (tmp_path / "recordings.json").write_text(json.dumps({"recordings": entries}))
    with pytest.raises(ConfigError) as refused:
        load(tmp_path)
    assert len(refused.value.problems) == 3


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load(tmp_path)
