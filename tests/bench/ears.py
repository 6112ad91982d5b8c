"""Scores ears, gate and turns on a folder of labelled telephone audio.

    python -m tests.bench.ears FOLDER [--json OUT] [--variants] [--no-cost]

FOLDER: manifest.csv (file, class), labels.json and calls/*/labels.json as in the development set. Every clip and every
leg of every call is one row of the same Ears and Gates that the media plane runs; look-back counts as sent. Audio of
any rate and number of channels is taken down to 8 kHz mono first; what has no labels or cannot be read is named.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bridge.config import GateSettings
from bridge.gate.ears import FRAME
from bridge.gate.gate import Gates
from bridge.gate.turns import Turns
from bridge.gate.voices import Voice
from bridge.model import Cause
from tests.bench import ears_cost, ears_material
from tests.bench.ears_folder import RATE, Item, Span, Unreadable, read_folder
from tests.gate.keeping import KeepingEars


def listen(items: list[Item], settings: GateSettings) -> None:
    """All items at once through one Ears and one Gates; fills their changes and voices."""
    ears, gates = KeepingEars(len(items)), Gates(len(items))
    for row, item in enumerate(items):
        item.changes = [(0.0, change) for change in gates.open_leg(row, settings, 0)]
        item.voices, item.stirs = [], []
    lengths = np.array([len(item.sound) // FRAME for item in items])
    for n in range(int(lengths.max(initial=0))):
        rows = np.flatnonzero(lengths > n)
        frames = np.stack([items[row].sound[n * FRAME : (n + 1) * FRAME] for row in rows])
        now = (n + 1) * FRAME / RATE
        for change in gates.hear(ears.hear(rows, frames), np.full(rows.size, (n + 1) * FRAME)):
            items[change.row].changes.append((now, change))
        for voice in gates.take_voices():
            items[voice.row].voices.append((now, voice))
        for row in gates.take_stirs():
            items[row].stirs.append(now)


def overlap(mask: NDArray[np.bool_], spans: list[Span]) -> tuple[float, float]:
    """Seconds of the spans that are in the mask, and seconds of the spans."""
    parts = [mask[round(a * 100) : round(b * 100)] for a, b in spans]
    return sum(int(part.sum()) for part in parts) / 100, sum(len(part) for part in parts) / 100


def outside(spans: list[Span], bounds: Span, margin: float) -> list[Span]:
    """`bounds` without the spans widened by `margin`."""
    rest, start = [], bounds[0]
    for a, b in sorted(spans):
        if b + margin > bounds[0] and a - margin < bounds[1]:
            if a - margin > start:
                rest.append((start, a - margin))
            start = max(start, b + margin)
    return [*rest, (start, bounds[1])] if start < bounds[1] else rest


def score_withheld(items: list[Item]) -> dict[str, Any]:
    """Per class: seconds, seconds sent, share withheld. Clips whole; in calls only what is a second or more from speech
    (the pre-roll and the hangover of a turn belong to the turn)."""
    totals: dict[str, list[float]] = {}

    def add(kind: str, mask: NDArray[np.bool_], spans: list[Span]) -> None:
        got, whole = overlap(mask, spans)
        total = totals.setdefault(kind, [0.0, 0.0])
        total[0] += whole
        total[1] += got

    for item in items:
        mask = item.sent()
        if item.kind in ("music", "noise", "silence", "tone"):
            add(f"{item.kind}{' sung' if item.is_sung else ''}", mask, [(0.0, item.seconds)])
        for segment in item.segments:
            if segment["class"] in ("music", "noise", "silence", "tone"):
                detail = str(segment.get("detail", ""))
                name = segment["class"] + (" sung" if "vocal" in detail else "")
                add(f"call: {name}", mask, outside(item.speech, (segment["start"], segment["end"]), 1.0))
    return {
        kind: {"seconds": round(whole, 2), "sent_s": round(got, 2), "withheld": round(1 - got / whole, 5)}
        for kind, (whole, got) in sorted(totals.items()) if whole
    }  # fmt: skip


def score_speech(items: list[Item]) -> dict[str, Any]:
    """Labelled speech seconds that were not sent, per kind of item, and the items that lost most."""
    totals: dict[str, list[float]] = {}
    worst = []
    for item in items:
        got, whole = overlap(item.sent(), item.speech)
        if whole:
            total = totals.setdefault(item.kind, [0.0, 0.0])
            total[0] += whole
            total[1] += whole - got
            worst.append((round(whole - got, 2), item.name))
    everything = [sum(part) for part in zip(*totals.values(), strict=True)] if totals else [0.0, 0.0]
    kinds = {**totals, "all": everything}
    return {
        "lost": {k: {"seconds": round(s, 2), "lost_s": round(lost, 2), "lost": round(lost / max(s, 1e-9), 5)}
                 for k, (s, lost) in kinds.items()},
        "worst": [entry for entry in sorted(worst, reverse=True)[:8] if entry[0] > 0],
    }  # fmt: skip


def score_calls(items: list[Item]) -> dict[str, Any]:
    legs = [item for item in items if item.kind == "call"]
    seconds = sum(item.seconds for item in legs)
    if not seconds:
        return {}
    return {
        "leg_seconds": round(seconds, 1),
        "speech": round(sum(b - a for item in legs for a, b in item.speech) / seconds, 4),
        "sent": round(sum(item.sent().sum() / 100 for item in legs) / seconds, 4),
    }


def score_music_state(items: list[Item]) -> dict[str, Any]:
    """Seconds from the first sound of music to the gate's cause `music`; clips and hold music in calls."""
    delays, missed = [], []
    for item in items:
        starts = [0.0] if item.kind == "music" else []
        ends = [item.seconds] if item.kind == "music" else []
        for segment in item.segments:
            if segment["class"] == "music" and segment["end"] - segment["start"] >= 5:
                starts.append(segment["start"])
                ends.append(segment["end"])
        for start, end in zip(starts, ends, strict=True):
            start += ears_material.onset(item.sound[int(start * RATE) : int(end * RATE)])
            state = False
            for now, change in item.changes:
                if now <= start:
                    state = change.cause is Cause.MUSIC
            heard = [now - start for now, c in item.changes if start < now < end and c.cause is Cause.MUSIC]
            name = f"{item.name}@{start:.0f}"
            if state or heard:
                delays.append((0.0 if state else heard[0], name))
            else:
                missed.append(name)
    times = [told for told, _ in delays]
    return {
        "median_s": round(float(np.median(times)), 2) if times else None,
        "worst_s": round(max(times), 2) if times else None,
        "slowest": [(round(told, 2), name) for told, name in sorted(delays, reverse=True)[:4]],
        "never": missed,
        "n": len(times) + len(missed),
    }


