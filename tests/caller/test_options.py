from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.caller.options import CallOptions, LegAudio, build, parse_mute, parse_span
from bridge.caller.rtp_schedule import Mute
from bridge.caller.sip_client import Target
from bridge.errors import ConfigError


@pytest.fixture
def wav(tmp_path: Path) -> str:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(32000))
    return str(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("text", "uri", "host", "port", "transport"),
    [
        ("sip:127.0.0.1", "sip:127.0.0.1", "127.0.0.1", 5060, "udp"),
        ("sip:box.example:5070", "sip:box.example:5070", "box.example", 5070, "udp"),
        ("sip:queue@[::1]:5070", "sip:queue@[::1]:5070", "::1", 5070, "udp"),
        ("SIP:+1800@10.0.0.1;transport=TCP", "sip:+1800@10.0.0.1;transport=tcp", "10.0.0.1", 5060, "tcp"),
        ("10.0.0.1:5070", "sip:10.0.0.1:5070", "10.0.0.1", 5070, "udp"),
    ],
)
def test_a_target_is_read(text: str, uri: str, host: str, port: int, transport: str) -> None:
    assert Target.parse(text) == Target(uri, host, port, transport)


@pytest.mark.parametrize("text", ["", "sip:", "sip:h:0", "sip:h:99999", "sip:::1", "http://x", "sip:a b", "sips:h"])
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Target.parse(text)


@given(st.text())
def test_no_text_makes_the_parsers_raise_anything_else(text: str) -> None:
    for parse in (Target.parse, parse_span, parse_mute):
        try:
            parse(text)
        except ConfigError:
            continue


def test_spans_and_mutes_are_seconds() -> None:
    assert parse_span("5-10.5") == (5.0, 10.5)
    assert parse_mute("agent:1-2", "stop") == ("agent", Mute(1.0, 2.0, "stop"))


def test_a_command_line_becomes_options(wav: str) -> None:
    options = build(
        "sip:127.0.0.1", [f"caller={wav}", f"agent={wav}"],
        siprec=True, calls=3, hold=["8-9", "1-2"], mute=["agent:0-1"], codec="g722",
    )  # fmt: skip
    assert [leg.role for leg in options.legs] == ["caller", "agent"]
    assert [leg.rate_hz for leg in options.legs] == [16000, 16000]
    assert options.legs[1].mutes == (Mute(0, 1),)
    assert options.holds == ((1.0, 2.0), (8.0, 9.0))
    assert (options.calls, options.codec, options.siprec) == (3, "G722", True)


def test_every_problem_of_a_command_line_is_told_at_once(wav: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(
            "sip:127.0.0.1", [f"caller={wav}", "agent=gone.wav", "nothing"],
            calls=0, hold=["5-3"], mute=["boss:1-2"], codec="MP3", ptime_ms=5,
        )  # fmt: skip
    told = " ".join(caught.value.problems)
    assert all(word in told for word in ("gone.wav", "nothing", "--calls", "5-3", "boss", "MP3", "--ptime", "--siprec"))


def test_a_call_lasts_a_second_longer_than_its_last_hold() -> None:
    leg = LegAudio("caller", np.ones(16000, np.int16))
    assert CallOptions("", (leg,)).seconds == 2.0
    assert CallOptions("", (leg,), holds=((1.0, 4.0),)).seconds == 5.0
    samples, music = leg.at_rate(16000, seconds=5.0)
    assert (len(samples), music) == (80000, None)
    assert not samples[34000:].any()
