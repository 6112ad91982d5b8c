"""Recordings through the plane: files and captures become the same calls as live RTP, and gates are scored."""

from __future__ import annotations

import json
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.config import GateSettings, Settings, SttSettings
from bridge.emulator import recordings as bundled
from bridge.emulator.options import EmulatorOptions
from bridge.emulator.server import serve
from bridge.errors import ConfigError
from bridge.replay.command import run_replay
from bridge.replay.recordings import load
from bridge.replay.score import Score, labels_of, segments_of
from bridge.rtp.packet import RtpPacket, parse_rtp
from rtpcodecs.g711 import linear_to_alaw, linear_to_ulaw


def write_wav(path: Path, *channels: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.stack(channels, axis=1).astype("<i2").tobytes())
    return path


def write_pcap(path: Path, datagrams: list[tuple[float, int, bytes]], link: int = 1) -> Path:
    """Ethernet (or raw IP) / IPv4 / UDP; (time, source port, payload)."""
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, link)
    for at, port, payload in datagrams:
        udp = struct.pack("!HHHH", port, 4000, 8 + len(payload), 0) + payload
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes([192, 0, 2, 1]), bytes(4))
        frame = (bytes(12) + b"\x08\x00" if link == 1 else b"") + ip + udp
        out += struct.pack("<IIII", int(at), round(at % 1 * 1e6), len(frame), len(frame)) + frame
    path.write_bytes(out)
    return path


def test_a_stereo_file_is_a_call_of_two_legs_and_its_packets_are_its_audio(tmp_path: Path) -> None:
    left, right = np.arange(1600, dtype=np.int16), np.arange(1600, dtype=np.int16)[::-1] * 3
    recording = load(write_wav(tmp_path / "a.wav", left, right))
    assert [len(stream.packets) for stream in recording.streams] == [10, 10]
    for stream, samples in zip(recording.streams, (left, right), strict=True):
        payload = b"".join(parse_rtp(data).payload for _, data in stream.packets)
        assert payload == linear_to_ulaw(samples).tobytes()
        assert [round(at, 3) for at, _ in stream.packets[:2]] == [0.02, 0.04]


@pytest.mark.parametrize("link", [1, 101])
def test_a_capture_gives_a_leg_per_stream_with_its_own_arrival_times(tmp_path: Path, link: int) -> None:
    alaw = linear_to_alaw(np.arange(160, dtype=np.int16)).tobytes()
    packets = [(100.5 + 0.02 * n, 7000, RtpPacket(8, n, n * 160, 77, alaw).build()) for n in range(20)]
    packets += [(100.7 + 0.02 * n, 7002, RtpPacket(0, n, n * 160, 78, alaw).build()) for n in range(20)]
    packets += [(100.6, 7004, b"not rtp at all"), (100.6, 7006, RtpPacket(96, 0, 0, 5, b"x").build())]
    recording = load(write_pcap(tmp_path / "a.pcap", packets, link))
    assert [(stream.codec.name, len(stream.packets)) for stream in recording.streams] == [("PCMA", 20), ("PCMU", 20)]
    assert recording.streams[1].packets[0][0] == pytest.approx(0.2, abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_a_broken_capture_is_refused_or_cut_never_more(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("junk") / "a.pcap"
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + junk)
    with pytest.raises(ConfigError):
        load(path)


@pytest.mark.parametrize(("name", "content"), [("a.wav", b"RIFFnonsense"), ("b.pcap", b"\n\r\r\n...."), ("c", b"")])
def test_a_file_that_is_no_recording_is_told_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=name):
        load(path)


def test_scores_say_what_was_sent_of_which_class_and_what_speech_was_lost() -> None:
    score = Score()
    segments = [{"start": 0, "end": 10, "class": "music"}, {"start": 10, "end": 20, "class": "speech"}]
    score.add(segments, [(11.0, 15.0)], [(9.5, 14.0), (16.0, float("inf"))])
    assert score.sent == {"music": 0.5, "speech": 8.0}
    assert score.withheld == {"music": 9.5, "speech": 2.0}
    assert (score.speech, score.speech_lost) == (4.0, 1.0)
    assert score.lines()[-1] == "speech lost 1.000 of 4.0 s (25.00 %)"


def test_labels_are_found_by_file_name_in_both_of_their_shapes(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({"speech/a.flac": {"class": "speech", "seconds": 3.0, "speech": [[0.5, 1]]}}))
    assert segments_of(labels_of(path)["a.flac"]) == [{"start": 0.0, "end": 3.0, "class": "speech"}]
    path.write_text(json.dumps({"legs": {"caller": {"file": "c.flac", "segments": [{"class": "music"}]}}}))
    assert segments_of(labels_of(path)["c.flac"]) == [{"class": "music"}]


async def test_a_recording_is_transcribed_in_its_own_time_and_scored(tmp_path: Path) -> None:
    library = bundled.load()
    line = library["agent-phone-number"]
    samples = np.zeros(8000 * 7, np.int16)
    samples[16000 : 16000 + len(line.samples)] = line.samples
    path = write_wav(tmp_path / "line.wav", samples)
    labels = tmp_path / "labels.json"
    spoken = [2.0 + line.words[0].start, 2.0 + line.words[-1].end]
    segments = [{"start": 0.0, "end": 1.5, "class": "silence"}]
    labels.write_text(json.dumps({"line.wav": {"segments": segments, "speech": [spoken]}}))
    told: list[str] = []
    async with serve(EmulatorOptions(throttle=0)) as emulator:
        table = {"deepgram": {"url": emulator.url, "api_key": "k"}}
        config = Settings(stt=SttSettings(providers=table), gate=GateSettings())
        await run_replay([load(path)], config, labels=labels_of(labels), speed=4.0, as_json=True, tell=told.append)
    found = [json.loads(entry) for entry in told if entry.startswith("{")]
    words = [word for event in found if event["type"] == "transcript.final" for word in event["data"]["words"]]
    assert len(words) == len(line.words)
    for word, truth in zip(words, line.words, strict=True):
        assert word[1] == pytest.approx(2.0 + truth.start, abs=0.02)
    assert found[-1]["type"] == "call.ended"
    assert told[-1].startswith("speech lost 0.000")
