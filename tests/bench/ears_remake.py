"""Makes a labelled folder that the ears have never heard, for `python -m tests.bench.ears`.

    python -m tests.bench.ears_remake FOLDER OUT [--voices DIR] [--tunes DIR] [--seed 1] [--calls 10]

The voices are those of FOLDER (a labelled one), faster or slower by up to 12 % and so higher or deeper, at other
levels, on other lines; with `--voices` instead those of DIR, a sub-folder of recordings per speaker, labelled by their
energy.
The tunes are made of numbers (`ears_synth`), with FOLDER's sung ones shifted in pitch, or with `--tunes` the files of
DIR; through narrow bands, level control and low bit rates as hold music comes. The same seed makes the same folder.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tests.bench import ears_codecs, ears_synth
from tests.bench.ears import Item, Sound, Span, read_folder
from tests.bench.ears_material import transcoded
from tests.bench.ears_synth import RATE, Random, Wave, level, line_noise

PAUSE = 0.15  # s; shorter ones are part of the speech, as in the development set's labels
AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".gsm")


@dataclass
class Phrase:
    """A stretch of one speaker's talk that can be laid anywhere: it begins and ends in its own quiet."""

    wave: Wave
    speech: list[Span]
    speaker: str


@dataclass
class Leg:
    """One leg of a call in the making."""

    wave: Wave
    speech: list[Span] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    segments: list[dict[str, Any]] = field(default_factory=list)

    def lay(self, sound: Wave, at: float) -> float:
        """Mixes it in; answers where it ends."""
        start = round(at * RATE)
        end = min(start + len(sound), len(self.wave))
        self.wave[start:end] += sound[: end - start]
        return end / RATE

    def segment(self, kind: str, start: float, end: float, detail: str = "") -> None:
        self.segments.append({"start": round(start, 3), "end": round(end, 3), "class": kind, "detail": detail})


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


