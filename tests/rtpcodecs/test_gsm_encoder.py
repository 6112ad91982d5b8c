from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpcodecs import CODECS
from rtpcodecs.gsm_encoder import GsmEncoder
from tests.rtpcodecs.vectors import packets
from tests.rtpcodecs.voice import voice


def test_the_bits_are_those_of_libgsm() -> None:
    source, encoder = voice(8000), GsmEncoder()

    ours = [encoder.encode(source[at : at + 160]) for at in range(0, len(source), 160)]

    assert ours == packets("gsm")


LEVELS = st.integers(-32768, 32767)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LEVELS, LEVELS, st.integers(1, 80)), min_size=1, max_size=3))
def test_any_sound_becomes_frames_that_decode(shapes: list[tuple[int, int, int]]) -> None:
    encoder, decoder = GsmEncoder(), CODECS["GSM"].make_decoder("")
    for low, high, period in shapes:
        frame = encoder.encode(np.where(np.arange(160) // period % 2, low, high).astype(np.int16))
        assert len(frame) == 33
        assert frame[0] >> 4 == 0xD
        assert len(decoder.decode(frame)) == 160


@pytest.mark.parametrize("n", [0, 80, 161])
def test_a_piece_of_a_frame_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match="160"):
        GsmEncoder().encode(np.zeros(n, np.int16))
