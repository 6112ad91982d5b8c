"""Speech probability by Silero VAD at 8 kHz: one run for all legs, recurrent state in rows of an array.

`silero_8k.onnx` is the 8 kHz branch of Silero VAD 6.2.3 (MIT, notice beside it), rewritten as matrix products by
`tests/gate/derive_silero.py`; nothing was trained or changed. 6.2 or later it must be: 5.1 loses ten times the speech.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
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
ONCE = np.arange(MOST_ROWS)[None]  # each leg hears one frame, its own
FULL_SCALE = np.float32(32768.0)

Floats = NDArray[np.float32]
UNITY: Floats = np.ones((1, 1), np.float32)
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
        self._state = np.zeros((2, capacity, HIDDEN), np.float32)  # hidden, cell
        self.afresh(np.zeros((2, MOST_ROWS, FRAME), np.float32))  # what a run needs is there before the first call

    def reset(self, rows: Rows | int) -> None:
        """Forget what was heard: a new leg, or a long gap."""
        self._context[rows] = 0.0
        self.forget(rows)

    def forget(self, rows: Rows | int) -> None:
        """Empty the recurrent state only: minutes of music or ringback saturate it, and the next short word is lost."""
        self._state[:, rows] = 0.0

    def skip(self, rows: Rows, audio: Floats) -> None:
        """These frames are not worth a run; the next one still needs their last samples, at least CONTEXT of them."""
        self._context[rows] = audio[:, -CONTEXT:]

    def speech(self, rows: Rows, audio: Floats, gain: Floats = UNITY) -> Floats:
        """Probability of speech in each row's next frame. `audio` [k, 256]; times `gain` [k, 1], full scale is 1.0."""
        if 0 < rows.size <= MOST_ROWS:
            return self._run(rows, audio, gain)
        p, gains = np.empty(rows.size, np.float32), np.broadcast_to(gain, (rows.size, 1))
        for start in range(0, rows.size, MOST_ROWS):
            part = slice(start, start + MOST_ROWS)
            p[part] = self._run(rows[part], audio[part], gains[part])
        return p

    def _run(self, rows: Rows, audio: Floats, gain: Floats) -> Floats:
        window = _window(self._context.take(rows, 0), audio, gain)
        self._context[rows] = window[:, FRAME : FRAME + CONTEXT]
        speech, state = self._hear(window, ONCE[:, : rows.size], self._state.take(rows, 1))
        self._state.view(STATE)[:, rows] = state.view(STATE)  # one item a leg, not 128: four times as fast
        return speech

    def _hear(self, window: Floats, order: NDArray[np.int64], state: Floats) -> tuple[Floats, Floats]:
        p, state = self._session.run(None, {"audio": window, "order": order, "state": state})
        return p[:, 0], state

    def afresh(self, audio: Floats, begins: Sequence[int] = (0,)) -> Floats:
        """Probabilities [len(begins), T - 1, k] of T - 1 successive frames of k legs by a state that was empty before
        the `begins`-th of them, 0 before that. `audio` [T, k, 256]; its first frame is context only. No leg's own
        state is touched."""
        n_frames, n_legs, _ = audio.shape
        n_frames -= 1
        window = _window(audio[:-1, :, -CONTEXT:].reshape(-1, CONTEXT), audio[1:].reshape(-1, FRAME))
        frame = np.arange(n_frames)[:, None] + np.array(begins)  # at each step; the last one again when it is over
        order = np.minimum(frame, n_frames - 1)[:, :, None] * n_legs + np.arange(n_legs)
        empty = np.zeros((2, len(begins) * n_legs, HIDDEN), np.float32)
        p = self._hear(window, order.reshape(n_frames, -1), empty)[0].reshape(order.shape)
        heard = np.zeros((len(begins), n_frames, n_legs), np.float32)
        for n, begin in enumerate(begins):
            heard[n, begin:] = p[: n_frames - begin, n]
        return heard


def _window(context: Floats, audio: Floats, gain: Floats = UNITY) -> Floats:
    """What the network sees of a frame: the end of the one before, and its own end mirrored, as it was trained."""
    padded = np.empty((len(audio), CONTEXT + FRAME + CONTEXT), np.float32)
    padded[:, :CONTEXT] = context
    np.multiply(audio, gain, out=padded[:, CONTEXT : CONTEXT + FRAME])
    padded[:, CONTEXT + FRAME :] = padded[:, -2 - CONTEXT : -2 - CONTEXT - CONTEXT : -1]
    return padded
