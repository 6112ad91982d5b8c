"""What the gate did, held against labels: seconds withheld and sent per class, and speech lost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import ConfigError

Span = tuple[float, float]


@dataclass(slots=True)
class Score:
    """Seconds; summed over all legs scored."""

    sent: dict[str, float] = field(default_factory=dict)
    withheld: dict[str, float] = field(default_factory=dict)
    speech: float = 0.0
    speech_lost: float = 0.0

    def add(self, segments: Iterable[Mapping[str, Any]], speech: Iterable[Span], opened: Sequence[Span]) -> None:
        """One leg: its labelled segments, its stretches of real speech, and when its gate was open."""
        for segment in segments:
            start, end, name = float(segment["start"]), float(segment["end"]), str(segment["class"])
            heard = overlap((start, end), opened)
            self.sent[name] = self.sent.get(name, 0.0) + heard
            self.withheld[name] = self.withheld.get(name, 0.0) + end - start - heard
        for start, end in speech:
            self.speech += end - start
            self.speech_lost += end - start - overlap((start, end), opened)

    def lines(self) -> list[str]:
        """A table for people."""
        rows = [f"{'class':12}{'seconds':>10}{'sent':>10}{'withheld':>10}"]
        for name in sorted(self.sent):
            sent, withheld = self.sent[name], self.withheld[name]
            rows.append(f"{name:12}{sent + withheld:10.1f}{sent:10.1f}{withheld:10.1f}")
        share = 100 * self.speech_lost / self.speech if self.speech else 0.0
        return [*rows, f"speech lost {self.speech_lost:.3f} of {self.speech:.1f} s ({share:.2f} %)"]


def overlap(span: Span, opened: Sequence[Span]) -> float:
    """Seconds of `span` within `opened`."""
    return sum(max(0.0, min(span[1], end) - max(span[0], start)) for start, end in opened)


def labels_of(path: Path) -> dict[str, Any]:
    """A labels file: by file (`labels.json` of a folder) or of one composed call (`{"legs": {role: ...}}`). Raises
    ConfigError."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError([f"--labels {path}: {type(error).__name__}"]) from None
    if not isinstance(found, dict):
        raise ConfigError([f"--labels {path}: not an object"])
    legs = found.get("legs")
    if isinstance(legs, dict):
        return {str(leg.get("file", role)): leg for role, leg in legs.items()}
    return {Path(name).name: label for name, label in found.items()}


def segments_of(label: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A label's segments; a clip that has none is one segment of its class."""
    segments = label.get("segments")
    if segments:
        return list(segments)
    return [{"start": 0.0, "end": label.get("seconds", 0.0), "class": label.get("class", "unknown")}]
