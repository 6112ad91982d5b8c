"""Speech probability by Silero VAD at 8 kHz: one run for all legs, recurrent state in rows of an array.

`silero_8k.onnx` is the 8 kHz branch of Silero VAD 6.2.3 (MIT, notice beside it), rewritten as matrix products by
`tests/gate/derive_silero.py`; nothing was trained or changed. 6.2 or later it must be: 5.1 loses ten times the speech.
"""

from __future__ import annotations

import os
from importlib import resources

import numpy as np
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import: its builds report to their maker by default (Privacy.md)

import onnxruntime

FRAME = 256  # samples at 8 kHz = 32 ms, the network's window
CONTEXT = 32  # samples of the window before that it also sees
HIDDEN = 128  # width of its LSTM
MOST_ROWS = 192  # of one run: larger ones save nothing, and hold their intermediate results for good
STATE = np.dtype((np.void, HIDDEN * np.dtype(np.float32).itemsize))
FULL_SCALE = np.float32(32768.0)

Floats = NDArray[np.float32]
Rows = NDArray[np.intp]


class Silero:
    """One network, `capacity` legs. The caller may leave frames out: `skip` keeps the context right."""

    def __init__(self, capacity: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one process is one core's worth of calls; a second thread only spins
        options.inter_op_num_threads = 1
        model = resources.files("bridge.gate").joinpath("silero_8k.onnx").read_bytes()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._context = np.zeros((capacity, CONTEXT), np.float32)
        self._hidden = np.zeros((capacity, HIDDEN), np.float32)
        self._cell = np.zeros((capacity, HIDDEN), np.float32)
        self.afresh(np.zeros((2, MOST_ROWS, FRAME), np.float32))  # what a run needs is there before the first call

    def reset(self, rows: Rows | int) -> None:
        """Forget what was heard: a new leg, or a long gap."""
        self._context[rows] = 0.0
        self.forget(rows)

    def forget(self, rows: Rows | int) -> None:
        """Empty the recurrent state only: minutes of music or ringback saturate it, and the next short word is lost."""
        self._hidden[rows] = 0.0
        self._cell[rows] = 0.0

    def skip(self, rows: Rows, audio: Floats) -> None:
        """These frames are not worth a run; the next one still needs their last samples, at least CONTEXT of them."""
        self._context[rows] = audio[:, -CONTEXT:]

    def speech(self, rows: Rows, audio: Floats) -> Floats:
        """Probability of speech in each row's next frame. `audio` [k, 256], full scale 1.0."""
        if 0 < rows.size <= MOST_ROWS:
            return self._run(rows, audio)
        p = np.empty(rows.size, np.float32)
        for start in range(0, rows.size, MOST_ROWS):
            part = slice(start, start + MOST_ROWS)
            p[part] = self._run(rows[part], audio[part])
        return p

    def _run(self, rows: Rows, audio: Floats) -> Floats:
        context, hidden, cell = (state.take(rows, 0) for state in (self._context, self._hidden, self._cell))
        p, hidden, cell = self._session.run(None, {"audio": _window(context, audio), "h": hidden, "c": cell})
        _put(self._hidden, rows, hidden)
        _put(self._cell, rows, cell)
        self.skip(rows, audio)
        speech: Floats = p[:, 0]
        return speech

    def afresh(self, audio: Floats) -> Floats:
        """Probabilities [T, k] of T successive frames of k legs, `audio` [T, k, 256], by an empty state. The first
        frame is context only and answers 0. No leg's own state is touched."""
        n_frames, n_legs, _ = audio.shape
        empty = np.zeros((n_legs, HIDDEN), np.float32)
        window = _window(audio[:-1, :, -CONTEXT:].reshape(-1, CONTEXT), audio[1:].reshape(-1, FRAME))
        p, _, _ = self._session.run(None, {"audio": window, "h": empty, "c": empty})
        return np.concatenate([np.zeros((1, n_legs), np.float32), p.reshape(n_frames - 1, n_legs)])


def _put(states: Floats, rows: Rows, new: Floats) -> None:
    """`states[rows] = new`, four times as fast: a leg's state is moved as one item, not as 128."""
    states.view(STATE).ravel()[rows] = new.view(STATE).ravel()


def _window(context: Floats, audio: Floats) -> Floats:
    """What the network sees of a frame: the end of the one before, and its own end mirrored, as it was trained."""
    padded = np.empty((len(audio), CONTEXT + FRAME + CONTEXT), np.float32)
    padded[:, :CONTEXT] = context
    padded[:, CONTEXT : CONTEXT + FRAME] = audio
    padded[:, CONTEXT + FRAME :] = audio[:, -2 : -2 - CONTEXT : -1]
    return padded
