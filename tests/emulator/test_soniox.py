from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator.matching import MatchingRecogniser, index_of
from bridge.emulator.options import EmulatorOptions, Fault
from bridge.emulator.recogniser import Recogniser
from bridge.emulator.recordings import load
from bridge.emulator.soniox import SonioxStream
from bridge.emulator.soniox_start import Offer, SonioxError, StartRequest
from bridge.emulator.wire import Abort, Close, Freeze, Output, SendText
from tests.emulator.speech import Samples, encode, line, silence

START = {"model": "stt-rt-v5", "audio_format": "mulaw", "sample_rate": 8000, "num_channels": 1}
HEADER: Offer = ("Bearer k", ())


def matching() -> Recogniser:
    return MatchingRecogniser(index_of(load()))


class Client:
    """A client of one stream, with a clock that moves when it says so."""

    def __init__(self, offer: Offer = HEADER, *, fault: str = "", is_full: bool = False, **options: Any) -> None:
        faults = (Fault.parse(fault),) if fault else ()
        settings = EmulatorOptions(provider="soniox", faults=faults, **options)
        self.now = 100.0
        self.stream = SonioxStream(
            matching, offer, request_id="r", options=settings, faults=settings.faults_of(1), now=self.now,
            is_full=is_full,
        )  # fmt: skip
        self.outputs: list[Output] = []

    def start(self, **fields: Any) -> Client:
        self.text(json.dumps({**START, **fields}))
        return self

    def text(self, text: str) -> None:
        self.stream.receive_text(text, self.now)
        self.outputs += self.stream.take_outputs(self.now)

    def speak(self, samples: Samples) -> None:
        data = encode(samples)
        for at in range(0, len(data), 800):
            self.wait(len(data[at : at + 800]) / 8000)
            self.stream.receive_audio(data[at : at + 800], self.now)
            self.outputs += self.stream.take_outputs(self.now)

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (deadline := self.stream.deadline()) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.stream.handle_timer(self.now)
            self.outputs += self.stream.take_outputs(self.now)
        self.now = until

    def messages(self) -> list[dict[str, Any]]:
        return [output.message for output in self.outputs if isinstance(output, SendText)]

    def finals(self) -> list[dict[str, Any]]:
        return [token for message in self.messages() for token in message["tokens"] if token["is_final"]]

    def final_text(self) -> str:
        return "".join(token["text"] for token in self.finals())

    @property
    def error(self) -> int | None:
        return next((message["error_code"] for message in self.messages() if "error_code" in message), None)

    @property
    def close(self) -> Output | None:
        return next((output for output in self.outputs if not isinstance(output, SendText)), None)


def test_each_word_is_final_once_and_where_it_was_spoken() -> None:
    samples, spoken = line(0.5, load()["agent-first-in-line"], 0.8, load()["caller-weasels"], 0.5)
    client = Client().start()
    client.speak(samples)
    client.text("")
    assert client.final_text() == (
        "Your call is now first in line and will be answered by the next available representative. "
        "Weasels have eaten our phone system."
    )
    words = [token for token in client.finals() if token["text"].startswith(" ") or token is client.finals()[0]]
    assert [token["start_ms"] for token in words] == [pytest.approx(word.start / 8, abs=1) for word in spoken]


def test_non_final_tokens_are_told_whole_each_time_behind_the_finals() -> None:
    client = Client().start()
    client.speak(line(0.2, load()["agent-first-in-line"])[0])
    for message in client.messages():
        flags = [token["is_final"] for token in message["tokens"]]
        assert flags == sorted(flags, reverse=True)
    shown, final = "", ""
    for message in client.messages():
        final += "".join(token["text"] for token in message["tokens"] if token["is_final"])
        shown = final + "".join(token["text"] for token in message["tokens"] if not token["is_final"])
    assert shown == "Your call is now first in line and will be answered by the next available representative."


