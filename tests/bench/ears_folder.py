"""A folder of labelled telephone audio, read for the ears' bench."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from bridge.gate.gate import Change
from bridge.gate.voices import Voice

RATE = 8000
Sound = NDArray[np.int16]
Span = tuple[float, float]


class Unreadable(Exception):
    """The folder, or a part of it, is not as in the development set: what and where."""


@dataclass
class Item:
    """One row: a clip, or one leg of a call."""

    name: str
    kind: str  # its class in the manifest, or `call`
    sound: Sound
    speech: list[Span]
    segments: list[dict[str, Any]] = field(default_factory=list)
    turns: list[Span] = field(default_factory=list)
    is_sung: bool = False
    changes: list[tuple[float, Change]] = field(default_factory=list)  # when it was decided, and what
    voices: list[tuple[float, Voice]] = field(default_factory=list)
    stirs: list[float] = field(default_factory=list)  # when something was heard that might have been speech

    @property
    def seconds(self) -> float:
        return len(self.sound) / RATE

    def sent(self) -> NDArray[np.bool_]:
        """Which hundredths of a second were given to the provider."""
        mask = np.zeros(round(self.seconds * 100), np.bool_)
        opened: int | None = None
        for _, change in self.changes:
            if change.is_open:
                opened = change.position
            elif opened is not None:
                mask[opened // 80 : change.position // 80] = True
                opened = None
        if opened is not None:
            mask[opened // 80 :] = True
        return mask


def load(path: Path) -> Sound:
    """Mono at 8 kHz, whatever it was. Raises Unreadable."""
    down = av.AudioResampler("s16", "mono", RATE)
    parts = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(audio=0):
                frame.pts = None
                parts += down.resample(frame)
        parts += down.resample(None)
    except (av.FFmpegError, IndexError) as exc:  # IndexError: a file without audio
        raise Unreadable(f"{path}: {exc}") from exc
    return np.concatenate([np.zeros(0, np.int16), *(part.to_ndarray().ravel() for part in parts if part)])


def read_folder(folder: Path) -> list[Item]:
    """The clips of the manifest and the legs of the calls. What is no audio or has no labels is named on stderr and
    left out. Raises Unreadable where there is nothing to score, or labels are not what they should be."""
    items = []
    for item in (*_clips(folder), *_legs(folder)):
        if isinstance(item, Item) and item.sound.size:
            items.append(item)
        else:
            sys.stderr.write(f"left out: {item.name + ': empty' if isinstance(item, Item) else item}\n")
    if not items:
        raise Unreadable(f"{folder}: neither clips (manifest.csv, labels.json) nor calls (calls/*/labels.json)")
    return items


def _clips(folder: Path) -> Iterator[Item | Unreadable]:
    if not (folder / "manifest.csv").is_file():
        return
    labels = _read_json(folder / "labels.json")
    with (folder / "manifest.csv").open(encoding="utf-8-sig", newline="") as manifest:
        for row in csv.DictReader(manifest):
            name, kind = row.get("file") or "", row.get("class") or ""
            if name not in labels and Path(name).parts[:1] == ("calls",):
                continue  # a leg, with labels of its own
            if name not in labels:
                yield Unreadable(f"{name or row}: not in labels.json")
                continue
            label = labels[name]
            try:
                spans = _spans(label, folder / name)
                yield Item(name, kind or str(label.get("class", "")), load(folder / name), spans,
                           is_sung=bool(label.get("vocals")))  # fmt: skip
            except Unreadable as exc:
                yield exc


def _legs(folder: Path) -> Iterator[Item | Unreadable]:
    for path in sorted(folder.glob("calls/*/labels.json")):
        for role, leg in _read_json(path).get("legs", {}).items():
            try:
                events = [_spans(event, path) for event in leg.get("events", [])]
                turns = [(spans[0][0], spans[-1][1]) for spans in events if spans]
                sound = load(path.parent / leg.get("file", f"{role}.flac"))
                yield Item(f"{path.parent.name}/{role}", "call", sound, _spans(leg, path), _segments(leg), turns)
            except Unreadable as exc:
                yield exc


def _segments(leg: dict[str, Any]) -> list[dict[str, Any]]:
    return [segment for segment in leg.get("segments", []) if {"start", "end", "class"} <= segment.keys()]


def _spans(label: dict[str, Any], path: Path) -> list[Span]:
    try:
        return [(float(a), float(b)) for a, b in label.get("speech") or []]
    except (TypeError, ValueError) as exc:
        raise Unreadable(f"{path}: `speech` is not a list of [start, end]") from exc


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as exc:
        raise Unreadable(f"{path}: {exc}") from exc
    if not isinstance(found, dict):
        raise Unreadable(f"{path}: not an object of labels")
    return found
