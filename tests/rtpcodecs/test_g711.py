from __future__ import annotations

import av
import numpy as np
import pytest

from rtpcodecs import CODECS
from rtpcodecs.g711 import (
    ALAW_TO_LINEAR,
    ALAW_TO_ULAW,
    ULAW_TO_ALAW,
    ULAW_TO_LINEAR,
    linear_to_alaw,
    linear_to_ulaw,
)
from rtpcodecs.lavc import encode_block, open_decoder, open_encoder

EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
EVERY_BYTE = bytes(range(256))
LAWS = [
    pytest.param("PCMU", "pcm_mulaw", ULAW_TO_LINEAR, linear_to_ulaw, id="ulaw"),
    pytest.param("PCMA", "pcm_alaw", ALAW_TO_LINEAR, linear_to_alaw, id="alaw"),
]


@pytest.mark.parametrize(("name", "lavc", "table", "to_code"), LAWS)
def test_all_256_bytes_decode_as_libavcodec_decodes_them(name, lavc, table, to_code) -> None:
    frames = open_decoder(lavc, 8000).decode(av.Packet(EVERY_BYTE))
    theirs = np.concatenate([frame.to_ndarray()[0] for frame in frames])

    assert np.array_equal(theirs, table)
    assert np.array_equal(CODECS[name].make_decoder("").decode(EVERY_BYTE), theirs)


@pytest.mark.parametrize(("name", "lavc", "table", "to_code"), LAWS)
def test_all_65536_samples_encode_as_libavcodec_encodes_them(name, lavc, table, to_code) -> None:
    theirs = encode_block(open_encoder(lavc, 8000, {}), EVERY_SAMPLE)

    assert to_code(EVERY_SAMPLE).tobytes() == theirs
    encoder = CODECS[name].make_encoder
    assert encoder is not None
    assert encoder().encode(EVERY_SAMPLE) == theirs


@pytest.mark.parametrize(("name", "lavc", "table", "to_code"), LAWS)
def test_a_decoded_byte_encodes_to_a_byte_of_the_same_value(name, lavc, table, to_code) -> None:
    assert np.array_equal(table[to_code(table)], table)


def test_only_minus_zero_of_ulaw_changes_in_a_round_trip() -> None:
    codes = np.arange(256, dtype=np.uint8)

    assert list(codes[linear_to_ulaw(ULAW_TO_LINEAR) != codes]) == [0x7F]
    assert np.array_equal(linear_to_alaw(ALAW_TO_LINEAR), codes)


def test_silence_is_what_the_wire_calls_silence() -> None:
    assert ULAW_TO_LINEAR[0xFF] == 0
    assert ALAW_TO_LINEAR[0xD5] == 8
    assert linear_to_ulaw(np.zeros(1, np.int16))[0] == 0xFF
    assert linear_to_alaw(np.zeros(1, np.int16))[0] == 0xD5


def test_tables_hold_shapes_of_any_kind() -> None:
    block = np.zeros((3, 160), np.int16)

    assert linear_to_ulaw(block).shape == linear_to_alaw(block).shape == (3, 160)


def test_one_law_becomes_the_nearest_level_of_the_other() -> None:
    for crossing, source, target in (
        (ULAW_TO_ALAW, ULAW_TO_LINEAR, ALAW_TO_LINEAR),
        (ALAW_TO_ULAW, ALAW_TO_LINEAR, ULAW_TO_LINEAR),
    ):
        wanted = source.astype(int)
        error = np.abs(target[crossing].astype(int) - wanted)
        least = np.abs(target.astype(int)[None, :] - wanted[:, None]).min(axis=1)
        assert np.all(error <= least + 4)  # thresholds lie on the 14 bit scale: up to 4 of 65536 off the nearest


def test_an_empty_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        CODECS["PCMU"].make_decoder("").decode(b"")
