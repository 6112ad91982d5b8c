"""The recogniser that finds known recordings in the audio it really received.

Search: half a second of the stream, reduced to 2 kHz, is correlated with the whole library in one FFT; the best
candidates are checked at 8 kHz in pieces of 50 ms, which gives the offset to the sample. Track: from then on each word
of the recording is only compared with its own place in the stream. A word is given when its own audio is really there.

Both sides are pre-emphasised, so that hum and the voice's lowest harmonics, which all voices share, count less.
Robust to G.711, level, a few lost packets and cuts anywhere; not to time stretching.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bridge.emulator.recogniser import RATE_HZ, HeardWord, Samples
from bridge.emulator.recordings import Library, Recording, TimedWord

Floats = npt.NDArray[np.float32]

PROBE_SAMPLES = 4000  # 0.5 s; the shortest stretch that is searched for at full length
HOP_SAMPLES = 2000  # a block of 0.25 s is explained by the tracked recording, or quiet, or searched
PIECE_SAMPLES = 400  # 50 ms
DECIMATION = 4  # the coarse search runs at 2 kHz
CANDIDATES = 6  # of the coarse search that are checked at 8 kHz
FINE_LAG = 6  # samples either side of a candidate: the coarse grid and its filter
PIECE_MATCHES = 0.70  # correlation of 50 ms with its place
WORD_MATCHES = 0.45  # correlation of a word with its place, once the place is known: a short word that lost one packet
BLOCK_MATCHES = 0.50
EVIDENCE_PIECES = 4  # 200 ms of speech that must match before a place is believed
QUIET_RMS = 60.0  # of int16, before pre-emphasis: less is not searched for
EMPHASIS = 0.9


def emphasised(samples: npt.NDArray[np.int16] | npt.NDArray[np.float32], previous: float = 0.0) -> Floats:
    """x[n] - 0.9 x[n-1]."""
    out = samples.astype(np.float32)
    shifted = np.empty_like(out)
    shifted[:1], shifted[1:] = previous, out[:-1]
    return out - np.float32(EMPHASIS) * shifted


def _lowpass() -> Floats:
    n = np.arange(-16, 17)
    cutoff = 750 / (RATE_HZ / 2)
    taps = cutoff * np.sinc(cutoff * n) * np.hamming(33)
    normalised: Floats = (taps / taps.sum()).astype(np.float32)
    return normalised


LOWPASS = _lowpass()


def coarse(signal: Floats) -> Floats:
    """2 kHz version of an emphasised 8 kHz signal; sample k lies at 4k."""
    return np.convolve(signal, LOWPASS, mode="same")[::DECIMATION].astype(np.float32)


def correlation(a: Floats, b: Floats) -> float:
    """Normalised cross-correlation of two equally long stretches, 0 where one is empty or silent."""
    energy = float(a @ a) * float(b @ b)
    return float(a @ b) / energy**0.5 if energy > 0 else 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A stretch of the stream is this recording: stream sample n is recording sample n - offset."""

    recording: int
    offset: int


