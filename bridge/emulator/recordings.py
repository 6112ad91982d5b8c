"""Libraries of known recordings: what was said in them and when. The bundled one lies in `recordings/`.

A library is a folder of 8 kHz 16 bit mono WAV files and a `recordings.json`; see the README in the bundled folder.
"""

from __future__ import annotations

import json
import wave
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.errors import ConfigError

RATE_HZ = 8000
BUNDLED = Path(__file__).parent / "recordings"

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word of a recording. Seconds from the recording's first sample."""

    text: str
    "Bare and lower case: `you're`."
    printed: str
    "As the text has it: `You're`, `representative.`."
    start: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """One line of speech with the times of its words."""

    name: str
    "File name without its suffix; those of the bundled library begin with `agent-` or `caller-`."
    text: str
    words: tuple[TimedWord, ...]
    samples: Samples = field(repr=False)
    speaker: str = ""

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class Music:
    """Hold music: no words in it."""

    name: str
    samples: Samples = field(repr=False)
    title: str = ""
    artist: str = ""

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True, slots=True)
class Library:
    """Recordings in the order of recordings.json, which for the bundled ones is the order of the conversation."""

    recordings: tuple[Recording, ...]
    music: tuple[Music, ...] = ()

    def __getitem__(self, name: str) -> Recording:
        for recording in self.recordings:
            if recording.name == name:
                return recording
        raise KeyError(name)

    def __add__(self, other: Library) -> Library:
        return Library(self.recordings + other.recordings, self.music + other.music)


@cache
def load(folder: Path = BUNDLED) -> Library:
    """The library in `folder`. Raises ConfigError, naming every file that cannot be used."""
    try:
        index = json.loads((folder / "recordings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"library {folder}: {error}"]) from error
    problems: list[str] = []
    recordings = [_recording(folder, entry, problems) for entry in index.get("recordings", [])]
    music = [
        Music(
            Path(entry["file"]).stem,
            _read(folder / entry["file"], problems),
            entry.get("title", ""),
            entry.get("artist", ""),
        )
        for entry in index.get("music", [])
    ]
    if problems:
        raise ConfigError(problems)
    return Library(tuple(recordings), tuple(music))


def _recording(folder: Path, entry: dict[str, Any], problems: list[str]) -> Recording:
    printed, words = entry["text"].split(), entry.get("words", [])
    if len(printed) != len(words):
        problems.append(f"library {folder}: {entry['file']} has {len(printed)} words in its text, {len(words)} timed")
    timed = tuple(TimedWord(text, p, start, end) for p, (text, start, end) in zip(printed, words, strict=False))
    samples = _read(folder / entry["file"], problems)
    return Recording(Path(entry["file"]).stem, entry["text"], timed, samples, entry.get("speaker", ""))


def _read(path: Path, problems: list[str]) -> Samples:
    try:
        with wave.open(str(path)) as audio:
            if (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (RATE_HZ, 1, 2):
                return np.frombuffer(audio.readframes(audio.getnframes()), dtype="<i2")
        problems.append(f"library: {path} is not 8 kHz, 16 bit, mono")
    except (OSError, EOFError, wave.Error) as error:
        problems.append(f"library: {path}: {error}")
    return np.zeros(0, dtype=np.int16)
