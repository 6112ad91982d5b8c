from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from rtpcodecs import CODECS
from rtpcodecs.libopus import LibopusDecoder, library
from rtpcodecs.opus import duration
from rtpcodecs.opus_lavc import Decimator, LavcOpusDecoder
from tests.rtpcodecs.voice import likeness, vowel


@pytest.mark.parametrize(
    ("toc", "units"),
    [
        (0 << 3, 480), (1 << 3, 960), (3 << 3, 2880), (9 << 3, 960), (12 << 3, 480), (15 << 3, 960),
        (16 << 3, 120), (17 << 3, 240), (31 << 3, 960), (31 << 3 | 1, 1920), (31 << 3 | 2, 1920),
    ],
)  # fmt: skip
def test_a_packet_lasts_what_its_toc_byte_says(toc: int, units: int) -> None:
    assert duration(bytes((toc, 1, 2, 3))) == units


def test_a_frame_count_byte_is_multiplied_out_up_to_120_ms() -> None:
    assert duration(bytes((1 << 3 | 3, 6))) == 5760
    assert duration(bytes((16 << 3 | 3, 0xC0 | 48))) == 5760
    for impossible in (bytes((1 << 3 | 3, 7)), bytes((1 << 3 | 3, 0)), bytes((3 << 3 | 3,)), b""):
        with pytest.raises(ValueError, match="OPUS"):
            duration(impossible)


def test_dtx_packets_of_one_byte_are_heard_as_near_silence() -> None:
    codec = CODECS["OPUS"]
    assert codec.make_encoder is not None
    encoder, decoder = codec.make_encoder(), codec.make_decoder("")
    said = np.concatenate((vowel(16000, 0.4), np.zeros(3200, np.int16)))  # a sender is sure of silence before DTX
    for at in range(0, len(said), 320):
        packet = encoder.encode(said[at : at + 320])
        decoder.decode(packet)

    blocks = [decoder.decode(packet[:1]) for _ in range(50)]

    assert {len(block) for block in blocks} == {320}
    assert max(np.abs(block).max() for block in blocks) < 50


def test_a_later_packet_of_another_length_is_refused_by_the_encoder() -> None:
    make_encoder = CODECS["OPUS"].make_encoder
    assert make_encoder is not None
    encoder = make_encoder()
    encoder.encode(np.zeros(320, np.int16))

    with pytest.raises(ValueError, match="first packet"):
        encoder.encode(np.zeros(640, np.int16))
    with pytest.raises(ValueError, match="length"):
        make_encoder().encode(np.zeros(100, np.int16))


def test_libopus_and_libavcodec_hear_the_same() -> None:
    encoder = CODECS["OPUS"].make_encoder
    assert encoder is not None
    one, said = encoder(), vowel(16000, 0.6)
    packets = [one.encode(said[at : at + 320]) for at in range(0, len(said), 320)]
    direct, wrapped = LibopusDecoder(library(), 16000), LavcOpusDecoder()

    ours = np.concatenate([direct.decode(packet, 320) for packet in packets])
    theirs = np.concatenate([wrapped.decode(packet, 320) for packet in packets])

    similarity, delay = likeness(theirs, ours, longest_delay=100)
    assert similarity > 0.995
    assert delay in (18, 19, 20)  # their low-pass


@pytest.mark.parametrize("decoder", [LibopusDecoder(library(), 16000), LavcOpusDecoder()], ids=["libopus", "lavc"])
def test_a_broken_packet_is_refused_and_the_next_one_heard(decoder: LibopusDecoder | LavcOpusDecoder) -> None:
    for broken in (b"\x4b\xff\xff", b"\x4b\x00", b"\x4a\xff\xff\xff"):
        with pytest.raises(ValueError, match=r"(?i)opus"):
            decoder.decode(broken, 320)
    assert len(decoder.decode(b"\x48", 320)) == 320


def test_a_service_that_has_libopus_does_not_load_pyav_to_decode() -> None:
    program = "import sys, rtpcodecs; rtpcodecs.OPUS.make_decoder('').decode(b'H'); print('av' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


def test_without_libopus_libavcodec_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rtpcodecs.opus.library", lambda: None)
    assert len(CODECS["OPUS"].make_decoder("").decode(b"H")) == 320


def tone(hz: float, n: int) -> np.ndarray:
    return np.rint(10000 * np.sin(2 * np.pi * hz * np.arange(n) / 48000)).astype(np.int16)


def level_db(samples: np.ndarray) -> float:
    return float(20 * np.log10(np.sqrt((samples.astype(float) ** 2).mean()) / (10000 / np.sqrt(2)) + 1e-9))


@pytest.mark.parametrize("hz", [100, 1000, 4000, 7000])
def test_what_speech_is_made_of_passes_the_decimator(hz: int) -> None:
    assert abs(level_db(Decimator().push(tone(hz, 48000))[100:])) < 0.2


@pytest.mark.parametrize("hz", [8500, 10000, 15000, 20000])
def test_what_would_fold_back_does_not_pass(hz: int) -> None:
    assert level_db(Decimator().push(tone(hz, 48000))[100:]) < -55


def test_blocks_of_any_size_give_the_same_as_one() -> None:
    sound = vowel(48000, 0.1)
    whole = Decimator().push(sound)
    pieces = Decimator()

    assert np.array_equal(np.concatenate([pieces.push(sound[at : at + 120]) for at in range(0, 4800, 120)]), whole)


def test_stereo_is_mixed_to_mono() -> None:
    import av

    context = av.CodecContext.create("libopus", "w")
    context.sample_rate, context.layout, context.format = 48000, "stereo", "s16"
    context.options = {"application": "audio", "frame_duration": "20"}
    left, right = tone(500, 48000), tone(1500, 48000)
    payloads = []
    for at in range(0, 48000, 960):
        both = np.column_stack((left[at : at + 960], right[at : at + 960])).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, "s16", "stereo")
        frame.sample_rate = 48000
        payloads += [bytes(packet) for packet in context.encode(frame)]
    assert any(payload[0] & 4 for payload in payloads)  # the TOC's stereo bit (RFC 6716 section 3.1)

    decoder = CODECS["OPUS"].make_decoder("stereo=1")
    heard = np.concatenate([decoder.decode(payload) for payload in payloads])[4000:12000].astype(float)

    spectrum = np.abs(np.fft.rfft(heard * np.hanning(8000)))
    peaks = sorted(int(n) * 2 for n in np.argsort(spectrum)[-2:])
    assert all(abs(peak - wanted) <= 4 for peak, wanted in zip(peaks, (500, 1500), strict=True))