def test_long_words_come_in_pieces_that_share_the_words_time() -> None:
    client = Client().start()
    client.speak(line(load()["agent-patience"])[0])
    client.text("")
    pieces = client.finals()[-2:]
    assert "".join(piece["text"] for piece in pieces) == " patience."
    assert pieces[0]["end_ms"] == pieces[1]["start_ms"]


def test_messages_come_at_the_cadence_while_audio_flows() -> None:
    client = Client().start()
    client.speak(silence(2.0))
    assert [message["total_audio_proc_ms"] for message in client.messages()] == list(range(200, 2001, 200))


def test_final_and_total_audio_never_go_back_and_total_is_the_audio_received() -> None:
    client = Client().start()
    client.speak(line(0.5, load()["agent-first-in-line"], 1.0)[0])
    client.text('{"type":"finalize"}')
    finals = [message["final_audio_proc_ms"] for message in client.messages()]
    totals = [message["total_audio_proc_ms"] for message in client.messages()]
    assert finals == sorted(finals)
    assert totals == sorted(totals)
    assert finals[-1] == totals[-1] == pytest.approx(client.stream.seconds * 1000, abs=1)
    assert all(final <= total for final, total in zip(finals, totals, strict=True))


def test_finalize_makes_all_final_and_ends_with_fin() -> None:
    client = Client().start()
    client.speak(line(load()["caller-thank-you"])[0])
    client.text('{"type":"finalize","trailing_silence_ms":300}')
    assert client.final_text() == "Thank you.<fin>"
    client.text('{"type":"finalize"}')
    assert client.final_text() == "Thank you.<fin><fin>"


def test_an_endpoint_ends_with_end_where_it_was_asked_for() -> None:
    samples, _ = line(load()["caller-thank-you"], 1.5)
    asked, not_asked = Client().start(enable_endpoint_detection=True), Client().start()
    asked.speak(samples)
    not_asked.speak(samples)
    assert asked.final_text() == "Thank you.<end>"
    assert "<end>" not in not_asked.final_text()


def test_the_empty_text_gives_the_last_finals_then_finished_then_1000() -> None:
    client = Client().start()
    client.speak(line(load()["caller-thank-you"])[0])
    client.text("")
    assert client.final_text() == "Thank you."
    last = client.messages()[-1]
    assert (last["tokens"], last["finished"]) == ([], True)
    assert client.outputs[-1] == Close(1000)


def test_an_empty_binary_frame_does_not_end_the_stream_unless_told_so() -> None:
    new, old = Client().start(), Client(empty_binary_ends=True).start()
    for client in (new, old):
        client.speak(silence(0.2))
        client.stream.receive_audio(b"", client.now)
        client.wait(0.0)
    assert new.close is None
    assert old.close == Close(1000)


def test_the_table_of_pause_and_resume_holds_for_soniox_too() -> None:
    samples, spoken = line(0.5, load()["caller-thank-you"], 0.5, load()["agent-patience"], 0.2)
    pause = spoken[1].end + 2000
    client = Client().start()
    client.speak(samples[:pause])
    for _ in range(4):
        client.wait(15.0)
        client.text('{"type":"keepalive"}')
    client.speak(samples[pause:])
    client.text("")
    starts = [token["start_ms"] for token in client.finals() if "patience"[:3] in token["text"]]
    assert starts == [pytest.approx(spoken[-1].start / 8, abs=1)]


def test_20_s_without_audio_or_control_is_a_request_timeout() -> None:
    client = Client().start()
    client.speak(silence(1.0))
    client.wait(19.99)
    assert client.close is None
    client.wait(0.02)
    assert (client.error, client.close) == (408, Close(1000))


def test_a_start_may_be_waited_for_with_keepalives_where_the_key_came_with_the_connection() -> None:
    client = Client()
    for _ in range(5):
        client.wait(39.0)
        client.text('{"type":"keepalive"}')
    assert client.start().outputs == []
    quiet = Client()
    quiet.wait(40.1)
    assert quiet.close == Close(1001)


def test_a_legacy_connection_must_start_within_10_s_and_bring_its_key() -> None:
    assert Client((None, ())).start(api_key="k").error is None
    assert Client((None, ())).start().error == 401
    slow = Client((None, ()))
    slow.wait(10.1)
    assert slow.error == 408


