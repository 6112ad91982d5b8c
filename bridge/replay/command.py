"""`callbridge replay` on the terminal."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bridge.config import Settings
from bridge.errors import ProviderError
from bridge.local_recogniser import local_recogniser
from bridge.plans import with_tables
from bridge.publish import events
from bridge.publish.events import Published
from bridge.replay.recordings import Recording
from bridge.replay.run import ReplayOptions, replay
from bridge.replay.score import Score, Span, segments_of
from bridge.report import clock_time, event_json


class _Told:
    """Prints what happens and remembers when gates were open."""

    def __init__(self, tell: Callable[[str], None], *, as_json: bool) -> None:
        self._tell = tell
        self._as_json = as_json
        self.opened: dict[tuple[str, str], list[Span]] = {}
        self.untaken: list[str] = []
        "Recordings of which no provider took any audio, though the gate let some through."

    def __call__(self, event: Published, recording: Recording) -> None:
        if event.type == events.LEG_GATE:
            self._gate(event, recording)
        elif event.type == events.CALL_ENDED:
            legs = event.data["legs"].values()
            if not any(leg["sent_s"] for leg in legs) and any(leg["unsent_s"] for leg in legs):
                self.untaken.append(recording.name)
        if self._as_json:
            self._tell(json.dumps(event_json(event) | {"file": recording.name}, ensure_ascii=False))
        elif event.type == events.TURN_ENDED:
            at = clock_time(event.start or 0.0)
            self._tell(f"{recording.name:30} {at:>9}  {event.role:8} {event.text}")

    def _gate(self, event: Published, recording: Recording) -> None:
        spans = self.opened.setdefault((recording.name, event.leg), [])
        since = float(event.data["since"])
        if event.data["state"] == "open":
            spans.append((since, float("inf")))
        elif spans and spans[-1][1] == float("inf"):
            spans[-1] = (spans[-1][0], since)


async def run_replay(
    recordings: Sequence[Recording],
    settings: Settings,
    *,
    labels: Mapping[str, Any] | None,
    speed: float,
    as_json: bool,
    tell: Callable[[str], None],
) -> None:
    """Scores what the gate did where there are `labels`. Raises ProviderError when no provider took what was played."""
    told = _Told(tell, as_json=as_json)
    async with local_recogniser(settings) as tables:
        settings = dataclasses.replace(settings, stt=with_tables(settings.stt, tables))
        await replay(recordings, settings, ReplayOptions(speed=speed), told)
    if labels is not None:
        _score(recordings, labels, told, tell)
    if told.untaken:
        raise ProviderError(f"no provider took the audio of {', '.join(told.untaken)}", is_retryable=True)


def _score(recordings: Sequence[Recording], known: Mapping[str, Any], told: _Told, tell: Callable[[str], None]) -> None:
    score = Score()
    for recording in recordings:
        label = known.get(recording.name)
        if label is not None:
            opened = told.opened.get((recording.name, "leg1"), [])
            score.add(segments_of(label), [(a, b) for a, b in label.get("speech", [])], opened)
    for line in score.lines():
        tell(line)
