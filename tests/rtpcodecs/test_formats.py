"""Every format in turn: what a packet lasts, what comes out of it, and what junk does."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtpcodecs import CODECS, OTHER_RATES, find, find_static
from rtpcodecs.contract import Codec
from tests.rtpcodecs.vectors import packets
from tests.rtpcodecs.voice import likeness, voice, vowel

ALL = [*CODECS.values(), *OTHER_RATES]
EACH = pytest.mark.parametrize("codec", ALL, ids=lambda codec: f"{codec.name}-{codec.clock_rate_hz}")
G722_VECTORS = Path(__file__).parents[3] / "shared/assets/g722-vectors/test_data"
needs_g722_vectors = pytest.mark.skipif(not G722_VECTORS.is_dir(), reason="../shared/assets/g722-vectors is absent")
GSM_BY_LIBGSM = "8ba7ee2c7342419130b59f2007936b1b2da45db5a3d7e6a57a02c4ac81d66758"


def expected_samples(codec: Codec, payload: bytes) -> int:
    return codec.duration(payload) * codec.sample_rate_hz // codec.clock_rate_hz


def decode_all(codec: Codec, payloads: list[bytes], fmtp: str = "") -> np.ndarray:
    decoder = codec.make_decoder(fmtp)
    blocks = []
    for payload in payloads:
        blocks.append(decoder.decode(payload))
        assert len(blocks[-1]) == expected_samples(codec, payload)
    return np.concatenate(blocks)


@pytest.mark.parametrize(
    ("codec", "ptime_ms"),
    [
        pytest.param(codec, ptime_ms, id=f"{codec.name}-{codec.clock_rate_hz}-{ptime_ms}")
        for codec in ALL
        for ptime_ms in (10, 20, 40, 60)
        if codec.make_encoder and (codec.name, ptime_ms) != ("GSM", 10)  # a GSM frame is 20 ms
    ],
)
def test_what_is_encoded_is_heard(codec: Codec, ptime_ms: int) -> None:
    source = vowel(codec.sample_rate_hz, 0.6)
    size = codec.sample_rate_hz * ptime_ms // 1000
    assert codec.make_encoder is not None
    encoder = codec.make_encoder()
    payloads = [encoder.encode(source[at : at + size]) for at in range(0, len(source), size)]

    assert [codec.duration(p) for p in payloads] == [codec.clock_rate_hz * ptime_ms // 1000] * len(payloads)
    heard = decode_all(codec, payloads)
    assert len(heard) == len(source)
    assert heard.dtype == np.int16
    similarity, delay = likeness(heard, source, longest_delay=codec.sample_rate_hz // 50)
    assert similarity > 0.95
    assert delay <= codec.sample_rate_hz * 0.01  # words must not move


@pytest.mark.parametrize(
    ("name", "file", "fmtp", "prefix"),
    [
        ("GSM", "gsm", "", b""),
        ("G729", "g729b", "", b""),
        ("SPEEX", "speex", "", b""),
        ("ILBC", "ilbc20", "", b""),
        ("ILBC", "ilbc30", "mode=30", b""),
        ("AMR", "amr", "octet-align=1", b"\xf0"),
        ("AMR-WB", "amr-wb", "octet-align=1; mode-change-capability=2", b"\xf0"),
    ],
)
def test_packets_of_other_encoders_are_heard(name: str, file: str, fmtp: str, prefix: bytes) -> None:
    codec = CODECS[name]
    payloads = [prefix + packet for packet in packets(file) if packet]

    heard = decode_all(codec, payloads, fmtp)

    similarity, delay = likeness(
        heard[: codec.sample_rate_hz * 6 // 10], voice(codec.sample_rate_hz), longest_delay=codec.sample_rate_hz // 50
    )
    assert similarity > 0.9  # CELP keeps the shape, not each sample
    assert delay <= codec.sample_rate_hz * 0.011
    faint = heard[-codec.sample_rate_hz // 10 :].astype(float)
    assert 5 < np.sqrt((faint**2).mean()) < 90  # RMS 30 went in


@pytest.mark.parametrize("file", ["ilbc20", "ilbc30"])
def test_ilbc_does_not_begin_with_a_burst(file: str) -> None:
    heard = decode_all(CODECS["ILBC"], packets(file))

    assert np.abs(heard[:240].astype(int)).max() < 12000  # the voice peaks at 8000; libavcodec alone gives 32768


def test_gsm_is_bit_exact_with_libgsm() -> None:
    heard = decode_all(CODECS["GSM"], packets("gsm"))

    assert hashlib.sha256(heard.astype("<i2").tobytes()).hexdigest() == GSM_BY_LIBGSM


def test_a_packet_of_many_frames_is_heard_as_its_frames_one_by_one() -> None:
    for name, file in (("GSM", "gsm"), ("G729", "g729b")):
        frames = packets(file)[:24]
        one_by_one = decode_all(CODECS[name], frames)
        in_threes = decode_all(CODECS[name], [b"".join(frames[at : at + 3]) for at in range(0, 24, 3)])
        assert np.array_equal(one_by_one, in_threes)


@needs_g722_vectors
@pytest.mark.parametrize(
    ("file", "sha256"),
    [
        ("test", "a886f22d37ecd356e1963072bc481ed2c5dd12539428188d9779d33a520f3ff8"),
        ("fullscale", "e70c92cd2068d112839db12bfaa787cc0ea9a809b64fbf62fd78b6041cd9fbcc"),
    ],
)
def test_g722_decodes_the_reference_vectors_bit_for_bit(file: str, sha256: str) -> None:
    data = (G722_VECTORS / f"{file}.g722").read_bytes()

    heard = decode_all(CODECS["G722"], [data[at : at + 160] for at in range(0, len(data), 160)])

    assert sha256 in (G722_VECTORS / "test.checksum").read_text()
    assert hashlib.sha256(heard.astype("<i2").tobytes()).hexdigest() == sha256


@needs_g722_vectors
def test_g722_encodes_the_reference_vector_bit_for_bit() -> None:
    source = np.fromfile(G722_VECTORS / "pcminb.dat", "<i2")
    encoder = CODECS["G722"].make_encoder
    assert encoder is not None
    one = encoder()

    encoded = b"".join(one.encode(source[at : at + 42]) for at in range(0, len(source), 42))

    heard = decode_all(CODECS["G722"], [encoded])
    ours = [hashlib.md5(data).hexdigest() for data in (encoded, heard.astype("<i2").tobytes())]
    lines = (G722_VECTORS / "pcminb.checksum").read_text().splitlines()
    assert ours == next(line.split()[2:] for line in lines if line.startswith("64000_16000"))


@EACH
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_junk_is_refused_or_lasts_as_long_as_it_says(codec: Codec, data: st.DataObject) -> None:
    decoder = codec.make_decoder("octet-align=1")
    for payload in data.draw(st.lists(st.binary(max_size=200), min_size=1, max_size=3)):
        began = time.perf_counter()
        try:
            samples = decoder.decode(payload)
        except ValueError:
            continue
        finally:
            assert time.perf_counter() - began < 0.5  # 10 ms is the aim; a loaded machine must not fail it
        assert samples.dtype == np.int16
        assert len(samples) == expected_samples(codec, payload)


@EACH
@given(payload=st.binary(max_size=120))
def test_a_duration_is_positive_or_refused(codec: Codec, payload: bytes) -> None:
    try:
        assert codec.duration(payload) > 0 or not payload
    except ValueError:
        pass


@EACH
def test_a_decoder_stays_usable_after_a_refusal(codec: Codec) -> None:
    decoder = codec.make_decoder("")
    with pytest.raises(ValueError, match=r"."):
        decoder.decode(b"")

    good = {
        "PCMU": bytes(160), "PCMA": bytes(160), "G722": bytes(160), "OPUS": b"\x48", "L16": bytes(320),
        "G729": packets("g729b")[0], "GSM": packets("gsm")[0], "ILBC": bytes(38), "SPEEX": packets("speex")[0],
        "AMR": b"\xf7\xc0", "AMR-WB": b"\xf7\xc0",
    }[codec.name]  # fmt: skip
    assert len(decoder.decode(good)) == expected_samples(codec, good)


@pytest.mark.parametrize(
    ("name", "n"), [("G722", 0), ("G722", 161), ("OPUS", 0), ("OPUS", 321), ("GSM", 0), ("GSM", 161)]
)
def test_a_packet_length_that_the_format_does_not_have_is_refused(name: str, n: int) -> None:
    make_encoder = CODECS[name].make_encoder
    assert make_encoder is not None
    with pytest.raises(ValueError, match=name):
        make_encoder().encode(np.zeros(n, np.int16))


@pytest.mark.parametrize(
    "payload",
    [
        bytes.fromhex("78"),  # a terminator and nothing before it
        bytes.fromhex("f000"),  # a wide-band layer of a reserved submode
        bytes.fromhex("48ff"),  # a reserved narrow-band submode
        bytes.fromhex("70ff"),  # an in-band request
        packets("speex")[0][:20],
    ],
)
def test_a_speex_payload_that_does_not_add_up_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="SPEEX"):
        CODECS["SPEEX"].duration(payload)


@pytest.mark.parametrize(
    ("name", "rate", "found"),
    [
        ("pcmu", 8000, "PCMU"),
        ("opus", 48000, "OPUS"),
        ("G722", 8000, "G722"),
        ("G722", 16000, "G722"),
        ("G722", 48000, None),
        ("L16", 8000, "L16"),
        ("L16", 16000, "L16"),
        ("L16", 44100, None),
        ("amr-wb", 16000, "AMR-WB"),
        ("speex", 16000, None),
        ("telephone-event", 8000, None),
    ],
)
def test_a_codec_is_found_by_name_and_clock_rate(name: str, rate: int, found: str | None) -> None:
    codec = find(name, rate)

    assert (codec and codec.name) == found
    assert codec is None or codec.clock_rate_hz == rate


def test_amr_with_parameters_that_we_cannot_read_is_not_found() -> None:
    assert find("AMR", 8000, fmtp="octet-align=1; mode-set=0,2,4,7")
    assert find("AMR", 8000, fmtp="octet-align=1; crc=0; channels=1")
    for fmtp in ("crc=1", "robust-sorting=1", "interleaving=30", "octet-align=1;channels=2"):
        assert find("AMR", 8000, fmtp=fmtp) is None
        with pytest.raises(ValueError, match="parameters"):
            CODECS["AMR"].make_decoder(fmtp)


def test_static_payload_types_are_those_of_rfc_3551() -> None:
    named = {number: codec.name for number in range(128) if (codec := find_static(number))}

    assert named == {0: "PCMU", 3: "GSM", 8: "PCMA", 9: "G722", 18: "G729"}


def test_the_registry_knows_each_codec_by_its_own_name() -> None:
    assert all(name == codec.name == name.upper() for name, codec in CODECS.items())
    assert {codec.sample_rate_hz for codec in ALL} == {8000, 16000}
    assert all((codec.table is None) == (codec.wire_encoding is None) for codec in ALL)
