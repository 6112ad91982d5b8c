"""Folders that are labelled in other ways than the development set are scored as far as they go."""

from __future__ import annotations

import json
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.bench import ears
from tests.bench.ears_folder import Unreadable, read_folder


def write(path: Path, seconds: float, *, rate_hz: int = 8000, channels: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    one = (3000 * np.sin(2 * np.pi * 300 * t)).astype(np.int16)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, 2, rate_hz, 0, "NONE", ""))
        file.writeframes(np.repeat(one, channels).tobytes())


def test_other_rates_and_stereo_are_heard_as_mono_at_8_khz(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b" / "one.wav", 1.0, rate_hz=16000, channels=2)
    (tmp_path / "manifest.csv").write_text("file,class\na/b/one.wav,tone\n")
    (tmp_path / "labels.json").write_text(json.dumps({"a/b/one.wav": {}}))
    (item,) = read_folder(tmp_path)
    assert item.seconds == pytest.approx(1.0, abs=0.01)
    assert np.sqrt(np.mean(item.sound[800:-800].astype(float) ** 2)) == pytest.approx(3000 / 2**0.5, rel=0.05)


def test_what_is_missing_or_no_audio_is_named_and_the_rest_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "good.wav", 6.0)
    write(tmp_path / "empty.wav", 0.0)
    (tmp_path / "text.wav").write_text("no audio")
    names = ("good", "empty", "text", "gone", "unlabelled")
    (tmp_path / "manifest.csv").write_text("file,class\n" + "".join(f"{name}.wav,music\n" for name in names))
    (tmp_path / "labels.json").write_text(json.dumps({f"{name}.wav": {} for name in names[:-1]}))
    write(tmp_path / "calls" / "one" / "caller.wav", 2.0)
    legs = {"caller": {"file": "caller.wav"}, "agent": {"file": "agent.wav", "speech": [[0, 1]]}}
    (tmp_path / "calls" / "one" / "labels.json").write_text(json.dumps({"legs": legs}))
    monkeypatch.setattr(sys, "argv", ["ears", str(tmp_path), "--no-cost", "--json", str(tmp_path / "out.json")])
    ears.main()
    assert json.loads((tmp_path / "out.json").read_text())["withheld"]["music"]["seconds"] == 6.0
    said = capsys.readouterr().err
    assert all(name in said for name in ("empty.wav", "text.wav", "gone.wav", "unlabelled.wav", "agent.wav"))


def test_a_folder_without_anything_to_score_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="neither clips"):
        read_folder(tmp_path)
    (tmp_path / "manifest.csv").write_text("file,class\n")
    with pytest.raises(Unreadable, match=r"labels\.json"):
        read_folder(tmp_path)
    (tmp_path / "labels.json").write_text("[1]")
    with pytest.raises(Unreadable, match="not an object"):
        read_folder(tmp_path)
