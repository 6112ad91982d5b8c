"""The sessions' own wire: what they say, what they make of what they hear, and of nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InvalidState
from bridge.model import AudioFormat
from bridge.stt import PROVIDERS
from bridge.stt.deepgram import DeepgramSession, DeepgramSettings, endpoint
from bridge.stt.session import Accepted, Cure, Ended, Failed, Flushed, Partial, Segment, SttOptions, SttSession
from bridge.stt.soniox import SonioxSession, SonioxSettings, start_request
from bridge.stt.soniox import endpoint as soniox_endpoint
from bridge.stt.vosk import VoskSession, VoskSettings

MULAW = AudioFormat("mulaw", 8000)
LINEAR = AudioFormat("linear16", 16000)
SECOND = bytes([1]) * 8000


def deepgram() -> DeepgramSession:
    session = DeepgramSession(DeepgramSettings(), MULAW, SttOptions())
    session.connected(0.0)
    session.take_events()
    return session


def soniox(**settings: Any) -> SonioxSession:
    session = SonioxSession(SonioxSettings(**settings), MULAW, SttOptions())
    session.connected(0.0)
    session.messages_to_send()
    return session


def results(start: float, duration: float, *words: tuple[str, float, float], **extra: Any) -> str:
    found = [{"word": w.lower(), "start": s, "end": e, "confidence": 0.5, "punctuated_word": w} for w, s, e in words]
    alternative = {"transcript": " ".join(w for w, _, _ in words), "confidence": 0.75, "words": found}
    body = {"type": "Results", "start": start, "duration": duration, "channel": {"alternatives": [alternative]}}
    return json.dumps(body | extra)


def tokens(*found: tuple[str, int, int, bool], **extra: Any) -> str:
    made = [
        {"text": t, "start_ms": s, "end_ms": e, "is_final": f, "confidence": 0.5} if t not in ("<fin>", "<end>")
        else {"text": t, "is_final": True}
        for t, s, e, f in found
    ]  # fmt: skip
    return json.dumps({"tokens": made} | extra)


# Deepgram


def test_the_deepgram_url_carries_every_parameter_and_the_key_is_a_header() -> None:
    settings = DeepgramSettings(api_key="k", query={"keyterm": ["a b", "c"], "smart_format": True, "endpointing": 10})
    found = endpoint(settings, MULAW, SttOptions(language="es", interim=False))
    assert found.url == (
        "wss://api.deepgram.com/v1/listen?model=nova-3&language=es&encoding=mulaw&sample_rate=8000&channels=1"
        "&interim_results=false&punctuate=true&endpointing=10&keyterm=a+b&keyterm=c&smart_format=true"
    )
    assert found.headers == (("Authorization", "Token k"),)
    assert "Token k" not in repr(found) + repr(settings)


def test_keepalive_is_a_text_every_4_s_without_audio_and_never_while_audio_flows() -> None:
    session = deepgram()
    now = 0.0
    for _ in range(100):
        now += 0.1
        session.send_audio(SECOND[:800], now)
        session.handle_timer(now)
    assert all(isinstance(message, bytes) for message in session.messages_to_send())
    sent = []
    for _ in range(5):
        due = session.deadline()
        assert due is not None
        session.handle_timer(due)
        sent += [(round(due, 1), message) for message in session.messages_to_send()]
    assert sent == [(10.0 + 4.0 * n, '{"type":"KeepAlive"}') for n in range(1, 6)]


def test_an_empty_audio_frame_is_our_own_bug() -> None:
    for session in (deepgram(), soniox()):
        with pytest.raises(InvalidState):
            session.send_audio(b"", 1.0)
        session.finish(1.0)
        with pytest.raises(InvalidState):
            session.send_audio(b"\x01", 1.0)


def test_a_finalize_is_answered_by_from_finalize_or_by_nobody() -> None:
    session = deepgram()
    session.send_audio(SECOND, 0.0)
    session.finalize(0.0)
    session.receive_message(results(0.0, 1.0, ("Hello.", 0.1, 0.6), is_final=True, from_finalize=True), 0.3)
    segment, flushed = session.take_events()
    assert segment == Segment("Hello.", segment.words, 1.0, "en", 0.75, False)  # type: ignore[union-attr]
    assert flushed == Flushed(1.0, is_answered=True)
    session.send_audio(SECOND, 1.0)
    session.finalize(1.0)
    session.handle_timer(2.9)
    assert session.take_events() == []
    session.handle_timer(3.0)
    assert session.take_events() == [Flushed(2.0, is_answered=False)]


def test_a_late_answer_answers_its_own_finalize_and_not_the_next() -> None:
    session = deepgram()
    session.send_audio(SECOND, 0.0)
    session.finalize(0.0)
    session.handle_timer(2.5)
    session.send_audio(SECOND, 2.5)
    session.finalize(2.5)
    session.take_events()
    session.receive_message(results(0.0, 1.0, is_final=True, from_finalize=True), 2.6)
    flushed = [event for event in session.take_events() if isinstance(event, Flushed)]
    assert flushed == [Flushed(1.0, is_answered=True)]


def test_the_flush_of_one_channel_is_answered_by_that_channel() -> None:
    session = deepgram()
    session.send_audio(SECOND, 0.0)
    session.finalize(0.0, channel=1)
    assert session.messages_to_send()[-1] == '{"type":"Finalize","channel":1}'
    for channel, is_answered in ((0, False), (1, True)):
        answer = results(0.0, 1.0, is_final=True, from_finalize=True, channel_index=[channel, 2])
        session.receive_message(answer, 0.1)
        assert any(isinstance(event, Flushed) for event in session.take_events()) == is_answered


def test_close_stream_stands_behind_the_audio_and_metadata_ends_it() -> None:
    session = deepgram()
    session.send_audio(SECOND, 0.0)
    session.finish(0.0)
    assert session.messages_to_send() == [SECOND, '{"type":"CloseStream"}']
    session.receive_message(results(0.0, 1.0, ("a", 0.1, 0.2), is_final=True), 0.2)
    session.receive_message('{"type":"Metadata","duration":1.0,"channels":1,"request_id":"r"}', 0.3)
    assert [type(event) for event in session.take_events()] == [Segment, Ended]
    assert session.provider_s == 1.0
    session.connection_lost(1000, "", 0.4)
    assert session.take_events() == []


@pytest.mark.parametrize(
    ("code", "reason", "told", "cure"),
    [
        (1011, "Deepgram did not receive audio data ... See https://dpgr.am/net0001", "1011 net0001", Cure.RETRY),
        (1011, "Deepgram did not provide a response ... See https://dpgr.am/net0000", "1011 net0000", Cure.RETRY),
        (1008, "DATA-0000", "1008 DATA-0000", Cure.ELSEWHERE),
        (1006, "", "1006", Cure.RETRY),
        (1000, "", "1000", Cure.RETRY),
    ],
)
def test_a_close_that_we_did_not_ask_for_is_a_failure(code: int, reason: str, told: str, cure: Cure) -> None:
    session = deepgram()
    session.receive_message('{"type":"Metadata","duration":0.0,"channels":0}', 1.0)
    session.connection_lost(code, reason, 1.0)
    assert session.take_events() == [Failed(told, cure)]


def test_a_refused_payload_is_no_reason_to_go_elsewhere_once_it_was_understood() -> None:
    session = deepgram()
    session.receive_message(results(0.0, 1.0, ("a", 0.1, 0.2), is_final=True), 1.0)
    session.take_events()
    session.connection_lost(1008, "", 2.0)
    assert session.take_events() == [Failed("1008", Cure.RETRY)]


def test_messages_that_are_only_news_change_nothing() -> None:
    session = deepgram()
    for message in (
        {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": -1},
        {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 8.8},
        {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 9.54},
        {"type": "Error", "variant": "SchemaError", "description": "x", "message": "y"},
        {"type": "ConfigureSuccess", "request_id": "r"},
        {"type": "ConfigureFailure", "request_id": "r", "code": "CONFIGURE_ALREADY_PENDING", "description": ""},
        {"type": "SomethingOf2030"},
        {},
    ):
        session.receive_message(json.dumps(message), 1.0)
    assert session.take_events() == []
    assert session.malformed == 0


@pytest.mark.parametrize(("status", "cure"), [(400, Cure.ELSEWHERE), (401, Cure.ELSEWHERE), (402, Cure.ELSEWHERE),
    (403, Cure.ELSEWHERE), (429, Cure.RETRY), (500, Cure.RETRY), (503, Cure.RETRY), (0, Cure.RETRY)])  # fmt: skip
def test_what_a_refusal_calls_for(status: int, cure: Cure) -> None:
    assert PROVIDERS["deepgram"].refusal(status) is cure
    assert PROVIDERS["soniox"].refusal(status) is cure


# Soniox


def test_the_soniox_start_request_is_the_first_message_and_the_key_a_header() -> None:
    settings = SonioxSettings(api_key="k", start={"enable_speaker_diarization": True, "language_hints": ["en", "es"]})
    session = SonioxSession(settings, LINEAR, SttOptions(language="en-US"))
    session.connected(0.0)
    (first,) = session.messages_to_send()
    assert json.loads(first) == {
        "model": "stt-rt-v5", "audio_format": "pcm_s16le", "sample_rate": 16000, "num_channels": 1,
        "enable_endpoint_detection": True, "language_hints": ["en", "es"], "enable_speaker_diarization": True,
    }  # fmt: skip
    assert soniox_endpoint(settings, LINEAR, SttOptions()).headers == (("Authorization", "Bearer k"),)


def test_the_old_way_puts_the_key_into_the_start_request() -> None:
    settings = SonioxSettings(api_key="k", key_in_start=True)
    assert soniox_endpoint(settings, MULAW, SttOptions()).headers == ()
    assert json.loads(start_request(settings, MULAW, SttOptions()))["api_key"] == "k"


def test_sub_word_tokens_make_words_and_specials_are_not_text() -> None:
    session = soniox()
    session.send_audio(SECOND, 0.0)
    session.finalize(0.0)
    session.receive_message(tokens((" Hel", 0, 200, True), ("lo", 200, 300, False)), 0.1)
    session.receive_message(tokens(("lo", 200, 320, True), (",", 320, 330, True), (" you", 400, 500, False)), 0.2)
    session.receive_message(tokens((" you", 400, 600, True), ("<fin>", 0, 0, True)), 0.3)
    events = session.take_events()
    assert [type(event) for event in events] == [Accepted, Partial, Partial, Segment, Flushed]
    segment = events[3]
    assert isinstance(segment, Segment)
    assert segment.text == "Hello, you"
    assert [(w.text, w.start, w.end) for w in segment.words] == [("Hello,", 0.0, 0.33), ("you", 0.4, 0.6)]
    assert segment.end == 1.0
    assert [event.text for event in events if isinstance(event, Partial)] == ["Hello", "Hello, you"]


def test_a_word_half_final_when_the_line_drops_is_left_for_the_replay() -> None:
    session = soniox()
    session.send_audio(SECOND, 0.0)
    session.receive_message(tokens((" one", 0, 200, True), (" tw", 300, 400, True), ("o", 400, 500, False)), 0.1)
    session.take_events()
    session.connection_lost(1006, "", 0.2)
    segment, failed = session.take_events()
    assert isinstance(segment, Segment)
    assert (segment.text, segment.end) == ("one", 0.2)
    assert failed == Failed("1006", Cure.RETRY)


def test_translations_are_not_words_of_the_call() -> None:
    session = soniox()
    session.receive_message(
        '{"tokens":[{"text":" hola","is_final":true,"start_ms":0,"end_ms":1,"translation_status":"original"},'
        '{"text":" hello","is_final":true,"translation_status":"translation"},{"text":"<end>","is_final":true}]}', 0.1
    )  # fmt: skip
    (segment,) = [event for event in session.take_events() if isinstance(event, Segment)]
    assert segment.text == "hola"
    assert session.malformed == 0


@pytest.mark.parametrize(("code", "cure"), [(400, Cure.ELSEWHERE), (401, Cure.ELSEWHERE), (402, Cure.ELSEWHERE),
    (403, Cure.ELSEWHERE), (408, Cure.RETRY), (413, Cure.RETRY), (429, Cure.RETRY), (500, Cure.RETRY),
    (503, Cure.RETRY)])  # fmt: skip
@pytest.mark.parametrize("old_form", [True, False])
def test_soniox_errors_are_told_apart_by_number(code: int, cure: Cure, *, old_form: bool) -> None:
    session = soniox()
    body: dict[str, Any] = {"error_code": code, "error_message": "whatever they say this year"}
    session.receive_message(json.dumps(body if old_form else body | {"tokens": [], "error_type": "x"}), 0.1)
    assert session.take_events() == [Failed(str(code) if old_form else f"{code} x", cure)]


def test_a_soniox_stream_is_accepted_by_its_first_message_or_by_silence_on_errors() -> None:
    session = soniox()
    assert session.deadline() == 1.5
    session.handle_timer(1.5)
    assert session.take_events() == [Accepted()]
    session = soniox()
    session.receive_message('{"tokens":[]}', 0.2)
    assert session.take_events() == [Accepted()]


def test_soniox_ends_with_an_empty_text_and_finished() -> None:
    session = soniox(trailing_silence_ms=300)
    session.send_audio(SECOND, 0.0)
    session.finalize(0.0)
    session.finish(0.0)
    assert session.messages_to_send() == [SECOND, '{"type": "finalize", "trailing_silence_ms": 300}', ""]
    session.receive_message(tokens((" a", 0, 100, True), finished=True, total_audio_proc_ms=1000), 0.5)
    assert [type(event) for event in session.take_events()][-2:] == [Segment, Ended]
    assert session.provider_s == 1.0


# Vosk


def test_vosk_replies_are_matched_by_their_order() -> None:
    session = VoskSession(VoskSettings(reset=True), AudioFormat("linear16", 8000), SttOptions())
    session.connected(0.0)
    session.send_audio(bytes(16000), 0.0)
    session.finalize(0.0)
    session.finish(0.0)
    assert [m for m in session.messages_to_send() if isinstance(m, str)] == [
        '{"config": {"sample_rate": 8000, "words": true}}', '{"reset" : 1}', '{"eof" : 1}',
    ]  # fmt: skip
    session.take_events()
    session.receive_message('{"partial" : "hel"}', 0.1)
    session.receive_message('{"result":[{"word":"hello","start":0.1,"end":0.5,"conf":1}],"text":"hello"}', 0.2)
    session.receive_message('{"text" : ""}', 0.3)
    kinds = [type(event) for event in session.take_events()]
    assert kinds == [Partial, Segment, Flushed, Segment, Ended]


# Nonsense

KEYS = st.sampled_from(
    ["type", "start", "duration", "channel", "alternatives", "words", "word", "end", "is_final", "from_finalize",
     "transcript", "confidence", "tokens", "text", "start_ms", "end_ms", "error_code", "finished", "languages",
     "final_audio_proc_ms", "total_audio_proc_ms", "partial", "result", "conf"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=6),
    max_leaves=20,
)
SHAPED = st.dictionaries(KEYS, JSON, max_size=8).flatmap(
    lambda body: st.sampled_from(["Results", "Metadata", "Error"]).map(lambda kind: body | {"type": kind})
)
MESSAGES = st.lists(st.text() | st.binary() | JSON.map(json.dumps) | SHAPED.map(json.dumps), max_size=6)


@pytest.mark.parametrize("kind", ["deepgram", "soniox", "vosk"])
@given(messages=MESSAGES)
def test_whatever_is_received_nothing_is_raised(kind: str, messages: list[str | bytes]) -> None:
    provider = PROVIDERS[kind]
    settings = provider.settings_type()
    wire = provider.wire(settings, MULAW)
    session: SttSession = provider.make_session(settings, wire, SttOptions())
    session.connected(0.0)
    session.send_audio(bytes(wire.n_bytes(1.0)), 0.0)
    session.finalize(0.0)
    for n, message in enumerate(messages):
        session.receive_message(message, float(n))
        for event in session.take_events():
            for word in getattr(event, "words", ()):
                assert 0 <= word.start <= word.end
    session.connection_lost(1006, "", 10.0)
    assert session.deadline() is None
    session.receive_message('{"type":"Results"}', 11.0)
    session.take_events()
    assert session.take_events() == []


# What comes twice


def finals(session: SttSession) -> list[tuple[str, int]]:
    return [(event.text, len(event.words)) for event in session.take_events() if isinstance(event, Segment)]


def test_a_deepgram_final_that_comes_twice_is_heard_once() -> None:
    session = deepgram()
    first = results(0.0, 1.0, ("Hello", 0.1, 0.4), ("there.", 0.5, 0.9), is_final=True)
    for message in (first, first, results(1.0, 1.0, ("Bye.", 1.1, 1.4), is_final=True), first):
        session.receive_message(message, 1.0)
    assert finals(session) == [("Hello there.", 2), ("", 0), ("Bye.", 1), ("", 0)]


def test_a_deepgram_final_that_repeats_a_part_adds_only_what_is_new() -> None:
    session = deepgram()
    session.receive_message(results(0.0, 1.0, ("Hello", 0.1, 0.4), is_final=True), 1.0)
    session.receive_message(results(0.0, 1.5, ("Hello", 0.1, 0.4), ("there.", 1.0, 1.4), is_final=True), 1.5)
    assert finals(session) == [("Hello", 1), ("there.", 1)]


def test_what_is_really_said_twice_stays_twice() -> None:
    session = deepgram()
    session.receive_message(results(0.0, 1.0, ("no", 0.1, 0.4), ("no", 0.5, 0.9), is_final=True), 1.0)
    session.receive_message(results(1.0, 1.0, ("no", 1.1, 1.4), is_final=True), 2.0)
    assert finals(session) == [("no no", 2), ("no", 1)]


def test_a_soniox_token_that_comes_twice_is_heard_once_even_where_it_cuts_a_word() -> None:
    session = soniox()
    half = tokens((" Hel", 0, 200, True), ("lo", 200, 400, False))
    rest = tokens(("lo", 200, 400, True), ("<end>", 0, 0, True))
    for message in (half, half, rest, rest):
        session.receive_message(message, 1.0)
    assert finals(session) == [("Hello", 1)]


def test_the_dots_of_an_ellipsis_share_a_time_and_all_stay() -> None:
    session = soniox()
    session.receive_message(tokens((" Well", 0, 200, True), *[(".", 200, 200, True)] * 3, ("<end>", 0, 0, True)), 1.0)
    assert finals(session) == [("Well...", 1)]


def test_a_space_that_is_a_token_of_its_own_is_no_word() -> None:
    session = soniox()
    tokens = [(" ", 0, 0), ("one", 100, 300), (" ", 300, 300), ("two", 400, 600), (".", 600, 600), (" ", 600, 600)]
    told = [{"text": t, "start_ms": a, "end_ms": b, "confidence": 0.9, "is_final": True} for t, a, b in tokens]
    session.receive_message(json.dumps({"tokens": told}), 1.0)
    session.receive_message('{"tokens":[{"text":"<end>","is_final":true}]}', 1.1)
    partials = [event for event in session.take_events() if isinstance(event, (Partial, Segment))]
    for event in partials:
        assert [word.text for word in event.words] == ["one", "two."][: len(event.words)]
    assert partials[-1].text == "one two."


@pytest.mark.parametrize(("code", "cure"), [(400, Cure.RETRY), (403, Cure.RETRY), (402, Cure.ELSEWHERE)])
def test_a_soniox_session_that_has_worked_is_only_left_for_good_over_money_or_the_key(code: int, cure: Cure) -> None:
    session = soniox()
    session.receive_message('{"tokens":[],"final_audio_proc_ms":0,"total_audio_proc_ms":400}', 0.5)
    session.take_events()
    session.receive_message(json.dumps({"tokens": [], "error_code": code, "error_type": "x"}), 1.0)
    assert session.take_events() == [Failed(f"{code} x", cure)]