class LibraryIndex:
    """Everything about a library that all streams share; about 100 ms and 30 bytes per sample to make."""

    def __init__(self, library: Library) -> None:
        self.recordings: tuple[Recording, ...] = library.recordings
        self.signals = [emphasised(recording.samples) for recording in self.recordings]
        gap = np.zeros(PROBE_SAMPLES, dtype=np.float32)
        self._starts: list[int] = []
        parts, at = [gap], PROBE_SAMPLES
        for signal in self.signals:
            self._starts.append(at)
            padded = np.pad(signal, (0, -len(signal) % DECIMATION))
            parts += [padded, gap]
            at += len(padded) + PROBE_SAMPLES
        self._signal = np.concatenate(parts)
        reduced = coarse(self._signal)
        probe = PROBE_SAMPLES // DECIMATION
        self._length = len(reduced)
        self._fft_size = 1 << (len(reduced) + probe - 1).bit_length()
        self._spectrum = np.fft.rfft(reduced, self._fft_size).astype(np.complex64)
        sums = np.concatenate(([0.0], np.cumsum(reduced.astype(np.float64) ** 2)))
        ends = np.minimum(np.arange(self._length) + probe, self._length)
        energy = sums[ends] - sums[: self._length]
        floor = 0.05 * float(np.mean(energy)) + 1.0
        self._weight = (1.0 / np.sqrt(energy + floor)).astype(np.float32)

    def find(self, probe: Floats, at: int) -> Place | None:
        """Where the emphasised stretch `probe`, at stream sample `at`, comes from."""
        pieces = len(probe) // PIECE_SAMPLES
        reduced = coarse(probe)
        spectrum = np.fft.rfft(reduced, self._fft_size)
        scores = np.fft.irfft(self._spectrum * spectrum.conj(), self._fft_size)[: self._length] * self._weight
        best: tuple[float, Place] | None = None
        for _ in range(CANDIDATES):
            peak = int(np.argmax(scores))
            scores[max(0, peak - 3) : peak + 4] = -np.inf
            found = self._check(probe, peak * DECIMATION, pieces)
            if found is not None and (best is None or found[0] > best[0]):
                best = (found[0], self._place(found[1], at))
        return best[1] if best else None

    def _check(self, probe: Floats, where: int, pieces: int) -> tuple[float, int] | None:
        """(matched pieces, exact place in the library) if enough of `probe` is the library's audio near `where`."""
        first = max(0, where - FINE_LAG)
        around = self._signal[first : where + FINE_LAG + len(probe)]
        if len(around) < len(probe):
            return None
        lag = first + int(np.argmax(np.correlate(around, probe, mode="valid")))
        ours = probe[: pieces * PIECE_SAMPLES].reshape(pieces, PIECE_SAMPLES)
        theirs = self._signal[lag : lag + pieces * PIECE_SAMPLES].reshape(pieces, PIECE_SAMPLES)
        products = np.einsum("ij,ij->i", ours, theirs)
        our_energy, their_energy = np.einsum("ij,ij->i", ours, ours), np.einsum("ij,ij->i", theirs, theirs)
        audible = (our_energy > PIECE_SAMPLES * (0.3 * QUIET_RMS) ** 2) & (their_energy > PIECE_SAMPLES * 30.0**2)
        ratio = products / np.sqrt(np.maximum(our_energy * their_energy, 1.0))
        matched = audible & (ratio > PIECE_MATCHES)
        if int(matched.sum()) < EVIDENCE_PIECES:
            return None
        return float(ratio[matched].sum()), lag

    def _place(self, lag: int, at: int) -> Place:
        middle = lag + PROBE_SAMPLES // 2
        number = max(i for i, start in enumerate(self._starts) if i == 0 or start <= middle)
        return Place(number, at - (lag - self._starts[number]))


@cache
def index_of(library: Library) -> LibraryIndex:
    return LibraryIndex(library)


