"""Audio files for the legs of a placed call: anything that FFmpeg reads, as mono int16."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from bridge.errors import ConfigError

Samples = NDArray[np.int16]


def load(path: Path, rate_hz: int) -> Samples:
    """The first audio stream of a WAV, FLAC, ... as mono int16 at `rate_hz`. Raises ConfigError naming the file."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.audio:
                raise ConfigError([f"{path}: no audio in it"])
            resampler = av.AudioResampler(format="s16", layout="mono", rate=rate_hz)
            frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
            frames += resampler.resample(None)
    except av.error.InvalidDataError:
        raise ConfigError([f"{path}: not an audio file"]) from None
    except (OSError, av.error.FFmpegError) as error:
        raise ConfigError([f"{path}: {error.strerror or error}"]) from None
    if not frames:
        return np.zeros(0, np.int16)
    return np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames]).astype(np.int16, copy=False)


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """The same mono audio at another rate."""
    if from_hz == to_hz or not len(samples):
        return samples
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples).reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = from_hz
    resampler = av.AudioResampler(format="s16", layout="mono", rate=to_hz)
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([f.to_ndarray().reshape(-1) for f in frames]).astype(np.int16, copy=False)


def compose(parts: Iterable[tuple[float, Samples]], *, rate_hz: int, seconds: float = 0.0) -> Samples:
    """One leg's timeline: each part laid over silence from its start (seconds); overlapping parts are mixed. As long
    as its last part, at least `seconds`."""
    placed = [(round(start * rate_hz), part) for start, part in parts]
    n_samples = max([round(seconds * rate_hz), *(at + len(part) for at, part in placed)])
    mixed = np.zeros(n_samples, np.int32)
    for at, part in placed:
        mixed[at : at + len(part)] += part
    return np.clip(mixed, -32768, 32767).astype(np.int16)
