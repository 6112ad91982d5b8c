"""Session descriptions as peers really send them, and what we answer."""

from __future__ import annotations

import pytest

from bridge.errors import SdpError
from bridge.sip import sdp
from bridge.sip.answer import LocalDescription, LocalStream, answer_direction, choose
from bridge.sip.sdp import Format


def described(*lines: str, session: tuple[str, ...] = ()) -> sdp.Description:
    head = ["v=0", "o=- 5 9 IN IP4 192.0.2.1", "s=-", *session, "t=0 0"]
    return sdp.parse("\r\n".join([*head, *lines, ""]).encode())


def test_static_payload_types_need_no_rtpmap() -> None:
    media = described("m=audio 4000 RTP/AVP 0 8 9 18 3 13 19 96").media[0]
    assert [(item.name, item.clock_hz) for item in media.audio_formats()] == [
        ("PCMU", 8000), ("PCMA", 8000), ("G722", 8000), ("G729", 8000), ("GSM", 8000), ("CN", 8000), ("CN", 8000),
        ("", 0),
    ]  # fmt: skip


def test_a_dynamic_format_has_its_rtpmap_channels_and_fmtp() -> None:
    media = described("m=audio 4000 RTP/AVP 111", "a=rtpmap:111 opus/48000/2", "a=fmtp:111 usedtx=1;x=y").media[0]
    assert media.audio_formats() == [Format(111, "OPUS", 48000, 2, "usedtx=1;x=y")]


def test_an_rtpmap_outranks_the_static_meaning() -> None:
    media = described("m=audio 4000 RTP/AVP 3", "a=rtpmap:3 PCMU/8000").media[0]
    assert media.audio_formats()[0].name == "PCMU"


def test_connection_and_direction_fall_back_to_session_level() -> None:
    offer = described(
        "m=audio 4000 RTP/AVP 0",
        "m=audio 4002 RTP/AVP 0",
        "c=IN IP6 2001:db8::1",
        "a=sendrecv",
        session=("c=IN IP4 192.0.2.7/127", "a=inactive"),
    )
    assert [(media.remote, media.direction) for media in offer.media] == [
        (("192.0.2.7", 4000), "inactive"),
        (("2001:db8::1", 4002), "sendrecv"),
    ]


@pytest.mark.parametrize("connection", ["c=IN IP4 pbx.example.com", "c=IN IP4", "c=X"])
def test_an_address_that_is_none_is_unknown_and_not_a_hold(connection: str) -> None:
    media = described("m=audio 4000 RTP/AVP 0", connection).media[0]
    assert media.remote is None
    assert not media.is_null_address


@pytest.mark.parametrize("address", ["IP4 0.0.0.0", "IP6 ::"])
def test_the_null_address_is_seen(address: str) -> None:
    assert described("m=audio 4000 RTP/AVP 0", f"c=IN {address}").media[0].is_null_address


def test_fax_video_dtls_and_port_ranges_are_kept_but_are_not_audio() -> None:
    lines = (
        "m=image 4000 udptl t38",
        "m=video 4002/2 RTP/AVP 31",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=audio 4004 RTP/AVP 0",
    )
    offer = described(*lines)
    assert [media.is_audio for media in offer.media] == [False, False, False, True]
    answer = LocalDescription(1).answer(offer, [None, None, None, stream()], "192.0.2.9").decode()
    assert [line for line in answer.split("\r\n") if line.startswith("m=")] == [
        "m=image 0 udptl t38", "m=video 0 RTP/AVP 31", "m=audio 0 UDP/TLS/RTP/SAVPF 111", "m=audio 7000 RTP/AVP 0",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "content", [b"", b"v=1\r\n", b"hello", b"v=0\r\nm=audio\r\n", b"v=0\r\nm=audio 70000 RTP/AVP 0\r\n"]
)
def test_what_is_no_description_is_refused(content: bytes) -> None:
    with pytest.raises(SdpError):
        sdp.parse(content)


def test_bare_line_feeds_and_unknown_lines_are_taken() -> None:
    offer = sdp.parse(b"v=0\no=- 1 1 IN IP4 192.0.2.1\nz=rubbish\nnonsense\nm=audio 4000 RTP/AVP 0\nb=AS:64\nk=x\n")
    assert offer.media[0].port == 4000