class MatchingRecogniser:
    """One channel's ear for a library. Words are found at most 0.8 s of audio after their end, at once by `flush`."""

    def __init__(self, index: LibraryIndex) -> None:
        self._index = index
        longest = max((len(signal) for signal in index.signals), default=0)
        self._capacity = longest + 4 * PROBE_SAMPLES
        self._signal = np.zeros(2 * self._capacity, dtype=np.float32)  # emphasised
        self._first = 0  # stream sample of _signal[0]
        self._received = 0
        self._previous = 0.0
        self._judged = 0  # blocks before this stream sample are explained, quiet or given up
        self._place: Place | None = None
        self._next_word = 0  # of the recording at `_place`
        self._given: list[tuple[int, int]] = []  # (start, end) samples of the last words given
        self.searches = 0
        "FFT searches so far, for measuring."

    def push(self, samples: Samples) -> list[HeardWord]:
        found: list[HeardWord] = []
        for at in range(0, len(samples), PROBE_SAMPLES):  # a longer piece would leave the window unjudged
            self._store(samples[at : at + PROBE_SAMPLES])
            found += self._follow()
            while self._received - self._judged >= PROBE_SAMPLES:
                found += self._judge(self._judged, self._judged + PROBE_SAMPLES)
        return sorted(found, key=lambda word: word.start)

    def flush(self) -> list[HeardWord]:
        found = self._follow()
        while self._received - self._judged >= EVIDENCE_PIECES * PIECE_SAMPLES:
            found += self._judge(self._judged, self._received)
        return sorted(found, key=lambda word: word.start)

    def word_under_way(self) -> float | None:
        if self._place is None:
            return None
        for word in self._words(self._place)[self._next_word :]:
            start, _ = self._span(self._place, word)
            if start >= self._received:
                return None
            return start / RATE_HZ if self._resembles(self._place, start, self._received) else None
        return None

    def settle(self) -> Sequence[Future[Any]]:
        return ()

    def _store(self, samples: Samples) -> None:
        used = self._received - self._first
        if used + len(samples) > len(self._signal):
            keep = self._capacity
            self._signal[:keep] = self._signal[used - keep : used].copy()
            self._first, used = self._received - keep, keep
        self._signal[used : used + len(samples)] = emphasised(samples, self._previous)
        self._previous = float(samples[-1])
        self._received += len(samples)

    def _stretch(self, start: int, end: int) -> Floats:
        return self._signal[start - self._first : end - self._first]

    def _words(self, place: Place) -> tuple[TimedWord, ...]:
        return self._index.recordings[place.recording].words

    def _span(self, place: Place, word: TimedWord) -> tuple[int, int]:
        return place.offset + round(word.start * RATE_HZ), place.offset + round(word.end * RATE_HZ)

    def _similarity(self, place: Place, start: int, end: int) -> float:
        """Correlation of stream[start:end] with the recording at `place`; what lies outside counts as silence."""
        signal = self._index.signals[place.recording]
        first, last = max(start, place.offset, self._first), min(end, place.offset + len(signal), self._received)
        if first >= last:
            return 0.0
        ours, theirs = self._stretch(first, last), signal[first - place.offset : last - place.offset]
        covered = (last - first) / (end - start)
        return correlation(ours, theirs) * float(covered**0.5)

    def _resembles(self, place: Place, start: int, end: int) -> bool:
        return self._similarity(place, start, end) > BLOCK_MATCHES

    def _follow(self) -> list[HeardWord]:
        """Words of the tracked recording whose end has arrived."""
        found: list[HeardWord] = []
        place = self._place
        while place is not None and self._next_word < len(self._words(place)):
            word = self._words(place)[self._next_word]
            start, end = self._span(place, word)
            if end > self._received:
                break
            self._next_word += 1
            likeness = self._similarity(place, start, end) if start >= self._first else 0.0
            if likeness >= WORD_MATCHES and self._is_new(start, end):
                self._given = [*self._given[-31:], (start, end)]
                found.append(HeardWord(word.text, word.printed, start / RATE_HZ, end / RATE_HZ, min(likeness, 0.999)))
        return found

    def _is_new(self, start: int, end: int) -> bool:
        """No word was given yet that shares half of this span: two recordings may share a take."""
        return all(min(end, e) - max(start, s) < 0.5 * (end - start) for s, e in self._given)

    def _judge(self, start: int, end: int) -> list[HeardWord]:
        """Explain the block at `start`: quiet, tracked, or searched for in stream[start:end]."""
        hop = min(start + HOP_SAMPLES, end)
        self._judged = hop
        block = self._stretch(start, hop)
        if self._place is not None and self._resembles(self._place, start, hop):
            return []
        if float(block @ block) < len(block) * (0.3 * QUIET_RMS) ** 2:
            return []
        self.searches += 1
        place = self._index.find(self._stretch(start, end), start)
        if place is None:
            self._judged = end
            return []
        return self._track(place)

    def _track(self, place: Place) -> list[HeardWord]:
        now = self._place
        if now is not None and now.recording == place.recording and abs(now.offset - place.offset) <= 2:
            return []
        self._place, self._next_word = place, 0
        return self._follow()