def test_an_auth_error_waits_for_the_start_or_a_second() -> None:
    started, idle = Client(keys=("other",)).start(), Client(keys=("other",))
    assert started.error == 401
    idle.wait(0.9)
    assert idle.outputs == []
    idle.wait(0.2)
    assert (idle.error, idle.close) == (401, Close(1000))


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        ((None, ("soniox-api-key", "k")), None),
        (("Bearer k", ("soniox-api-key", "k")), 400),
        (("Token k", ()), 400),
        ((None, ("soniox-api-key", "k", "x")), 400),
        ((None, ("soniox-api-key",)), 400),
    ],
)
def test_ways_to_send_a_key(offer: Offer, code: int | None) -> None:
    assert Client(offer).start().error == code


def test_the_key_in_the_start_must_be_that_of_the_connection() -> None:
    assert Client().start(api_key="k").error is None
    assert Client().start(api_key="other").error == 400


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": "nova-3"}, "The requested model is not available"),
        ({"model": None}, "Start request is malformed."),
        ({"audio_format": None}, "Missing audio format."),
        ({"audio_format": "avi"}, "Invalid audio data format: avi"),
        ({"sample_rate": None}, "Audio data sample rate must be specified for PCM formats"),
        ({"num_channels": None}, "Audio data channels must be specified for PCM formats"),
        ({"language_hints": ["en", "en"]}, "Language hints must be unique."),
        ({"language_hints": ["english"]}, "Invalid language hint."),
        ({"endpoint_sensitivity": -2}, "Field endpoint_sensitivity cannot be less than -1."),
        ({"client_reference_id": "x" * 257}, "`client_reference_id` is 257 characters"),
        ({"model": "stt-rt-v4", "endpoint_sensitivity": 0.5}, "Model does not support endpoint_sensitivity."),
    ],
)
def test_a_wrong_start_is_refused_in_the_services_words(fields: dict[str, Any], text: str) -> None:
    client = Client().start(**fields)
    (message,) = client.messages()
    assert message["error_code"] == 400
    assert message["error_message"].startswith(text)
    assert message["tokens"] == []
    assert client.close == Close(1000)


def test_explicit_nulls_are_absent_and_optional_token_fields_come_when_asked_for() -> None:
    plain = Client().start(context=None, language_hints=None, translation=None)
    rich = Client().start(enable_speaker_diarization=True, enable_language_identification=True)
    for client in (plain, rich):
        client.speak(line(load()["caller-thank-you"])[0])
        client.text("")
    assert set(plain.finals()[0]) == {"text", "start_ms", "end_ms", "confidence", "is_final"}
    assert (rich.finals()[0]["speaker"], rich.finals()[0]["language"]) == ("1", "en")


def test_audio_before_the_start_and_wrong_controls_are_errors() -> None:
    early = Client()
    early.stream.receive_audio(b"x", early.now)
    early.wait(0.0)
    assert early.error == 400
    wrong = Client().start()
    wrong.text('{"type":"Finalize"}')
    assert wrong.messages()[-1]["error_message"].startswith("Control request type is invalid.")


def test_a_text_frame_may_carry_audio_in_base64() -> None:
    client = Client().start()
    client.text(base64.b64encode(encode(silence(0.5))).decode())
    assert client.stream.seconds == 0.5
    client.text("%%%")
    assert client.error == 400


def test_an_end_without_audio_is_an_error() -> None:
    client = Client().start()
    client.text("")
    assert client.messages()[-1]["error_message"] == "No audio received."


def test_headerless_audio_with_format_auto_times_out() -> None:
    client = Client().start(audio_format="auto", sample_rate=None, num_channels=None)
    for _ in range(11):
        client.stream.receive_audio(bytes(100), client.now)
        client.wait(2.0)
    assert client.messages()[-1]["error_message"] == "Audio data decode timeout"


