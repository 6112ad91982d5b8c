"""Makes a labelled folder that the ears have never heard, for `python -m tests.bench.ears`.

    python -m tests.bench.ears_remake FOLDER OUT [--voices DIR] [--tunes DIR] [--seed 1] [--calls 10] [--queue]

The voices are those of FOLDER (a labelled one), faster or slower by up to 12 % and so higher or deeper, at other
levels, on other lines; with `--voices` instead those of DIR, a sub-folder of recordings per speaker, labelled by their
energy.
The tunes are made of numbers (`ears_synth`), with FOLDER's sung ones shifted in pitch, or with `--tunes` the files of
DIR; through narrow bands, level control and low bit rates as hold music comes. The same seed makes the same folder.
With `--queue` each call holds as a call centre does: ringback and a beep, music of -35 to -12 dBFS through codecs, one
tune faded into another, and every half minute an announcement over it.
"""

from __future__ import annotations

import argparse
import csv
import json
import wave
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.bench import ears_codecs, ears_synth
from tests.bench.ears_folder import Item, Sound, Span, read_folder
from tests.bench.ears_phrases import AUDIO, Phrase, faster, on_a_line, pcm, read, recorded, shifted
from tests.bench.ears_synth import RATE, Random, Wave, level, line_noise


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

    def make_call(self, number: int, *, is_queue: bool = False) -> None:
        """Ringback, talk in turns with hesitations shorter than 0.7 s, a hold with music, a muted stretch, DTMF."""
        rng = self.rng
        legs = {"caller": Leg(np.zeros(400 * RATE)), "agent": Leg(np.zeros(400 * RATE))}
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
                at = self.queue(legs, at, max(voices.values())) if is_queue else self.hold(legs, at)
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

    def queue(self, legs: dict[str, Leg], at: float, speaker: str) -> float:
        """A call centre's hold on one leg; the other is quiet or mute."""
        rng = self.rng
        music, other = (legs[role] for role in rng.permutation(list(legs)))
        at += 0.5
        if rng.random() < 0.4:
            name = str(rng.choice([n for n in ears_synth.TONES if n.startswith("ringback")]))
            end = music.lay(level(ears_synth.tone(rng, name, 6.0), -22), at)
            music.segment("tone", at, end, name)
            at = end
        seconds = min(rng.uniform(20, 90), len(music.wave) / RATE - at - 60)
        picked = [self.tunes[int(n)] for n in rng.choice(len(self.tunes), 2, replace=False)]
        bed = self.faded(picked, seconds) if rng.random() < 0.3 else self.part(picked[0][1], seconds)
        bed = on_a_line(rng, bed, rng.uniform(-35, -12), worst=True)[: round(seconds * RATE)]
        due = rng.uniform(8, 30) if rng.random() < 0.7 else seconds
        while due < seconds - 12:
            due = self.announce(music, bed, at, due, speaker) + rng.uniform(20, 35)
        end = music.lay(bed, at)
        names = " / ".join(name for name, _ in picked)
        music.segment("music", at, end, f"{names}{' vocals' if 'sung' in names else ''}")
        if rng.random() < 0.4:
            other.segment("silence", at, end, "digital_silence")
        return end + rng.uniform(0.3, 0.8)

    def announce(self, leg: Leg, bed: Wave, at: float, due: float, speaker: str) -> float:
        """A phrase, beep before it or not, `due` seconds into the bed, which is lowered meanwhile. Answers its end."""
        rng = self.rng
        phrase = self.phrase(speaker)
        if rng.random() < 0.3:
            leg.lay(level(ears_synth.tone(rng, "recording_beep", 0.4), -22), at + due - 0.6)
        loud = float(np.sqrt(np.mean(bed**2)))
        dbfs = float(np.clip(20 * np.log10(loud) + rng.uniform(0, 6), -32, -14))
        leg.lay(on_a_line(rng, phrase.wave, dbfs), at + due)
        leg.speech += [(round(at + due + a, 3), round(at + due + b, 3)) for a, b in phrase.speech]
        start, end = round((due - 0.3) * RATE), round((due + len(phrase.wave) / RATE + 0.3) * RATE)
        bed[start:end] *= 10 ** (-rng.uniform(6, 20) / 20)
        return end / RATE

    def part(self, tune: Wave, seconds: float) -> Wave:
        return np.resize(np.roll(tune, -int(self.rng.integers(len(tune)))), round(seconds * RATE))

    def faded(self, tunes: list[tuple[str, Wave]], seconds: float) -> Wave:
        """One tune into the other within two seconds."""
        first, second = (level(self.part(tune, seconds), -20) for _, tune in tunes)
        t = np.arange(len(first)) / RATE
        share = np.clip((t - seconds * self.rng.uniform(0.3, 0.7)) / 2, 0, 1)
        return first * (1 - share) + second * share


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
    parser.add_argument("--queue", action="store_true", help="calls hold as a call centre does")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    items = read_folder(arguments.folder)
    spoken = [item for item in items if item.kind == "speech"]
    phrases = recorded(rng, arguments.voices) if arguments.voices else shifted(rng, spoken)
    maker = Maker(rng, arguments.out, phrases, tunes_of(rng, items, arguments.tunes, arguments.made))
    maker.make_clips()
    for number in range(arguments.calls):
        maker.make_call(number, is_queue=arguments.queue)
    with (arguments.out / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "class"], *maker.rows])
    (arguments.out / "labels.json").write_text(json.dumps(maker.labels, indent=1))


if __name__ == "__main__":
    main()
