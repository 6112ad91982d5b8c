"""Audio composed from labelled clips: words after minutes of music, and worse lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from tests.bench import ears_codecs

RATE = 8000
Sound = NDArray[np.int16]
Span = tuple[float, float]
Variant = Callable[[NDArray[np.int16], list[Span]], NDArray[np.int16]]
MUSIC_S = 150  # "minutes of music"
WORD_S = (0.35, 0.75)  # a "hello?", a "yes"
WORDS = 32


def onset(sound: Sound) -> float:
    """Seconds until the first frame above -45 dBFS: a fade-in is not yet music."""
    power = (sound[: len(sound) // 256 * 256].reshape(-1, 256).astype(np.float32) ** 2).mean(axis=1)
    loud = np.flatnonzero(10 * np.log10(power / 32768**2 + 1e-12) > -45)
    return float(loud[0] * 256 / RATE) if loud.size else 0.0


def short_words(clips: list[tuple[Sound, list[Span]]]) -> list[Sound]:
    """Stretches of speech of about half a second that stand alone, evenly picked."""
    words = []
    for sound, spans in clips:
        padded = [(0.0, 0.0), *spans, (len(sound) / RATE, len(sound) / RATE)]
        for before, (a, b), after in zip(padded, padded[1:], padded[2:], strict=False):
            if WORD_S[0] <= b - a <= WORD_S[1] and a - before[1] >= 0.1 and after[0] - b >= 0.1:
                words.append(sound[int((a - 0.03) * RATE) : int((b + 0.03) * RATE)])
    return [words[int(n)] for n in np.linspace(0, len(words) - 1, min(WORDS, len(words)))] if words else []


def words_after_music(tunes: list[Sound], words: list[Sound], gap: float) -> Iterator[tuple[Sound, Span]]:
    """Each word once, behind 150 s of a tune and a gap of line noise; three seconds of line noise follow."""
    rng = np.random.default_rng(7)

    def line(seconds: float) -> Sound:
        return (rng.standard_normal(round(seconds * RATE)) * 32768 * 10 ** (-65 / 20)).astype(np.int16)

    if not tunes:
        return
    for n, word in enumerate(words):
        tune = tunes[n % len(tunes)]
        music = np.resize(tune, MUSIC_S * RATE)
        start = MUSIC_S + gap + 0.03
        yield np.concatenate([music, line(gap), word, line(3.0)]), (start, start + len(word) / RATE - 0.06)


def words_in_quiet(words: list[Sound]) -> Iterator[tuple[Sound, Span]]:
    """Each word alone on a quiet line."""
    rng = np.random.default_rng(8)
    for word in words:
        line = (rng.standard_normal(2 * RATE) * 32768 * 10 ** (-65 / 20)).astype(np.int16)
        yield np.concatenate([line, word, line]), (2.03, 2.03 + len(word) / RATE - 0.06)


def speech_rms(sound: Sound, spans: list[Span]) -> float:
    """Of the labelled speech; where there is none, what a clip at -20 dBFS has."""
    parts = [sound[int(a * RATE) : int(b * RATE)].astype(np.float64) for a, b in spans]
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2))) if parts else 3276.8


def quiet(sound: Sound, spans: list[Span]) -> Sound:
    """Speech at -45 dBFS RMS; clips without speech 25 dB down."""
    return through_mulaw(sound * (32768 * 10 ** (-45 / 20) / speech_rms(sound, spans)))


def noisy(sound: Sound, spans: list[Span]) -> Sound:
    """Line noise (pinkish) 5 dB below the speech; at -25 dBFS where there is none."""
    rng = np.random.default_rng(5)
    noise = np.convolve(rng.standard_normal(len(sound)), 0.9 ** np.arange(16), "same")
    return through_mulaw(sound + noise / noise.std() * speech_rms(sound, spans) * 10 ** (-5 / 20))


def through_mulaw(samples: NDArray[np.float64]) -> Sound:
    """G.711's steps, closely enough for a line's quality (the codec itself is tested elsewhere)."""
    x = np.clip(samples, -32635, 32635)
    y = np.round(np.log1p(255 * np.abs(x) / 32768) / np.log(256) * 127) / 127
    return (np.sign(x) * np.expm1(y * np.log(256)) / 255 * 32768).astype(np.int16)


def lossy(sound: Sound, _spans: list[Span]) -> Sound:
    """5 % of the 20 ms packets lost, concealed by the packet before, fading."""
    rng = np.random.default_rng(11)
    packets = sound[: len(sound) // 160 * 160].reshape(-1, 160).copy()
    gain = 1.0
    for n in np.arange(1, len(packets)):
        gain = 1.0 if rng.random() > 0.05 else gain * 0.7
        if gain < 1.0:
            packets[n] = packets[n - 1] * gain
    return np.concatenate([packets.ravel(), sound[len(packets) * 160 :]])


def transcoded(codec: str, rate_hz: int, options: dict[str, str]) -> Variant:
    """Through an encoder and its decoder, shifted back by the codec's delay as a correlation finds it."""

    def run(sound: Sound, _spans: list[Span]) -> Sound:
        encoder = av.CodecContext.create(codec, "w")
        encoder.sample_rate, encoder.layout, encoder.format = rate_hz, "mono", "s16"
        encoder.time_base = Fraction(1, rate_hz)
        encoder.options = options
        if codec == "libopus":
            encoder.bit_rate = 16000
        elif codec == "libopencore_amrnb":
            encoder.bit_rate = 12200
        elif codec == "g723_1":
            encoder.bit_rate = 6300
        decoder = av.CodecContext.create({"libopus": "libopus", "libopencore_amrnb": "amrnb"}.get(codec, codec), "r")
        decoder.sample_rate, decoder.layout = rate_hz, "mono"
        encoder.open()
        if encoder.extradata and codec == "libopus":
            decoder.extradata = encoder.extradata
        size = encoder.frame_size or 240
        down = av.AudioResampler("s16", "mono", RATE)
        out = []
        for n, start in enumerate(range(0, len(sound) - size + 1, size)):
            frame = av.AudioFrame.from_ndarray(sound[None, start : start + size], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, n * size, Fraction(1, rate_hz)
            for packet in encoder.encode(frame):
                for decoded in decoder.decode(packet):
                    decoded.pts = None
                    out += [part.to_ndarray().ravel() for part in down.resample(decoded)]
        return align(sound, np.concatenate(out))

    return run


def align(sound: Sound, coded: Sound) -> Sound:
    """`coded` shifted to `sound` (at most 0.1 s) and cut or padded to its length."""
    best = max(range(0, 800, 4), key=lambda lag: float(np.dot(sound[: len(coded) - 800].astype(float),
               coded[lag : lag + len(sound[: len(coded) - 800])].astype(float))))  # fmt: skip
    coded = coded[best:]
    return np.pad(coded[: len(sound)], (0, max(0, len(sound) - len(coded))))


VARIANTS: dict[str, Variant] = {
    "-45 dBFS": quiet,
    "5 dB line noise": noisy,
    "5 % loss": lossy,
    "Opus 16 kbit/s": transcoded("libopus", RATE, {}),
    "AMR 12.2 kbit/s": transcoded("libopencore_amrnb", RATE, {}),
    "G.723.1 6.3 kbit/s": transcoded("g723_1", RATE, {}),
    "G.711 mu-law and A-law twice": lambda sound, _spans: ears_codecs.tandem(sound),
    "GSM 13 kbit/s": lambda sound, _spans: ears_codecs.gsm(sound),
}
if ears_codecs.has_g729():
    VARIANTS["G.729 8 kbit/s"] = lambda sound, _spans: ears_codecs.g729(sound)