def test_a_stream_ends_at_its_longest_duration() -> None:
    client = Client(max_stream_s=60.0).start()
    for _ in range(7):
        client.wait(9.0)
        client.text('{"type":"keepalive"}')
    assert client.error == 413


def test_concurrency_and_scripted_refusals_are_told_at_the_start() -> None:
    assert Client(is_full=True).start().error == 429
    assert Client(fault="refuse=402").start().error == 402


@pytest.mark.parametrize(("fault", "close"), [("drop=1", Abort()), ("half_open=1", Freeze())])
def test_a_scripted_loss_comes_after_its_seconds_of_audio(fault: str, close: Output) -> None:
    client = Client(fault=fault).start()
    client.speak(silence(1.0))
    assert client.close == close


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        ("drop_at_finalize", ['{"type":"keepalive"}', '{"type":"finalize"}']),
        ("drop_at_close", ['{"type":"finalize"}', ""]),
        ("drop_at_keepalive=2", ['{"type":"keepalive"}', '{"type":"keepalive"}']),
    ],
)
def test_a_scripted_loss_may_come_with_a_message_and_leaves_it_unanswered(fault: str, texts: list[str]) -> None:
    client = Client(fault=fault).start()
    client.speak(silence(0.5))
    client.text(texts[0])
    before = len(client.outputs)
    assert client.close is None
    client.text(texts[1])
    assert client.outputs[before:] == [Abort()]


def test_an_end_can_stay_unanswered() -> None:
    client = Client(fault="no_close").start()
    client.speak(silence(0.1))
    client.text("")
    client.wait(100.0)
    assert client.outputs == []


def test_503_in_mid_stream_says_what_the_service_says() -> None:
    client = Client(fault="error=503:1").start()
    client.speak(silence(1.0))
    error = client.messages()[-1]
    assert (error["error_code"], error["error_type"], error["request_id"]) == (503, "service_unavailable", "r")
    assert error["more_info"].endswith("#service-unavailable")


def test_an_empty_first_message_can_be_scripted() -> None:
    assert Client(fault="initial_empty").start().messages() == [{"tokens": []}]


def test_a_finalize_before_any_decodable_audio_is_owed_its_mark() -> None:
    client = Client().start(audio_format="auto")
    client.text('{"type":"finalize"}')
    assert client.final_text() == "<fin>"


def test_the_older_error_form_has_three_fields() -> None:
    client = Client(fault="old_errors").start(model="x")
    assert set(client.messages()[0]) == {"tokens", "error_code", "error_message"}


def test_late_finals_hold_back_the_end() -> None:
    client = Client(fault="late=2").start()
    client.speak(line(load()["caller-thank-you"])[0])
    client.text("")
    client.wait(1.9)
    assert client.finals() == []
    client.wait(0.2)
    assert client.final_text() == "Thank you."
    assert client.close == Close(1000)


def test_a_finalize_can_stay_unanswered() -> None:
    client = Client(fault="no_finalize").start()
    client.speak(line(load()["caller-thank-you"])[0])
    client.text('{"type":"finalize"}')
    assert client.final_text() == "Thank you."


VALUES = st.none() | st.booleans() | st.integers(-5, 5000) | st.text(max_size=6) | st.lists(st.integers(), max_size=2)
FIELDS = ("model", "audio_format", "sample_rate", "num_channels", "language_hints", "client_reference_id", "api_key",
          "max_endpoint_delay_ms", "endpoint_sensitivity", "endpoint_latency_adjustment_level")  # fmt: skip


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_no_start_request_raises_anything_but_its_refusal(fields: dict[str, Any]) -> None:
    code = 0
    try:
        StartRequest.parse(json.dumps({**START, **fields}))
    except SonioxError as error:
        code = error.code
    assert code in (0, 400)


KNOWN = st.sampled_from(['{"type":"finalize"}', '{"type":[]}', "{", "[]", "AAAA"])


@given(st.lists(st.text(max_size=30) | KNOWN, max_size=4))
def test_no_text_of_a_client_raises(texts: list[str]) -> None:
    for client in (Client(), Client().start()):
        for text in texts:
            client.text(text)
