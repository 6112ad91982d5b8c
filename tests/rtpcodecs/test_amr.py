from __future__ import annotations

import numpy as np
import pytest

from rtpcodecs import CODECS
from rtpcodecs.amr import NARROW, WIDE, Family, is_octet_aligned, stored_frames
from tests.rtpcodecs.vectors import packets

FAMILIES = [pytest.param(NARROW, "amr", id="AMR"), pytest.param(WIDE, "amr-wb", id="AMR-WB")]


def aligned(frames: list[bytes]) -> bytes:
    """RFC 4867 section 4.4, no mode request."""
    entries = [frame[0] | (0x80 if n < len(frames) - 1 else 0) for n, frame in enumerate(frames)]
    return b"\xf0" + bytes(entries) + b"".join(frame[1:] for frame in frames)


def packed(frames: list[bytes], family: Family) -> bytes:
    """RFC 4867 section 4.3, written as the figures there draw it: a row of bits."""
    row = "1111"
    for n, frame in enumerate(frames):
        row += ("1" if n < len(frames) - 1 else "0") + f"{frame[0] >> 2 & 31:05b}"
    for frame in frames:
        n_bits = family.frame_bits[frame[0] >> 3 & 15]
        row += "".join(f"{byte:08b}" for byte in frame[1:])[:n_bits]
    row += "0" * (-len(row) % 8)
    return bytes(int(row[at : at + 8], 2) for at in range(0, len(row), 8))


@pytest.mark.parametrize(("family", "file"), FAMILIES)
@pytest.mark.parametrize("together", [1, 2, 5])
def test_both_layouts_carry_the_same_frames(family: Family, file: str, together: int) -> None:
    frames = packets(file)
    for at in range(0, len(frames), together):
        group = frames[at : at + together]
        assert stored_frames(aligned(group), family, octet_aligned=True) == group
        assert stored_frames(packed(group, family), family, octet_aligned=False) == group


@pytest.mark.parametrize(("family", "file"), FAMILIES)
def test_both_layouts_sound_the_same_and_last_the_same(family: Family, file: str) -> None:
    codec = CODECS[family.name]
    frames = packets(file)
    one, other = codec.make_decoder("octet-align=1"), codec.make_decoder("")
    for at in range(0, len(frames), 2):
        group = frames[at : at + 2]
        assert np.array_equal(one.decode(aligned(group)), other.decode(packed(group, family)))
        assert codec.duration(aligned(group)) == codec.duration(packed(group, family)) == 2 * family.frame_units


@pytest.mark.parametrize(("family", "file"), FAMILIES)
def test_a_payload_of_the_wrong_length_is_refused(family: Family, file: str) -> None:
    group = packets(file)[:3]
    for octet_aligned, payload in ((True, aligned(group)), (False, packed(group, family))):
        for broken in (payload[:-1], payload + b"\0", b"", payload[:1]):
            with pytest.raises(ValueError, match=family.name):
                stored_frames(broken, family, octet_aligned=octet_aligned)


def test_a_reserved_frame_type_is_refused() -> None:
    with pytest.raises(ValueError, match="reserved"):
        stored_frames(b"\xf0" + bytes((9 << 3,)) + bytes(20), NARROW, octet_aligned=True)


def test_layout_is_bandwidth_efficient_unless_said() -> None:
    assert not is_octet_aligned("")
    assert not is_octet_aligned("octet-align=0")
    assert is_octet_aligned("mode-set=0,2; Octet-Align=1")
