from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.caller import offer
from bridge.errors import SdpError
from bridge.sip import multipart, recording, sdp
from rtpcodecs import CODECS

NAMESPACE = {"r": offer.METADATA_NAMESPACE}


def lines_of(**changes: object) -> list[str]:
    arguments = {"ptime_ms": 20, "version": 1, **changes}
    media = [offer.Media(4000, "1", "sendonly"), offer.Media(4002, "2", "sendonly")]
    return offer.sdp("127.0.0.1", media, CODECS["PCMU"], **arguments).decode().split("\r\n")  # type: ignore[arg-type]


def test_each_leg_has_its_own_m_line_and_label() -> None:
    lines = lines_of()
    assert [line for line in lines if line.startswith("m=")] == [
        "m=audio 4000 RTP/AVP 0 13 101",
        "m=audio 4002 RTP/AVP 0 13 101",
    ]
    assert [line for line in lines if line.startswith("a=label")] == ["a=label:1", "a=label:2"]
    assert lines.count("a=sendonly") == 2


@pytest.mark.parametrize(
    ("hold", "direction", "connection"),
    [
        (None, "a=sendonly", "c=IN IP4 127.0.0.1"),
        ("inactive", "a=inactive", "c=IN IP4 127.0.0.1"),
        ("zero", "a=sendonly", "c=IN IP4 0.0.0.0"),
    ],
)
def test_a_hold_takes_the_form_that_was_asked_for(hold: str | None, direction: str, connection: str) -> None:
    lines = lines_of(hold=hold)
    assert lines.count(direction) == 2
    assert connection in lines


def test_opus_is_offered_with_two_channels_and_a_dynamic_number() -> None:
    text = offer.sdp("::1", [offer.Media(4000)], CODECS["OPUS"], ptime_ms=20, version=3).decode()
    assert "m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 OPUS/48000/2\r\n" in text
    assert "c=IN IP6 ::1" in text
    assert "o=callbridge 1 3 IN IP6 ::1" in text


def test_the_metadata_leads_from_label_to_participant() -> None:
    parties = [offer.Participant("caller", 'sip:"a"&b@x.invalid'), offer.Participant("agent", "sip:agent@x.invalid")]
    root = ElementTree.fromstring(offer.metadata("s<1>", parties, started="2026-11-21T09:00:00Z"))
    for label, aor in (("1", 'sip:"a"&b@x.invalid'), ("2", "sip:agent@x.invalid")):
        stream = next(s for s in root.findall("r:stream", NAMESPACE) if s.findtext("r:label", "", NAMESPACE) == label)
        assoc = next(
            a
            for a in root.findall("r:participantstreamassoc", NAMESPACE)
            if a.findtext("r:send", "", NAMESPACE) == stream.get("stream_id")
        )
        party = next(
            p
            for p in root.findall("r:participant", NAMESPACE)
            if p.get("participant_id") == assoc.get("participant_id")
        )
        name = party.find("r:nameID", NAMESPACE)
        assert name is not None
        assert name.get("aor") == aor
        assert stream.get("session_id") == "s<1>"


def test_an_answer_is_read_line_by_line() -> None:
    body = (
        b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\na=recvonly\r\n"
        b"m=audio 20000 RTP/AVP 0 13\r\nm=audio 0 RTP/AVP 0\r\nc=IN IP4 10.0.0.2/127\r\na=inactive\r\n"
    )
    assert offer.read_answer(body, 2) == (
        offer.AnsweredMedia("10.0.0.1", 20000, ("0", "13"), "recvonly"),
        offer.AnsweredMedia("10.0.0.2", 0, ("0",), "inactive"),
    )


@pytest.mark.parametrize(
    "body", [b"", b"m=audio 20000 RTP/AVP 0\r\n", b"c=IN IP4 1.2.3.4\r\nm=audio 70000 RTP/AVP 0\r\n"]
)
def test_an_answer_that_cannot_be_used_is_refused(body: bytes) -> None:
    with pytest.raises(SdpError):
        offer.read_answer(body, 1)


PIECES = st.lists(st.sampled_from(["m=audio ", "c=IN IP4 ", "a=", "1", "0 RTP/AVP 0", "\r\n", "²"]))


@given(st.one_of(st.binary(), PIECES.map(lambda pieces: "".join(pieces).encode())), st.integers(1, 3))
def test_no_answer_makes_it_raise_anything_else(body: bytes, n_media: int) -> None:
    try:
        answer = offer.read_answer(body, n_media)
    except SdpError:
        return
    assert len(answer) == n_media


def test_the_service_reads_from_an_offer_what_the_caller_meant() -> None:
    media = [offer.Media(4000, "1"), offer.Media(4002, "2")]
    parties = [offer.Participant("caller", "sip:a@x"), offer.Participant("agent", "sip:b@x")]
    text = offer.sdp("127.0.0.1", media, CODECS["G722"], ptime_ms=20, version=1)
    body = offer.siprec_body(text, offer.metadata("s1", parties, started="2026-11-21T09:00:00Z"))
    parts = multipart.split(body.content, body.content_type)
    assert [part.content_type for part in parts] == ["application/sdp", "application/rs-metadata+xml"]
    read = sdp.parse(parts[0].content).media
    assert [(m.label, m.remote, m.ptime_ms) for m in read] == [
        ("1", ("127.0.0.1", 4000), 20),
        ("2", ("127.0.0.1", 4002), 20),
    ]
    metadata = recording.Metadata()
    assert metadata.merge(parts[1].content)
    speakers = [metadata.speaker(m.label, n) for n, m in enumerate(read)]
    assert [speaker.aor for speaker in speakers if speaker] == ["sip:a@x", "sip:b@x"]
    assert not any(speaker.is_out for speaker in speakers if speaker)
