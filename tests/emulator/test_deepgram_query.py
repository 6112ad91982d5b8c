from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator.deepgram_query import DeepgramQuery, Refusal, credentials, model_identity

RAW = "model=nova-3&encoding=mulaw&sample_rate=8000"


@pytest.mark.parametrize("header", ["Token k", "token k", "Bearer k", "bearer k"])
def test_a_key_or_token_may_be_in_the_header(header: str) -> None:
    assert credentials({"Authorization": header}, []) == "k"


def test_a_browser_sends_the_key_as_a_sub_protocol() -> None:
    assert credentials({}, ["token", "k"]) == "k"


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic k"}, {"Authorization": "Token "}])
def test_without_a_key_the_answer_is_401(headers: dict[str, str]) -> None:
    with pytest.raises(Refusal) as refused:
        credentials(headers, [])
    assert (refused.value.status, refused.value.code, refused.value.message) == (
        401,
        "INVALID_AUTH",
        "Invalid credentials.",
    )


def test_what_matters_of_a_query_is_read() -> None:
    query = DeepgramQuery.parse(
        f"{RAW}&interim_results=true&endpointing=300&utterance_end_ms=1000&vad_events=true&smart_format=true&extra=a:b"
    )
    assert (query.encoding, query.sample_rate, query.channels, query.is_punctuated) == ("mulaw", 8000, 1, True)
    assert (query.rules.endpointing, query.rules.utterance_end) == (0.3, 1.0)
    assert query.rules.interims
    assert query.rules.speech_started
    assert query.extra == {"a": "b"}


@pytest.mark.parametrize(("value", "expected"), [("", 0.01), ("&endpointing=false", None), ("&endpointing=500", 0.5)])
def test_endpointing_is_10_ms_unless_told_otherwise(value: str, expected: float | None) -> None:
    assert DeepgramQuery.parse(RAW + value).rules.endpointing == expected


def test_unknown_parameters_and_repeated_ones_are_accepted() -> None:
    query = DeepgramQuery.parse(f"{RAW}&no_delay=true&keyterm=a+b&keyterm=c&nobody_knows=1")
    assert [value for key, value in query.raw if key == "keyterm"] == ["a b", "c"]


@pytest.mark.parametrize(
    "query",
    [
        "model=nova-3&encoding=mp4",
        "model=nova-3&encoding=mulaw",
        "model=nova-3&encoding=opus&sample_rate=48000",
        f"{RAW}&keywords=snuffle:1",
        f"{RAW}&language=english",
        f"{RAW}&diarize_model=v2",
        f"{RAW}&interim_results=yes",
        f"{RAW}&endpointing=soon",
        f"{RAW}&channels=21",
        f"{RAW}&channels=-1",
        f"{RAW}&utterance_end_ms=1000",
    ],
)
def test_what_the_service_refuses_is_answered_with_400(query: str) -> None:
    with pytest.raises(Refusal) as refused:
        DeepgramQuery.parse(query)
    assert refused.value.status == 400


PARAMETERS = ("encoding", "sample_rate", "channels", "endpointing", "utterance_end_ms", "extra", "language", "diarize")
PAIRS = st.lists(st.tuples(st.sampled_from(PARAMETERS), st.text("0123456789-.:truefalsmw", max_size=8)), max_size=6)


@given(st.text(max_size=60) | PAIRS.map(lambda pairs: "&".join(f"{key}={value}" for key, value in pairs)))
def test_no_query_raises_anything_but_a_refusal(text: str) -> None:
    status = 101
    try:
        DeepgramQuery.parse(text)
    except Refusal as refused:
        status = refused.status
    assert status in (101, 400)


def test_captured_models_have_their_identity_and_others_a_stable_one() -> None:
    uuid, info = model_identity(DeepgramQuery.parse("model=nova-2-phonecall"))
    assert uuid == "7e3b5bdf-85ed-4fd2-9f7a-7721bbcad97b"
    assert info == {"name": "2-phonecall-nova", "version": "2024-02-07.20824", "arch": "nova-2"}
    custom = DeepgramQuery.parse("model=enhanced-meeting")
    assert model_identity(custom) == model_identity(custom)
    assert model_identity(custom)[1]["arch"] == "base"
