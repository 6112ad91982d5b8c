from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator.deepgram import NET0000, NET0001, DeepgramStream, parse_client_message
from bridge.emulator.deepgram_query import DeepgramQuery
from bridge.emulator.matching import MatchingRecogniser, index_of
from bridge.emulator.options import EmulatorOptions, Fault
from bridge.emulator.recogniser import Recogniser, ScriptedRecogniser
from bridge.emulator.recordings import load
from bridge.emulator.wire import Abort, Close, Freeze, Output, SendText
from tests.emulator.speech import Samples, encode, line, silence

RAW = "model=nova-3&encoding=mulaw&sample_rate=8000"
INTERIMS = f"{RAW}&interim_results=true"


def matching() -> Recogniser:
    return MatchingRecogniser(index_of(load()))


class Client:
    """A client of one stream, with a clock that moves when it says so."""

    def __init__(self, query: str = INTERIMS, *, ear: Any = matching, fault: str = "", **options: Any) -> None:
        faults = (Fault.parse(fault),) if fault else ()
        settings = EmulatorOptions(faults=faults, **options)
        self.now = 100.0
        self.stream = DeepgramStream(
            DeepgramQuery.parse(query), ear, request_id="r", created="2026-08-25T21:11:31.685Z",
            options=settings, faults=settings.faults_of(1), now=self.now,
        )  # fmt: skip
        self.outputs: list[Output] = []

    def speak(self, samples: Samples, *, frame: float = 0.1) -> None:
        """At real time, as mu-law."""
        data, size = encode(samples), round(frame * 8000)
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            self.wait(len(piece) / 8000)
            self.stream.receive_audio(piece, self.now)
            self.outputs += self.stream.take_outputs(self.now)

    def tell(self, **message: Any) -> None:
        self.stream.receive_text(json.dumps(message), self.now)
        self.outputs += self.stream.take_outputs(self.now)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (deadline := self.stream.deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.stream.handle_timer(self.now)
            self.outputs += self.stream.take_outputs(self.now)
        self.now = until

    def messages(self, kind: str = "Results") -> list[dict[str, Any]]:
        return [o.message for o in self.outputs if isinstance(o, SendText) and o.message["type"] == kind]

    def finals(self) -> list[dict[str, Any]]:
        return [message for message in self.messages() if message["is_final"]]

    def words(self) -> list[tuple[str, float]]:
        return [(w["word"], w["start"]) for m in self.finals() for w in m["channel"]["alternatives"][0]["words"]]

    @property
    def close(self) -> Output | None:
        return next((output for output in self.outputs if not isinstance(output, SendText)), None)


def test_nothing_is_said_before_audio_was_processed() -> None:
    client = Client()
    client.wait(5.0)
    client.tell(type="KeepAlive")
    assert client.outputs == []


def test_words_come_once_in_finals_that_follow_each_other_without_a_gap() -> None:
    samples, spoken = line(0.5, load()["agent-first-in-line"], 0.8, load()["caller-weasels"], 0.7)
    client = Client()
    client.speak(samples)
    client.tell(type="CloseStream")
    assert client.words() == [(word.text, pytest.approx(word.start / 8000, abs=1e-4)) for word in spoken]
    edges = [(m["start"], m["start"] + m["duration"]) for m in client.finals()]
    assert all(a[1] == pytest.approx(b[0], abs=1e-4) for a, b in pairwise(edges))
    assert edges[-1][1] == pytest.approx(len(samples) / 8000, abs=1e-4)


def test_an_interim_restates_its_segment_every_second_of_audio_even_if_it_is_empty() -> None:
    client = Client(f"{INTERIMS}&endpointing=false")
    client.speak(silence(3.5))
    interims = client.messages()
    assert [(m["start"], m["duration"]) for m in interims] == [(0.0, 1.0), (0.0, 2.0), (0.0, 3.0)]
    assert interims[0]["channel"]["alternatives"] == [{"transcript": "", "confidence": 0.0, "words": []}]
    assert not any(m["is_final"] or m["speech_final"] or m["from_finalize"] for m in interims)


def test_without_interim_results_only_finals_come() -> None:
    client = Client(RAW)
    client.speak(line(load()["agent-first-in-line"], 1.0)[0])
    assert client.messages()
    assert all(m["is_final"] for m in client.messages())


def test_a_pause_ends_the_turn_and_length_only_the_segment() -> None:
    client = Client(f"{INTERIMS}&endpointing=300")
    client.speak(line(load()["agent-first-in-line"], 1.0)[0])
    assert [(m["speech_final"], bool(m["channel"]["alternatives"][0]["words"])) for m in client.finals()[:2]] == [
        (False, True),
        (True, True),
    ]


def test_a_segment_is_never_cut_inside_a_word() -> None:
    first, weasels = load()["agent-first-in-line"], load()["caller-weasels"]
    client = Client(f"{INTERIMS}&endpointing=false")
    client.speak(line(first.samples[:38000], weasels.samples[800:], first, weasels, 0.5)[0])
    client.tell(type="CloseStream")
    for m in client.finals():
        for word in m["channel"]["alternatives"][0]["words"]:
            assert word["end"] <= m["start"] + m["duration"] + 1e-3
            assert word["start"] >= m["start"] - 1e-3


def test_punctuated_words_only_where_they_were_asked_for() -> None:
    samples, _ = line(load()["caller-weasels"], 0.5)
    plain, formatted = Client(), Client(f"{INTERIMS}&smart_format=true")
    for client in (plain, formatted):
        client.speak(samples)
        client.tell(type="CloseStream")
    assert plain.finals()[0]["channel"]["alternatives"][0]["transcript"] == "weasels have eaten our phone system"
    assert formatted.finals()[0]["channel"]["alternatives"][0]["transcript"] == "Weasels have eaten our phone system."
    assert "punctuated_word" not in plain.finals()[0]["channel"]["alternatives"][0]["words"][0]


def test_finalize_flushes_and_says_so() -> None:
    client = Client()
    client.speak(line(load()["caller-thank-you"])[0])
    client.tell(type="Finalize")
    last = client.finals()[-1]
    assert (last["from_finalize"], last["speech_final"]) == (True, True)
    assert [word for word, _ in client.words()] == ["thank", "you"]


@pytest.mark.parametrize(("mode", "answers"), [("always", 2), ("buffered", 1), ("never", 0)])
def test_whether_finalize_is_answered_can_be_chosen(mode: str, answers: int) -> None:
    client = Client(finalize=mode)
    client.speak(silence(0.5))
    client.tell(type="Finalize")
    client.tell(type="Finalize")  # nothing is buffered now
    assert sum(m["from_finalize"] for m in client.finals()) == answers


def test_the_unanswered_finalize_makes_the_words_final_all_the_same() -> None:
    client = Client(fault="no_finalize")
    client.speak(line(load()["caller-thank-you"])[0])
    client.tell(type="Finalize")
    assert [word for word, _ in client.words()] == ["thank", "you"]
    assert not any(m["from_finalize"] for m in client.finals())


def test_the_table_of_the_audio_keep_alive_page() -> None:
    """Audio 10 s, 20 s of KeepAlive, audio again: five seconds later the results cover 10 to 15 s."""
    client = Client(ear=ScriptedRecogniser)
    client.speak(silence(10.0))
    for _ in range(5):
        client.wait(4.0)
        client.tell(type="KeepAlive")
    client.speak(silence(5.0))
    client.tell(type="Finalize")
    assert client.close is None
    assert client.stream.seconds == pytest.approx(15.0)
    assert client.finals()[-1]["start"] + client.finals()[-1]["duration"] == pytest.approx(15.0, abs=1e-3)


def test_close_stream_gives_the_last_words_then_metadata_then_1000() -> None:
    samples, spoken = line(load()["caller-thank-you"])
    client = Client()
    client.speak(samples)
    client.tell(type="CloseStream")
    assert [word for word, _ in client.words()] == [word.text for word in spoken]
    assert client.outputs[-1] == Close(1000, "")
    metadata = client.messages("Metadata")[0]
    assert metadata == client.outputs[-2].message  # type: ignore[union-attr]
    assert metadata["sha256"] == hashlib.sha256(encode(samples)).hexdigest()
    assert (metadata["channels"], metadata["duration"]) == (1, pytest.approx(len(samples) / 8000, abs=1e-4))
    assert metadata["models"] == ["40bd3654-e622-47c4-a111-63a61b23bfe8"]


def test_close_stream_before_any_audio_is_answered_as_on_the_close_stream_page() -> None:
    client = Client()
    client.tell(type="CloseStream")
    assert client.messages("Metadata") == [
        {
            "type": "Metadata", "transaction_key": "deprecated", "request_id": "r",
            "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "created": "2026-08-25T21:11:31.685Z", "duration": 0.0, "channels": 0,
        }
    ]  # fmt: skip
    assert client.close == Close(1000)


def test_an_empty_binary_frame_ends_the_stream_too() -> None:
    client = Client()
    client.speak(silence(0.5))
    client.stream.receive_audio(b"", client.now)
    client.wait(0.0)
    assert client.close == Close(1000)


def test_after_the_end_nothing_is_answered() -> None:
    client = Client()
    client.tell(type="CloseStream")
    said = len(client.outputs)
    client.speak(silence(2.0))
    client.tell(type="Finalize")
    client.wait(100.0)
    assert len(client.outputs) == said


@pytest.mark.parametrize(("strict", "window"), [(False, 12.0), (True, 10.0)])
def test_silence_of_the_client_ends_in_net_0001_behind_metadata(strict: bool, window: float) -> None:
    client = Client(strict=strict)
    client.speak(silence(2.0))
    client.wait(window - 0.001)
    assert client.close is None
    client.wait(0.002)
    assert client.messages("Metadata")[0]["sha256"] == "incomplete"
    assert client.close is None
    client.wait(0.025)
    assert client.close == Close(1011, NET0001)


def test_keepalive_holds_a_stream_that_has_answered_for_hours() -> None:
    client = Client()
    client.speak(silence(2.0))
    for _ in range(2 * 3600 // 8):
        client.wait(8.0)
        client.tell(type="KeepAlive")
    assert client.close is None
    assert client.stream.seconds == pytest.approx(2.0)


def test_a_keepalive_sent_as_binary_is_audio() -> None:
    client = Client()
    client.stream.receive_audio(b'{"type":"KeepAlive"}', client.now)
    assert client.stream.seconds == 20 / 8000


def test_keepalive_alone_dies_of_net_0000_after_30_s() -> None:
    client = Client()
    for _ in range(7):
        client.wait(4.0)
        client.tell(type="KeepAlive")
    assert client.close is None
    client.wait(2.1)
    assert client.close == Close(1011, NET0000)


def test_a_strict_stream_wants_its_first_audio_within_10_s() -> None:
    client = Client(strict=True)
    for _ in range(2):
        client.wait(4.0)
        client.tell(type="KeepAlive")
    client.wait(2.1)
    assert client.close == Close(1011, NET0001)


def test_text_it_cannot_read_is_answered_with_a_schema_error_and_does_not_count_as_life() -> None:
    client = Client()
    client.speak(silence(2.0))
    client.wait(6.0)
    client.stream.receive_text('{"type":"Finalise"}', client.now)
    client.wait(5.9)
    assert client.close is None
    error = client.messages("Error")[0]
    assert (error["variant"], error["message"]) == ("SchemaError", '{"type":"Finalise"}')
    assert error["description"].startswith("Could not deserialize last text message: unknown variant `Finalise`")
    client.wait(0.2)
    assert client.close == Close(1011, NET0001)


def test_configure_is_answered_once_in_the_new_form() -> None:
    client = Client()
    client.tell(type="Configure", keyterms=["Acme"])
    client.tell(type="Configure", features={"numerals": True})
    assert client.messages("ConfigureSuccess") == [
        {"type": "ConfigureSuccess", "request_id": "r", "keyterms": ["Acme"]},
        {"type": "ConfigureSuccess", "request_id": "r"},
    ]
    client.tell(type="Configure", keyterm=["Acme"])
    assert "unknown field `keyterm`" in client.messages("Error")[0]["description"]


def test_configure_with_keyterms_fails_on_an_older_model_in_either_form() -> None:
    query = "model=nova-2&encoding=mulaw&sample_rate=8000"
    new, old = Client(query), Client(query, configure_replies=False)
    for client in (new, old):
        client.tell(type="Configure", keyterms=["Acme"])
    assert new.messages("ConfigureFailure")[0]["code"] == "CONFIGURE_KEYTERMS_NOT_SUPPORTED"
    assert old.messages("Error")[0]["code"] == "KeytermsNotSupported"
    old.tell(type="Configure", features={})
    assert len(old.outputs) == 1


def test_each_channel_of_a_multichannel_stream_is_heard_and_finalised_on_its_own() -> None:
    left, right = load()["caller-thank-you"].samples, load()["agent-patience"].samples
    stereo = np.zeros((len(right), 2), np.int16)
    stereo[: len(left), 0], stereo[:, 1] = left, right
    client = Client(f"{INTERIMS}&channels=2&multichannel=true")
    for at in range(0, len(stereo), 800):
        client.stream.receive_audio(encode(stereo[at : at + 800].reshape(-1)), client.now)
    client.tell(type="Finalize", channel=1)
    answered = [m for m in client.finals() if m["from_finalize"]]
    assert [m["channel_index"] for m in answered] == [[1, 2]]
    assert [w["word"] for w in answered[0]["channel"]["alternatives"][0]["words"]][:2] == ["thank", "you"]
    client.tell(type="CloseStream")
    first = [m for m in client.finals() if m["channel_index"] == [0, 2]]
    assert [w["word"] for m in first for w in m["channel"]["alternatives"][0]["words"]] == ["thank", "you"]
    assert client.messages("Metadata")[0]["channels"] == 2
    assert client.stream.seconds == pytest.approx(len(right) / 8000)


def test_speech_started_and_utterance_end_come_when_they_were_asked_for() -> None:
    client = Client(f"{INTERIMS}&vad_events=true&utterance_end_ms=1000&endpointing=300")
    client.speak(line(1.0, load()["caller-thank-you"], 2.0)[0])
    (started,) = client.messages("SpeechStarted")
    assert started["channel"] == [0, 1]
    assert 1.0 <= started["timestamp"] <= 1.15
    (ended,) = client.messages("UtteranceEnd")
    assert ended == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": pytest.approx(1.952)}


def test_numbers_look_like_float32() -> None:
    client = Client(ear=lambda: ScriptedRecogniser(every=0.1, length=0.1))
    client.speak(silence(1.0))
    starts = [word["start"] for word in client.messages()[0]["channel"]["alternatives"][0]["words"]]
    assert all(float(np.float32(start)) == pytest.approx(start, abs=1e-7) for start in starts)
    assert all(str(np.float32(start)) == str(start) for start in starts)


def test_a_container_is_read_by_its_header_and_a_broken_one_ends_without_an_error() -> None:
    wav = b"RIFF\0\0\0\0WAVEfmt " + bytes([16, 0, 0, 0, 7, 0, 1, 0]) + (8000).to_bytes(4, "little") * 2
    wav += bytes([1, 0, 8, 0]) + b"data\0\0\0\0"
    good, bad = Client("model=nova-3"), Client("model=nova-3")
    good.stream.receive_audio(wav + encode(silence(1.0)), good.now)
    assert good.stream.seconds == 1.0
    bad.stream.receive_audio(bytes(100), bad.now)
    bad.wait(0.0)
    assert (bad.messages("Metadata")[0]["channels"], bad.close) == (0, Close(1000))


@pytest.mark.parametrize(
    ("fault", "close"),
    [
        ("drop=1", Abort()),
        ("half_open=1", Freeze()),
        ("net0000=1", Close(1011, NET0000)),
        ("error=1008:1", Close(1008, "DATA-0000")),
    ],
)
def test_a_scripted_end_comes_after_its_seconds_of_audio(fault: str, close: Output) -> None:
    client = Client(fault=fault)
    client.speak(silence(0.9))
    assert client.close is None
    client.speak(silence(0.1))
    assert client.close == close


@pytest.mark.parametrize(
    ("fault", "messages"),
    [
        ("drop_at_finalize", ["KeepAlive", "Finalize"]),
        ("drop_at_close", ["Finalize", "CloseStream"]),
        ("drop_at_keepalive=3", ["Finalize", "KeepAlive", "KeepAlive", "KeepAlive"]),
    ],
)
def test_a_scripted_loss_may_come_with_a_message_and_leaves_it_unanswered(fault: str, messages: list[str]) -> None:
    client = Client(fault=fault)
    client.speak(silence(0.5))
    for message in messages[:-1]:
        client.tell(type=message)
    before = len(client.outputs)
    assert client.close is None
    client.tell(type=messages[-1])
    assert client.outputs[before:] == [Abort()]


def test_a_close_can_stay_unanswered() -> None:
    client = Client(fault="no_close")
    client.speak(silence(0.5))
    client.tell(type="CloseStream")
    client.wait(100.0)
    assert client.outputs == []


def test_late_finals_are_late_and_the_end_waits_for_them() -> None:
    client = Client(fault="late=2")
    client.speak(line(load()["caller-thank-you"])[0])
    client.tell(type="CloseStream")
    client.wait(1.9)
    assert client.finals() == []
    client.wait(0.2)
    assert [word for word, _ in client.words()] == ["thank", "you"]
    assert client.close == Close(1000)


def test_a_message_of_an_unknown_type_can_be_scripted() -> None:
    client = Client(fault="unknown_message")
    client.speak(silence(3.0))
    assert len(client.messages("FutureMessage")) == 1


def test_broken_audio_can_be_scripted_for_any_encoding() -> None:
    client = Client(fault="undecodable")
    client.speak(silence(0.1))
    assert (client.messages("Metadata")[0]["channels"], client.close) == (0, Close(1000))


def test_utterance_ends_can_be_scripted_to_mislead() -> None:
    samples, _ = line(load()["caller-thank-you"], 2.0, load()["agent-patience"])
    query = f"{INTERIMS}&utterance_end_ms=1000&endpointing=300"
    minus_one, late = Client(query, fault="utterance_end_minus_one"), Client(query, fault="late_utterance_end")
    for client in (minus_one, late):
        client.speak(samples)
        client.tell(type="CloseStream")
    assert [m["last_word_end"] for m in minus_one.messages("UtteranceEnd")] == [-1]
    ends = [m["last_word_end"] for m in late.messages("UtteranceEnd")]
    assert len(ends) > 1
    assert ends.count(ends[0]) > 1


def test_a_stream_of_several_languages_names_them() -> None:
    client = Client(f"{INTERIMS}&language=multi&language_hint=en&diarize=true&extra=a:b")
    client.speak(line(load()["caller-thank-you"])[0])
    client.tell(type="CloseStream")
    result = client.finals()[-1]
    alternative = result["channel"]["alternatives"][0]
    assert (alternative["languages"], alternative["languages_hinted"]) == (["en"], ["en"])
    assert (alternative["words"][0]["language"], alternative["words"][0]["speaker"]) == ("en", 0)
    assert (result["metadata"]["extra"], result["metadata"]["diarize_info"]["arch"]) == ({"a": "b"}, "v1")


def test_too_many_keyterms_are_refused() -> None:
    client = Client()
    client.tell(type="Configure", keyterms=["one two three"] * 200)
    assert client.messages("ConfigureFailure")[0]["code"] == "CONFIGURE_KEYTERM_LIMIT_EXCEEDED"


@given(st.text(max_size=60) | st.recursive(st.none() | st.text(max_size=5), st.lists).map(json.dumps))
def test_no_text_of_a_client_raises(text: str) -> None:
    message, problem = parse_client_message(text)
    assert (message == {}) == (problem is not None)


@given(st.fixed_dictionaries({"type": st.sampled_from(["Finalize", "Configure", "KeepAlive"])}, optional={
    "channel": st.none() | st.integers(-3, 3) | st.booleans() | st.text(max_size=3),
    "keyterms": st.none() | st.lists(st.text(max_size=3), max_size=3) | st.integers(),
}))  # fmt: skip
def test_no_field_of_a_message_raises(message: dict[str, Any]) -> None:
    client = Client()
    client.speak(silence(0.3))
    client.tell(**message)
    assert client.close is None