@pytest.mark.parametrize(
    ("offered", "wanted", "answered"),
    [
        ("sendrecv", "sendrecv", "sendrecv"),
        ("sendrecv", "recvonly", "recvonly"),
        ("sendonly", "sendrecv", "recvonly"),
        ("recvonly", "sendrecv", "sendonly"),
        ("recvonly", "recvonly", "inactive"),
        ("inactive", "sendrecv", "inactive"),
        ("sendonly", "recvonly", "recvonly"),
    ],
)
def test_the_answered_direction_is_what_the_offer_allows(offered: str, wanted: str, answered: str) -> None:
    assert answer_direction(offered, wanted) == answered


def test_dtmf_of_each_audios_clock_is_chosen() -> None:
    lines = ("a=rtpmap:111 opus/48000/2", "a=rtpmap:101 telephone-event/8000", "a=rtpmap:110 telephone-event/48000")
    media = described("m=audio 4000 RTP/AVP 111 0 101 110 13", *lines).media[0]
    choice = choose(media, lambda item: item.name in ("OPUS", "PCMU"))
    assert choice is not None
    assert choice.telephone_event == Format(110, "TELEPHONE-EVENT", 48000)
    assert [item.payload_type for item in choice.formats] == [111, 0, 110, 101, 13]
    only = choose(media, lambda item: item.name == "PCMU")
    assert only is not None
    assert [item.payload_type for item in only.formats] == [0, 101, 13]
    other = described("m=audio 4000 RTP/AVP 0 110", lines[2]).media[0]
    choice = choose(other, lambda item: item.name == "PCMU")
    assert choice is not None
    assert [item.payload_type for item in choice.formats] == [0, 110]  # better one of a foreign clock than none
    timeless = described("m=audio 4000 RTP/AVP 0 101", "a=rtpmap:101 telephone-event/0").media[0]
    choice = choose(timeless, lambda item: item.name == "PCMU")
    assert choice is not None
    assert [item.payload_type for item in choice.formats] == [0]


def test_without_audio_nothing_is_chosen() -> None:
    media = described("m=audio 4000 RTP/AVP 101 13", "a=rtpmap:101 telephone-event/8000").media[0]
    assert choose(media, lambda item: True) is None


def stream(direction: str = "recvonly") -> LocalStream:
    return LocalStream("192.0.2.9", 7000, (Format(0, "PCMU", 8000),), direction)


def test_the_version_goes_up_only_when_something_changes() -> None:
    local, offer = LocalDescription(77), described("m=audio 4000 RTP/AVP 0")
    first = local.answer(offer, [stream()], "192.0.2.9")
    assert local.answer(offer, [stream()], "192.0.2.9") == first
    changed = local.answer(offer, [stream("inactive")], "192.0.2.9")
    assert b"o=callbridge 77 1 IN IP4 192.0.2.9\r\n" in first
    assert b"o=callbridge 77 2 IN IP4 192.0.2.9\r\n" in changed


def test_an_answer_is_read_back_as_it_was_meant() -> None:
    formats = (
        Format(111, "OPUS", 48000, 2),
        Format(18, "G729", 8000, 1, "annexb=no"),
        Format(101, "TELEPHONE-EVENT", 8000),
    )
    local = LocalStream("2001:db8::9", 7000, formats, "recvonly", "RTP/SAVP", "a_leg", "1 X inline:Y", True, 20)
    media = sdp.parse(LocalDescription(1).offer([local], "2001:db8::9")).media[0]
    assert (media.remote, media.direction, media.label) == (("2001:db8::9", 7000), "recvonly", "a_leg")
    assert (media.crypto, media.rtcp_mux, media.ptime_ms) == (["1 X inline:Y"], True, 20)
    assert [(item.name, item.fmtp) for item in media.audio_formats()] == [
        ("OPUS", "useinbandfec=1;usedtx=1"), ("G729", "annexb=no"), ("TELEPHONE-EVENT", "0-16"),
    ]  # fmt: skip
