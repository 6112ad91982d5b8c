"""What somebody said, cut into phrases, and the lines that it comes over. For making labelled folders."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from tests.bench import ears_codecs
from tests.bench.ears_folder import Item, Sound, Span
from tests.bench.ears_material import transcoded
from tests.bench.ears_synth import RATE, Random, Wave, level

PAUSE = 0.15  # s; shorter ones are part of the speech, as in the development set's labels
AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".gsm")


@dataclass
class Phrase:
    """A stretch of one speaker's talk that can be laid anywhere: it begins and ends in its own quiet."""

    wave: Wave
    speech: list[Span]
    speaker: str


def read(path: Path) -> Wave:
    """Any file as mono at 8 kHz, as far as it can be decoded."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    parts: list[NDArray[np.int16]] = []
    with contextlib.suppress(av.FFmpegError), av.open(str(path), metadata_errors="ignore") as container:
        for decoded in container.decode(audio=0):
            decoded.pts = None
            parts += [part.to_ndarray().ravel() for part in resampler.resample(decoded)]
    parts += [part.to_ndarray().ravel() for part in resampler.resample(None)] if parts else []
    return np.concatenate(parts).astype(np.float64) / 32768 if parts else np.zeros(0)


def faster(sound: Wave, factor: float) -> Wave:
    """`factor` times as fast, and as high."""
    resampler = av.AudioResampler("s16", "mono", RATE)
    frame = av.AudioFrame.from_ndarray(pcm(sound)[None], format="s16", layout="mono")
    frame.sample_rate = round(RATE * factor)
    parts = [part.to_ndarray().ravel() for f in (frame, None) for part in resampler.resample(f)]
    return np.concatenate(parts).astype(np.float64) / 32768


def pcm(sound: Wave) -> Sound:
    return np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)


def by_energy(sound: Wave) -> list[Span]:
    """Where a clean recording sounds: 10 ms frames above -40 dB of its loud ones and 10 dB above its floor."""
    frames = sound[: len(sound) // 80 * 80].reshape(-1, 80)
    db = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    if not db.size:
        return []
    on = db > max(np.percentile(db, 95) - 35, min(np.percentile(db, 5) + 10, -35.0))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], on.astype(int), [0]]))).reshape(-1, 2) / 100
    spans: list[Span] = []
    for a, b in edges:
        if spans and a - spans[-1][1] < PAUSE:
            spans[-1] = (spans[-1][0], float(b))
        else:
            spans.append((float(a), float(b)))
    return [(a, b) for a, b in spans if b - a >= 0.1]


def cut(sound: Wave, spans: list[Span], speaker: str) -> list[Phrase]:
    """Phrases of 1 to 8 s, cut where nobody speaks for 0.3 s or more."""
    phrases, start = [], 0
    for n, (_, b) in enumerate(spans):
        is_last = n + 1 == len(spans)
        if not is_last and spans[n + 1][0] - b < 0.3 and spans[n + 1][1] - spans[start][0] < 8:
            continue
        begin, end = max(spans[start][0] - 0.12, 0.0), b + 0.12
        if b - spans[start][0] >= 0.5:
            inner = [(x - begin, y - begin) for x, y in spans[start : n + 1]]
            phrases.append(Phrase(sound[round(begin * RATE) : round(end * RATE)], inner, speaker))
        start = n + 1
    return phrases


def shifted(rng: Random, items: list[Item]) -> list[Phrase]:
    """The speech of a labelled folder as other voices would say it."""
    phrases = []
    for item in items:
        factor = float(rng.choice([-1, 1])) * rng.uniform(0.05, 0.12) + 1
        spans = [(a / factor, b / factor) for a, b in item.speech]
        phrases += cut(faster(item.sound / 32768, factor), spans, f"{item.name} x{factor:.2f}")
    return phrases


def recorded(rng: Random, folder: Path, most: int = 40) -> list[Phrase]:
    """Phrases of each speaker's recordings."""
    phrases = []
    for speaker in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(path for path in speaker.rglob("*") if path.suffix in AUDIO)
        for n in rng.permutation(len(files))[:most]:
            sound = read(files[n])
            if 0.3 * RATE < len(sound) < 60 * RATE and np.abs(sound).max() > 0.01:
                phrases += cut(sound, by_energy(sound), speaker.name)
    return phrases


def on_a_line(rng: Random, sound: Wave, dbfs: float, *, worst: bool = False) -> Wave:
    """As a telephone line gives it: its band, its level, and mostly nothing else."""
    if rng.random() < 0.5:
        spectrum = np.fft.rfft(sound)
        hz = np.fft.rfftfreq(len(sound), 1 / RATE)
        sound = np.fft.irfft(spectrum * np.clip((hz - 200) / 150, 0, 1) * np.clip((3500 - hz) / 200, 0, 1), len(sound))
    if worst and rng.random() < 0.3:  # automatic level control: pumps over about a second
        power = np.convolve(sound**2, np.ones(4000) / 4000, "same")
        sound = sound / np.sqrt(power + np.mean(sound**2) / 30)
    sound = level(sound, dbfs)
    if worst and rng.random() < 0.4:
        codec = rng.choice(["opus", "gsm", "tandem"])
        narrow = pcm(sound)
        coded = (transcoded("libopus", RATE, {"application": "voip"})(narrow, []) if codec == "opus"
                 else ears_codecs.gsm(narrow) if codec == "gsm" else ears_codecs.tandem(narrow))  # fmt: skip
        sound = coded.astype(np.float64) / 32768
    return sound
