"""Word times for a folder of recordings: forced alignment of known transcripts.

`python -m bridge.emulator.align DIR` reads DIR/recordings.json, aligns each recording's `text` with its audio and
writes the `words` back. Run once per library; the result is data, kept beside the audio. Needs the extra `offline`
(pocketsphinx). The times are as good as its frames: 10 ms.
"""

from __future__ import annotations

import json
import re
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FRAME = 0.01  # s; pocketsphinx -frate 100
ALIGN_RATE_HZ = 16000  # the rate of the model in the pocketsphinx wheel; 8 kHz fed natively is unusable
SILENT_DB = -40.0  # of the loudest frame; prompts are studio recordings, their floor lies near -60
PRONUNCIATIONS = {"pbx": "P IY B IY EH K S"}  # what the model's dictionary does not have (ARPABET)


def resampled(samples: npt.NDArray[Any], factor: float) -> npt.NDArray[np.int16]:
    """`samples` stretched to `factor` times their number, band limited (one FFT over the whole recording)."""
    length = round(len(samples) * factor)
    spectrum = np.fft.rfft(samples.astype(np.float64))
    bins = np.zeros(length // 2 + 1, dtype=np.complex128)
    shared = min(len(bins), len(spectrum))
    bins[:shared] = spectrum[:shared]
    stretched = np.fft.irfft(bins, length) * (length / len(samples))
    return np.clip(np.rint(stretched), -32768, 32767).astype(np.int16)


def bare(word: str) -> str:
    """The word as a recogniser says it: lower case, no punctuation but the apostrophe."""
    return re.sub(r"[^a-z0-9']", "", word.lower())


def align(samples: npt.NDArray[np.int16], text: str, *, rate_hz: int) -> list[tuple[str, float, float]]:
    """(word, start, end) for each word of `text`, seconds from the first sample. Raises ValueError where the audio does
    not carry the text."""
    from pocketsphinx import Decoder  # an optional extra: only who makes a library needs it

    words = [bare(word) for word in text.split()]
    decoder = Decoder(lm=None, samprate=ALIGN_RATE_HZ, loglevel="FATAL")
    for word, phones in PRONUNCIATIONS.items():
        if word in words and decoder.lookup_word(word) is None:
            decoder.add_word(word, phones, True)
    decoder.set_align_text(" ".join(words))
    decoder.start_utt()
    decoder.process_raw(resampled(samples, ALIGN_RATE_HZ / rate_hz).tobytes(), full_utt=True)
    decoder.end_utt()
    found = []
    for segment in decoder.seg() or []:
        word = re.sub(r"\(\d+\)$", "", segment.word)  # "the(2)" is a second pronunciation
        if not word.startswith("<") and not word.startswith("["):
            found.append((word, segment.start_frame * FRAME, (segment.end_frame + 1) * FRAME))
    if [word for word, _, _ in found] != words:
        raise ValueError(f"alignment failed: wanted {len(words)} words, got {len(found)}")
    return _without_silence(found, samples, rate_hz)


def _without_silence(
    words: list[tuple[str, float, float]], samples: npt.NDArray[np.int16], rate_hz: int
) -> list[tuple[str, float, float]]:
    """The aligner gives pauses to the neighbouring word; a word must not claim silence that a gate may withhold."""
    size = round(rate_hz * FRAME)
    frames = samples[: len(samples) // size * size].reshape(-1, size).astype(np.float64)
    level = np.sqrt(np.mean(frames**2, axis=1))
    loud = level > np.max(level) * 10 ** (SILENT_DB / 20)
    trimmed = []
    for word, start, end in words:
        first = round(start / FRAME)
        heard = np.flatnonzero(loud[first : round(end / FRAME)])
        if len(heard):
            start, end = (first + int(heard[0])) * FRAME, (first + int(heard[-1]) + 1) * FRAME
        trimmed.append((word, round(start, 3), round(end, 3)))
    return trimmed


def main(folder: Path) -> None:
    """Fill in the `words` of every recording in `folder`/recordings.json that has none."""
    index = folder / "recordings.json"
    library = json.loads(index.read_text())
    for entry in library["recordings"]:
        if entry.get("words"):
            continue
        with wave.open(str(folder / entry["file"])) as audio:
            samples = np.frombuffer(audio.readframes(audio.getnframes()), dtype="<i2")
            entry["words"] = align(samples, entry["text"], rate_hz=audio.getframerate())
        entry["seconds"] = round(len(samples) / 8000, 3)
    index.write_text(dumps(library))


def dumps(library: dict[str, Any]) -> str:
    """One line per word list, so that a diff can be read."""
    text = json.dumps(library, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+(\"[^\"]*\"),\s+([\d.]+),\s+([\d.]+)\s+\]", r"[\1, \2, \3]", text) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