def score_turns(items: list[Item], settings: GateSettings) -> dict[str, Any]:
    """Latency from the last word's end. The provider is taken to answer a Finalize at once: this is our part."""
    finalize, ended, premature_finalize, premature_turn, missed = [], [], 0, 0, 0
    for item in items:
        tells = told_turns(item, settings)
        for n, (start, end) in enumerate(item.turns):
            until = item.turns[n + 1][0] if n + 1 < len(item.turns) else item.seconds + 2
            closes = [now for now, change in item.changes if change.cause in (Cause.SILENCE, Cause.MUTE, Cause.MUSIC)]
            premature_finalize += any(start < now < end for now in closes)
            premature_turn += any(start < now < end for now in tells)
            finalize += [now - end for now in closes if end <= now < until][:1]
            after = [now - end for now in tells if end <= now < until + 1.0][:1]
            ended += after
            missed += not after
    total = sum(len(item.turns) for item in items)
    if not finalize or not ended:
        return {}
    return {
        "turns": total,
        "finalize_median_s": round(float(np.median(finalize)), 3),
        "finalize_p95_s": round(float(np.percentile(finalize, 95)), 3),
        "finalize_premature": round(premature_finalize / total, 4),
        "turn_ended_median_s": round(float(np.median(ended)), 3),
        "turn_ended_p95_s": round(float(np.percentile(ended, 95)), 3),
        "turn_ended_premature": round(premature_turn / total, 4),
        "turn_ends_missed": missed,
    }