class Maker:
    """Draws phrases, tunes and noises, and writes what is made of them."""

    def __init__(self, rng: Random, out: Path, phrases: list[Phrase], tunes: list[tuple[str, Wave]]) -> None:
        self.rng, self.out = rng, out
        self.phrases, self.tunes = phrases, tunes
        self.rows: list[list[str]] = []
        self.labels: dict[str, Any] = {}

    def write(self, path: str, sound: Wave) -> None:
        target = self.out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        narrow = np.clip(sound, -1, 1)
        with wave.open(str(target), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes(through_g711(pcm(narrow)).tobytes())

    def clip(self, kind: str, name: str, sound: Wave, speech: list[Span], **more: Any) -> None:
        path = f"{kind}/{kind}_{name}.wav"
        self.write(path, sound)
        self.rows.append([path, kind])
        spans = [[round(a, 3), round(b, 3)] for a, b in speech]
        self.labels[path] = {"class": kind, "seconds": round(len(sound) / RATE, 3), "speech": spans, **more}

    def phrase(self, speaker: str | None = None) -> Phrase:
        of = [p for p in self.phrases if speaker in (None, p.speaker)]
        return of[int(self.rng.integers(len(of)))]

    def talk(self, seconds: float, speaker: str, pause: tuple[float, float]) -> tuple[Wave, list[Span]]:
        """One speaker's phrases with pauses between, each at its own level within 4 dB."""
        parts, spans, at = [np.zeros(int(0.4 * RATE))], [], 0.4
        while at < seconds:
            phrase = self.phrase(speaker)
            gap = float(self.rng.uniform(*pause))
            spans += [(at + a, at + b) for a, b in phrase.speech]
            parts += [level(phrase.wave, -24 + self.rng.uniform(-2, 2)), np.zeros(round(gap * RATE))]
            at = sum(map(len, parts)) / RATE
        return np.concatenate(parts), spans

    def make_clips(self) -> None:
        """Every class: at levels from -12 to -38 dBFS, over line noise 25 to 60 dB below."""
        rng = self.rng
        for n, speaker in enumerate(sorted({phrase.speaker for phrase in self.phrases})):
            sound, spans = self.talk(20.0, speaker, (0.2, 1.6))
            dbfs = rng.uniform(-36, -16)
            sound = on_a_line(rng, sound, dbfs)
            self.clip("speech", f"{n:03}", sound + self.line(len(sound), max(dbfs - rng.uniform(25, 60), -80)), spans,
                      speaker=speaker)  # fmt: skip
        for n, (name, tune) in enumerate(self.tunes):
            self.clip("music", f"{n:03}_{name}", on_a_line(rng, tune, rng.uniform(-30, -12), worst=True), [],
                      **({"vocals": True} if "sung" in name else {}))  # fmt: skip
        for name in ears_synth.NOISES:
            sound = level(ears_synth.noise(rng, name, 20.0), rng.uniform(-42, -20))
            self.clip("noise", name, sound, [])
        for name in (*ears_synth.TONES, "dtmf"):
            sound = level(ears_synth.tone(rng, name, 20.0), rng.uniform(-32, -14))
            self.clip("tone", name, sound + self.line(len(sound), rng.uniform(-75, -55)), [])
        for n in range(8):
            colour = float(rng.choice([0, 0.5, 0.9]))
            self.clip("silence", f"{n}", line_noise(rng, 20.0, rng.uniform(-75, -50), colour), [])
        for n in range(12):
            self.mixed(n)

    def mixed(self, n: int) -> None:
        """An announcement over music, or speech in noise."""
        rng = self.rng
        sound, spans = self.talk(25.0, self.phrase().speaker, (0.8, 3.0))
        voice = on_a_line(rng, sound, -20)
        snr = float(rng.choice([3, 6, 10, 15]))
        if n % 2:
            under = ears_synth.noise(rng, str(rng.choice(["fan", "traffic", "gusts", "hum"])), len(sound) / RATE)[
                : len(sound)
            ]
        else:
            under = np.resize(self.tunes[int(rng.integers(len(self.tunes)))][1], len(sound))
        name = f"{n}_{'noise' if n % 2 else 'music'}_{snr:g}db"
        self.clip("mixed", name, voice + level(under, -20 - snr), spans, snr_db=snr)

    def line(self, n: int, dbfs: float) -> Wave:
        return line_noise(self.rng, n / RATE, dbfs, float(self.rng.choice([0, 0.6, 0.9])))[:n]

    # -- calls

    def make_call(self, number: int) -> None:
        """Ringback, talk in turns with hesitations shorter than 0.7 s, a hold with music, a muted stretch, DTMF."""
        rng = self.rng
        legs = {"caller": Leg(np.zeros(240 * RATE)), "agent": Leg(np.zeros(240 * RATE))}
        voices = dict(zip(legs, (self.phrase().speaker for _ in legs), strict=True))
        levels = {role: rng.uniform(-32, -16) for role in legs}
        at = 0.5
        if rng.random() < 0.5:
            name = str(rng.choice([n for n in ears_synth.TONES if n.startswith("ringback")]))
            end = legs["agent"].lay(level(ears_synth.tone(rng, name, 7.0), -22), at)
            legs["agent"].segment("tone", at, end, name)
            at = end + 0.5
        role = "agent"
        hold_after = int(rng.integers(3, 8))
        for n in range(int(rng.integers(12, 18))):
            at = self.turn(legs[role], voices[role], levels[role], at) + rng.uniform(0.25, 1.6)
            if n == hold_after:
                at = self.hold(legs, at)
            role = "caller" if role == "agent" and rng.random() < 0.9 else "agent"
        whole = round((at + 1.5) * RATE)
        for leg in legs.values():
            leg.wave = leg.wave[:whole]
        labels = {}
        folder = f"calls/call{number}"
        for role, leg in legs.items():
            noise = self.line(whole, rng.uniform(-78, -52))
            for segment in leg.segments:
                if segment["detail"] == "digital_silence":
                    noise[round(segment["start"] * RATE) : round(segment["end"] * RATE)] = 0
            self.write(f"{folder}/{role}.wav", leg.wave + noise)
            labels[role] = {"file": f"{role}.wav", "segments": leg.segments, "speech": leg.speech, "events": leg.events}
        (self.out / folder / "labels.json").write_text(json.dumps({"legs": labels}, indent=1))

    def turn(self, leg: Leg, speaker: str, dbfs: float, at: float) -> float:
        spans: list[Span] = []
        for n in range(int(self.rng.choice([1, 1, 2, 3]))):
            phrase = self.phrase(speaker)
            if n:  # from the end of speech to speech
                at += self.rng.uniform(0.25, 0.69) - 0.24
            spans += [(round(at + a, 3), round(at + b, 3)) for a, b in phrase.speech]
            at = leg.lay(on_a_line(self.rng, phrase.wave, dbfs), at)
        leg.speech += spans
        leg.events.append({"start": spans[0][0], "end": spans[-1][1], "class": "speech", "speech": spans})
        return spans[-1][1]

    def hold(self, legs: dict[str, Leg], at: float) -> float:
        """Music on one leg, the other muted, noisy or quiet meanwhile."""
        rng = self.rng
        seconds = rng.uniform(12, 40)
        name, tune = self.tunes[int(rng.integers(len(self.tunes)))]
        music, other = (legs[role] for role in rng.permutation(list(legs)))
        end = music.lay(level(np.resize(np.roll(tune, -int(rng.integers(len(tune)))), round(seconds * RATE)),
                              rng.uniform(-28, -14)), at)  # fmt: skip
        music.segment("music", at, end, f"{name}{' vocals' if 'sung' in name else ''}")
        if rng.random() < 0.4:
            other.segment("silence", at, end, "digital_silence")
        elif rng.random() < 0.5:
            name = str(rng.choice(ears_synth.NOISES))
            sound = level(ears_synth.noise(rng, name, 6.0), rng.uniform(-40, -24))
            other.segment("noise", at + 1, other.lay(sound, at + 1), name)
        else:
            other.segment("tone", at + 1, other.lay(level(ears_synth.tone(rng, "dtmf", 4.0), -20), at + 1), "dtmf")
        return end + rng.uniform(0.1, 0.8)


def through_g711(sound: Sound) -> NDArray[np.int16]:
    return ears_codecs.tandem(sound, 1)


def tunes_of(rng: Random, items: list[Item], folder: Path | None, made: int) -> list[tuple[str, Wave]]:
    """Hold music: made of numbers, or files; and the sung ones of the labelled folder, shifted."""
    tunes = [(f"made{n}", ears_synth.tune(rng, 60.0)) for n in range(made)]
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.suffix in AUDIO and len(sound := read(path)) > 12 * RATE:
            start = int(rng.integers(max(len(sound) - 90 * RATE, 1)))
            tunes.append((f"{'sung_' if 'sung' in str(path) else ''}{path.stem}", sound[start : start + 90 * RATE]))
    sung = [item for item in items if item.kind == "music" and item.is_sung and not folder]
    tunes += [(f"sung_{Path(item.name).stem}", faster(item.sound / 32768, 1 + rng.uniform(0.05, 0.1))) for item in sung]
    return tunes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voices", type=Path, help="sub-folders of recordings, one per speaker")
    parser.add_argument("--tunes", type=Path, help="files of music; `sung` in the name: with voices")
    parser.add_argument("--made", type=int, default=24, help="tunes made of numbers")
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    items = read_folder(arguments.folder)
    spoken = [item for item in items if item.kind == "speech"]
    phrases = recorded(rng, arguments.voices) if arguments.voices else shifted(rng, spoken)
    maker = Maker(rng, arguments.out, phrases, tunes_of(rng, items, arguments.tunes, arguments.made))
    maker.make_clips()
    for number in range(arguments.calls):
        maker.make_call(number)
    with (arguments.out / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "class"], *maker.rows])
    (arguments.out / "labels.json").write_text(json.dumps(maker.labels, indent=1))


if __name__ == "__main__":
    main()
