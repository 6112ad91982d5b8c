"""Sounds made of numbers for the ears' bench: tunes of many timbres, signalling tones of many countries, noises.

All take a generator and answer float arrays at 8 kHz, about full scale 1; the same seed gives the same sound.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

RATE = 8000
Wave = NDArray[np.float64]
Random = np.random.Generator

# Cadences: (seconds, Hz of the lines sounding together). ITU-T E.180 supplement 2, Telcordia GR-506, ITU-T Q.23, T.30.
TONES: dict[str, list[tuple[float, tuple[float, ...]]]] = {
    "ringback_us": [(2.0, (440, 480)), (4.0, ())],
    "ringback_uk": [(0.4, (400, 450)), (0.2, ()), (0.4, (400, 450)), (2.0, ())],
    "ringback_de": [(1.0, (425,)), (4.0, ())],
    "ringback_fr": [(1.5, (440,)), (3.5, ())],
    "ringback_jp": [(1.0, (384, 416)), (2.0, ())],
    "busy_us": [(0.5, (480, 620)), (0.5, ())],
    "busy_uk": [(0.375, (400,)), (0.375, ())],
    "busy_de": [(0.48, (425,)), (0.48, ())],
    "busy_fr": [(0.5, (440,)), (0.5, ())],
    "congestion_us": [(0.25, (480, 620)), (0.25, ())],
    "congestion_de": [(0.24, (425,)), (0.24, ())],
    "dial_us": [(5.0, (350, 440))],
    "dial_de": [(5.0, (425,))],
    "sit": [(0.33, (950,)), (0.33, (1400,)), (0.33, (1800,)), (1.0, ())],
    "fax_cng": [(0.5, (1100,)), (3.0, ())],
    "fax_ced": [(3.3, (2100,)), (1.0, ())],
    "call_waiting": [(0.3, (440,)), (9.7, ())],
    "recording_beep": [(0.4, (1400,)), (9.6, ())],
    "howler": [(0.1, (1400, 2060)), (0.1, ())],
}
DTMF_ROWS, DTMF_COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)

CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 11), (0, 3, 7, 10), (0, 5, 7), (0, 4, 7, 9))
PROGRESSIONS = ((0, 5, 7, 0), (0, 9, 5, 7), (0, 7, 9, 5), (0, 2, 7, 0), (0, -2, -4, -5))
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))


def level(wave: Wave, dbfs: float) -> Wave:
    """Scaled to this RMS."""
    return wave * (10 ** (dbfs / 20) / max(float(np.sqrt(np.mean(wave**2))), 1e-9))


def line_noise(rng: Random, seconds: float, dbfs: float, colour: float = 0.0) -> Wave:
    """White (0) to brownish (0.95)."""
    white = rng.standard_normal(round(seconds * RATE) + 64)
    taps = colour ** np.arange(64) if colour else np.eye(64)[0]
    return level(np.convolve(white, taps, "full")[64 : 64 + round(seconds * RATE)], dbfs)


def tone(rng: Random, name: str, seconds: float) -> Wave:
    """A cadence over and over, from a random place in it; exchanges are off by up to 1 %, and lines are not equal."""
    if name == "dtmf":
        return _digits(rng, seconds)
    detune, tilt = 1 + rng.uniform(-0.01, 0.01), rng.uniform(0.7, 1.0)
    parts = []
    for duration, lines in TONES[name]:
        t = np.arange(round(duration * RATE)) / RATE
        waves = [np.sin(2 * np.pi * hz * detune * t) * (tilt if n else 1.0) for n, hz in enumerate(lines)]
        parts.append(np.sum(waves, axis=0) / 2 if lines else np.zeros(len(t)))
    cadence = np.concatenate(parts)
    return np.resize(np.roll(cadence, -int(rng.integers(len(cadence)))), round(seconds * RATE))


def _digits(rng: Random, seconds: float) -> Wave:
    out = [np.zeros(int(rng.uniform(0.05, 0.4) * RATE))]
    while sum(map(len, out)) < seconds * RATE:
        t = np.arange(int(rng.uniform(0.06, 0.2) * RATE)) / RATE
        low, high = rng.choice(DTMF_ROWS), rng.choice(DTMF_COLUMNS)
        out.append(0.5 * np.sin(2 * np.pi * low * t) + 0.6 * np.sin(2 * np.pi * high * t))
        out.append(np.zeros(int(rng.uniform(0.06, 0.5) * RATE)))
    return np.concatenate(out)[: round(seconds * RATE)]


# -- tunes ----------------------------------------------------------------------------------------------------------


def _partials(t: Wave, hz: float, amplitudes: Wave, stretch: float = 0.0) -> Wave:
    wave = np.zeros(len(t))
    for n, amplitude in enumerate(amplitudes, 1):
        f = hz * n * (1 + stretch * n * n)
        if f < 3600:
            wave += amplitude * np.sin(2 * np.pi * f * t + n)
    return wave


def organ(rng: Random, t: Wave, hz: float) -> Wave:
    return _partials(t, hz, np.array([1.0, 0.7, 0.1, 0.5, 0.0, 0.2, 0.0, 0.3])) * _swell(t, 0.02)


def piano(rng: Random, t: Wave, hz: float) -> Wave:
    wave = np.zeros(len(t))
    for n in range(1, 9):
        f = hz * n * (1 + 0.0004 * n * n)
        if f < 3600:
            wave += np.sin(2 * np.pi * f * t) / n**1.3 * np.exp(-t * (1.2 + 0.7 * n))
    return wave * _swell(t, 0.003)


def pluck(rng: Random, t: Wave, hz: float) -> Wave:
    """Karplus-Strong."""
    period = max(int(RATE / hz), 2)
    buffer = rng.uniform(-1, 1, period)
    out = np.empty(len(t))
    for start in range(0, len(t), period):
        out[start : start + period] = buffer[: len(t) - start]
        buffer = 0.498 * (buffer + np.roll(buffer, 1))
    return out


def bell(rng: Random, t: Wave, hz: float) -> Wave:
    """Two operators of FM."""
    return np.sin(2 * np.pi * hz * t + 3 * np.exp(-3 * t) * np.sin(2 * np.pi * hz * 2.76 * t)) * np.exp(-2 * t)


def strings(rng: Random, t: Wave, hz: float) -> Wave:
    """Detuned saws with vibrato and a slow attack."""
    vibrato = 1 + 0.004 * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * t + rng.uniform(0, 6))
    wave = np.zeros(len(t))
    for detune in (-0.003, 0.0, 0.0035):
        phase = 2 * np.pi * np.cumsum(hz * (1 + detune) * vibrato) / RATE
        for n in range(1, 10):
            if hz * n < 3400:
                wave += np.sin(n * phase) / n
    return wave * _swell(t, 0.15)


def flute(rng: Random, t: Wave, hz: float) -> Wave:
    """Voice-like: few partials, strong vibrato, breath."""
    vibrato = 2 * np.pi * np.cumsum(hz * (1 + 0.01 * np.sin(2 * np.pi * 5.2 * t) * np.minimum(1, t * 3))) / RATE
    breath = 0.05 * rng.standard_normal(len(t))
    return (np.sin(vibrato) + 0.3 * np.sin(2 * vibrato) + 0.1 * np.sin(3 * vibrato) + breath) * _swell(t, 0.06)


def brass(rng: Random, t: Wave, hz: float) -> Wave:
    """Its brightness swells with the note: the most formant-like of the lot."""
    wave = np.zeros(len(t))
    for n in range(1, 14):
        if hz * n < 3600:
            wave += np.sin(2 * np.pi * hz * n * t) * np.minimum(1, t / (0.03 * n)) / (1 + abs(n - 4) * 0.5)
    return wave * _swell(t, 0.04)


INSTRUMENTS: tuple[Callable[[Random, Wave, float], Wave], ...] = (organ, piano, pluck, bell, strings, flute, brass)


def _swell(t: Wave, attack: float) -> Wave:
    end = t[-1] if len(t) else 0.0
    return np.minimum(1, t / attack) * np.clip((end - t) / 0.05, 0, 1)


def drums(rng: Random, beat: float, beats: int) -> Wave:
    """Kick, snare and hats in eighths."""
    out = np.zeros(round(beat * beats * RATE) + RATE)
    t = np.arange(round(0.25 * RATE)) / RATE
    kick = np.sin(2 * np.pi * 60 * np.exp(-t * 8) * t * 4) * np.exp(-t * 18)
    snare = (rng.standard_normal(len(t)) * 0.6 + np.sin(2 * np.pi * 190 * t)) * np.exp(-t * 22)
    hat = np.diff(rng.standard_normal(len(t) + 1)) * np.exp(-t * 60) * 0.3
    for eighth in range(beats * 2):
        at = round(eighth * beat / 2 * RATE)
        out[at : at + len(t)] += hat
        if eighth % 8 == 0 or rng.random() < 0.12:
            out[at : at + len(t)] += kick
        if eighth % 4 == 2:
            out[at : at + len(t)] += snare
    return out[: round(beat * beats * RATE)]


def tune(rng: Random, seconds: float) -> Wave:
    """Chords (pad, arpeggio or struck), mostly a melody, often a bass and drums; tempo, key and timbres drawn."""
    beat = 60 / rng.uniform(62, 150)
    root = rng.uniform(110, 240)
    chord_of = CHORDS[rng.integers(len(CHORDS))]
    progression = PROGRESSIONS[rng.integers(len(PROGRESSIONS))]
    scale = SCALES[rng.integers(len(SCALES))]
    pad, lead = rng.choice(len(INSTRUMENTS), 2)
    style = rng.choice(["pad", "arpeggio", "struck"])
    has_lead, has_bass, has_drums = rng.random() < 0.8, rng.random() < 0.6, rng.random() < 0.5
    beats = 4 * len(progression) * 2
    out = np.zeros(round(beats * beat * RATE) + 4 * RATE)

    def play(which: int, semitones: float, at: float, duration: float, gain: float) -> None:
        t = np.arange(round(duration * RATE)) / RATE
        note = INSTRUMENTS[which](rng, t, root * 2 ** (semitones / 12)) * gain
        start = round(at * RATE)
        out[start : start + len(note)] += note

    for bar in range(beats // 4):
        base, at = progression[bar % len(progression)], bar * 4 * beat
        for n, step in enumerate(chord_of):
            if style == "pad":
                play(pad, base + step, at, 4.1 * beat, 0.4)
            elif style == "struck":
                for hit in range(0, 4, 2):
                    play(pad, base + step, at + (hit + 0.02 * n) * beat, 2.2 * beat, 0.5)
        for eighth in range(8 if style == "arpeggio" else 0):
            play(
                pad, base + chord_of[eighth % len(chord_of)] + 12 * (eighth // 4 % 2), at + eighth * beat / 2, beat, 0.7
            )
        if has_bass:
            for hit in (0, 2):
                play(2, base - 12, at + hit * beat, 1.8 * beat, 0.8)
        if has_lead:
            moment = 0.0
            while moment < 3.9:
                length = float(rng.choice([0.5, 0.5, 1.0, 1.5, 2.0]))
                if rng.random() < 0.8:
                    play(lead, base + 12 + scale[rng.integers(len(scale))], at + moment * beat, length * beat, 0.7)
                moment += length
    out = out[: round(beats * beat * RATE)]
    if has_drums:
        out += 0.5 * drums(rng, beat, beats)[: len(out)]
    if rng.random() < 0.3:  # a room
        echo = np.zeros(len(out))
        for delay, gain in ((0.031, 0.4), (0.067, 0.3), (0.113, 0.2)):
            echo += gain * np.roll(out, round(delay * RATE))
        out = out + echo
    return np.resize(out, round(seconds * RATE))


# -- noises ---------------------------------------------------------------------------------------------------------


def noise(rng: Random, name: str, seconds: float) -> Wave:
    """One of NOISES: `buzz` is a GSM telephone's, `saw` a chain saw, `crow` a rooster's."""
    n = round(seconds * RATE)
    t = np.arange(n) / RATE
    if name == "hum":
        return _partials(t, 50 * float(rng.choice([1, 1.2])), 1 / np.arange(1, 24)) + line_noise(rng, seconds, -30)
    if name == "fan":
        return line_noise(rng, seconds, -20, 0.8) * (1 + 0.1 * np.sin(2 * np.pi * 11 * t))
    if name == "traffic":
        swell = 1 + 0.8 * np.sin(2 * np.pi * 0.13 * t + rng.uniform(0, 6)) + 0.3 * np.sin(2 * np.pi * 0.7 * t)
        return line_noise(rng, seconds, -20, 0.95) * swell
    if name == "gusts":
        knots = np.arange(0, seconds + 1, 0.3)
        return line_noise(rng, seconds, -20, 0.9) * np.abs(np.interp(t, knots, rng.standard_normal(len(knots))))
    if name in ("crackle", "keyboard"):
        out = line_noise(rng, seconds, -60)
        for at in rng.uniform(0, seconds - 0.1, int(seconds * (9 if name == "crackle" else 5))):
            size = int(rng.uniform(0.001, 0.02 if name == "keyboard" else 0.004) * RATE) + 2
            start = int(at * RATE)
            out[start : start + size] += (
                rng.uniform(0.1, 0.5) * rng.standard_normal(size) * np.exp(-np.arange(size) / size * 4)
            )
        return out
    if name == "buzz":
        burst = (t * 217 % 1 < 0.125).astype(float) * (np.floor(t * 2) % 3 == 0)
        return burst * 0.3 + line_noise(rng, seconds, -55)
    if name == "saw":
        phase = 2 * np.pi * np.cumsum(95 + 25 * np.sin(2 * np.pi * 0.4 * t) + 4 * rng.standard_normal(n)) / RATE
        return np.sum([np.sin(k * phase) / k**0.5 for k in range(1, 30)], axis=0) + rng.standard_normal(n)
    assert name == "crow", name
    out = line_noise(rng, seconds, -60)
    for at in np.arange(1.0, seconds - 2.5, 5.0):
        s = np.arange(round(1.6 * RATE)) / RATE
        phase = 2 * np.pi * np.cumsum(np.interp(s, [0, 0.2, 0.5, 1.1, 1.6], [500, 800, 750, 950, 500])) / RATE
        cry = np.sum([np.sin(k * phase) / k for k in range(1, 5)], axis=0) * np.sin(np.pi * s / 1.6)
        out[round(at * RATE) : round(at * RATE) + len(s)] += 0.4 * cry
    return out


NOISES = ("hum", "fan", "traffic", "gusts", "crackle", "keyboard", "buzz", "saw", "crow")