def told_turns(item: Item, settings: GateSettings) -> list[float]:
    """When `turn.ended` would have been published, by the real Turns fed with the gate's voices."""
    turns = Turns(turn_end=settings.turn_end_ms / 1000, wait=3.0)
    told: list[float] = []
    start = 0.0

    def pass_time(now: float) -> None:
        while (due := turns.deadline()) is not None and due <= now:
            turns.handle_timer(due)
            told.extend(due for _ in turns.take_events())

    heard: list[tuple[float, Voice | None]] = [*item.voices, *((now, None) for now in item.stirs)]
    for now, voice in sorted(heard, key=lambda entry: entry[0]):
        pass_time(now)
        if voice is None:
            turns.stirs(now)
            continue
        at = voice.position / RATE
        if voice.is_speaking:
            start = at
            turns.begins(at, now)
        else:
            turns.speech(start, at, now)
            turns.final("words", start, at, now)
            turns.finalized(at, now)
        told.extend(now for _ in turns.take_events())
    pass_time(item.seconds + 10)
    return told


def score(items: list[Item], settings: GateSettings) -> dict[str, Any]:
    listen(items, settings)
    return {
        "speech": score_speech(items),
        "withheld": score_withheld(items),
        "calls": score_calls(items),
        "music_state": score_music_state(items),
        "turns": score_turns(items, settings),
    }


def score_words(items: list[Item], settings: GateSettings) -> dict[str, Any]:
    """A short word after minutes of music, with and without a gap before it: how many are sent whole (9 of 10 parts).
    Of the words that are heard on a quiet line: what is measured is what the music does to them."""
    result: dict[str, Any] = {}
    words = ears_material.short_words([(item.sound, item.speech) for item in items if item.kind == "speech"])
    alone = [Item("alone", "word", sound, [span]) for sound, span in ears_material.words_in_quiet(words)]
    listen(alone, settings)
    heard = [g >= 0.9 * w for g, w in (overlap(item.sent(), item.speech) for item in alone)]
    words = [word for word, is_heard in zip(words, heard, strict=True) if is_heard]
    result["words"] = {"n": len(heard), "heard on a quiet line and used": len(words)}
    tunes = {False: [i.sound for i in items if i.kind == "music" and not i.is_sung],
             True: [i.sound for i in items if i.kind == "music" and i.is_sung]}  # fmt: skip
    for is_sung, sounds in tunes.items():
        for gap in (0.0, 0.3, 1.0):
            composed = ears_material.words_after_music(sounds, words, gap)
            made = [Item("word", "word", sound, [span]) for sound, span in composed]
            if made:
                listen(made, settings)
                caught = [overlap(item.sent(), item.speech) for item in made]
                name = f"{'sung' if is_sung else 'instrumental'}, gap {gap:g} s"
                result[name] = {"n": len(made), "caught": round(float(np.mean([g >= 0.9 * w for g, w in caught])), 4)}
    return result


def score_variants(items: list[Item], settings: GateSettings, only: str = "") -> dict[str, Any]:
    """The rows again for worse lines: quiet, noisy, transcoded, with loss."""
    result = {}
    for name, change in ears_material.VARIANTS.items():
        if only and only not in name:
            continue
        changed = [replace(item, sound=change(item.sound, item.speech)) for item in items]
        whole = score(changed, settings)
        result[name] = {"lost": whole["speech"]["lost"]["all"]["lost"], "worst": whole["speech"]["worst"][:3],
                        "withheld": {k: v["withheld"] for k, v in whole["withheld"].items()}}  # fmt: skip
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path, help="write all figures here")
    parser.add_argument("--variants", action="store_true", help="also quiet, noisy, transcoded and lossy lines")
    parser.add_argument("--only", default="", help="of the variants, those whose name holds this")
    parser.add_argument("--no-cost", action="store_true", help="leave the cost out")
    arguments = parser.parse_args()
    settings = GateSettings()
    try:
        items = read_folder(arguments.folder)
    except Unreadable as exc:
        parser.error(str(exc))
    result = score(items, settings)
    result["word_after_music"] = score_words(items, settings)
    if arguments.variants:
        result["variants"] = score_variants(items, settings, arguments.only)
    if not arguments.no_cost:
        result["cost_us_per_stream_second"] = ears_cost.measure([item.sound for item in items])
    text = json.dumps(result, indent=1)
    if arguments.json:
        arguments.json.write_text(text + "\n", "utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
