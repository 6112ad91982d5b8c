from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.bench import ears_codecs
from tests.gate.sounds import Sound, recording


@pytest.mark.parametrize("codec", [ears_codecs.tandem, ears_codecs.gsm, ears_codecs.g729])
def test_what_comes_out_of_a_codec_is_as_long_in_step_and_alike(codec: Callable[[Sound], Sound]) -> None:
    if codec is ears_codecs.g729 and not ears_codecs.has_g729():
        pytest.skip("no libbcg729 here")
    sound = recording("caller-thank-you")[:12000]
    coded = codec(sound).astype(float)
    assert len(coded) == len(sound)
    likeness = [np.corrcoef(np.roll(coded, -lag)[500:-500], sound[500:-500])[0, 1] for lag in (-40, 0, 40)]
    assert int(np.argmax(likeness)) == 1
    assert likeness[1] > 0.6  # CELP keeps the sound rather than the wave
