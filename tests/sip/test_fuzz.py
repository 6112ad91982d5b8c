"""Nothing that can be sent gets out of the SIP floor as an exception, and nothing takes long."""

from __future__ import annotations

import gc
import itertools
import sys
import time
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.errors import SdpError
from bridge.sip import multipart, recording, sdp, syntax
from bridge.sip.answer import LocalDescription, choose
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Flow
from bridge.sip.framing import BrokenStreamError, StreamFramer
from bridge.sip.message import BadMessage, parse
from tests.sip.network import SDP, tokens

UDP = Flow("udp", ("192.0.2.9", 5060), ("192.0.2.8", 5060))
TCP = UDP._replace(transport="tcp")
INVITE = (
    b"INVITE sip:bob@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.8:5060;branch=z9hG4bK1;rport\r\n"
    b'From: "A \\" b" <sip:alice@192.0.2.8;x=y>;tag=1\r\nTo: <sip:bob@192.0.2.9>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n'
    b"Contact: <sip:alice@192.0.2.8>\r\nMax-Forwards: 70\r\nSupported: timer, 100rel\r\nSession-Expires: 1800\r\n"
    b"Content-Type: application/sdp\r\nContent-Length: 87\r\n\r\n" + SDP
)
METADATA = (
    b'<recording xmlns="urn:ietf:params:xml:ns:recording:1"><datamode>complete</datamode><session session_id="c"/>'
    b'<participant participant_id="p"><nameID aor="sip:a@b"><name>A</name></nameID></participant>'
    b'<stream stream_id="s" session_id="c"><label>1</label></stream>'
    b'<participantstreamassoc participant_id="p"><send>s</send></participantstreamassoc></recording>'
)
RESPONSE_HEADERS = {
    name.encode()
    for name in (
        "Via", "From", "To", "Call-ID", "CSeq", "Server", "Content-Length", "Content-Type", "Contact", "Allow",
        "Accept", "Accept-Encoding", "Accept-Language", "Allow-Events", "Supported", "Unsupported", "Record-Route",
        "Retry-After", "Min-SE", "Session-Expires", "Require",
    )
}  # fmt: skip
LIMIT = 0.010  # s of processor time for one message
SLACK = 5  # a loaded machine's share; the worst cases below are measured without it


@pytest.fixture(autouse=True)
def _no_garbage_collection() -> Iterator[None]:
    """A full collection of the test run's own heap takes longer than all that is measured here."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def mutations(seed: bytes) -> st.SearchStrategy[bytes]:
    """Pieces of `seed` repeated, dropped, swapped and mixed with rubbish."""
    cuts = st.lists(st.integers(0, len(seed)), min_size=2, max_size=8)
    junk = st.sampled_from(
        [b"", b"\r\n", b"\n", b'"', b"<", b">", b";", b",", b"\0", b"\xff\xfe", b" ", b":", b"=" * 50]
    )

    def mix(points: list[int], between: list[bytes]) -> bytes:
        pieces = [seed[min(a, b) : max(a, b)] for a, b in itertools.pairwise(points)]
        return b"".join(piece + filler for piece, filler in zip(pieces, between * len(pieces), strict=False))

    return st.one_of(st.binary(max_size=400), st.builds(mix, cuts, st.lists(junk, min_size=1, max_size=4)))


def spent(start: float) -> float:
    return time.process_time() - start


@settings(max_examples=400, deadline=None)
@given(data=mutations(INVITE), is_stream=st.booleans())
def test_any_message_is_answered_or_dropped(data: bytes, is_stream: bool) -> None:
    endpoint = Endpoint(Identity(), make_token=tokens("t"))
    start = time.process_time()
    endpoint.receive(data, TCP if is_stream else UDP, 1.0)
    assert spent(start) < LIMIT * SLACK
    for message in endpoint.take_outgoing():
        start_line, *lines = message.data.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert start_line.startswith(b"SIP/2.0 ")
        for line in lines:  # nothing of theirs has become a header of its own
            assert line.partition(b": ")[0] in RESPONSE_HEADERS
            assert b"\r" not in line
            assert b"\n" not in line


@settings(max_examples=200, deadline=None)
@given(data=st.lists(mutations(INVITE), min_size=2, max_size=6), step=st.floats(0, 40))
def test_any_sequence_of_messages_leaves_the_endpoint_alive(data: list[bytes], step: float) -> None:
    endpoint = Endpoint(Identity(session_expires=1800), make_token=tokens("t"))
    now = 0.0
    for message in [INVITE, *data]:
        endpoint.receive(message, UDP, now)
        for event in endpoint.take_events():
            endpoint.accept(event.dialog, None, now)
        now += step
        endpoint.handle_timer(now)
        endpoint.take_outgoing()
    endpoint.handle_timer(now + 10_000)
    endpoint.handle_timer(now + 20_000)
    endpoint.handle_timer(now + 30_000)
    assert endpoint.n_dialogs == 0
    assert endpoint.n_transactions == 0


@settings(max_examples=300, deadline=None)
@given(data=mutations(SDP + b"a=rtpmap:96 opus/48000/2\r\na=fmtp:96 x=y\r\na=label:1\r\na=crypto:1 X inline:Y\r\n"))
def test_any_description_is_taken_or_refused_and_its_answer_parses(data: bytes) -> None:
    start = time.process_time()
    try:
        offer = sdp.parse(data)
    except SdpError:
        assert spent(start) < LIMIT * SLACK
        return
    chosen = [choose(media, lambda item: True) for media in offer.media]
    answer = sdp.parse(LocalDescription(1).answer(offer, [None] * len(offer.media), "192.0.2.9"))
    assert spent(start) < LIMIT * SLACK
    assert len(answer.media) == len(offer.media) == len(chosen)


@settings(max_examples=300, deadline=None)
@given(
    data=mutations(b"--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b\r\nC: d\r\n\r\nx\r\n--b--\r\n"),
    kind=st.text(max_size=40),
)
@example(data=b"--b\r\n" * 10_000, kind="multipart/mixed;boundary=b")
def test_any_body_is_split(data: bytes, kind: str) -> None:
    start = time.process_time()
    for content_type in (kind, "multipart/mixed;boundary=b", "multipart/mixed"):
        assert len(multipart.split(data, content_type)) <= multipart.MAX_PARTS
    assert spent(start) < LIMIT * SLACK


@settings(max_examples=300, deadline=None)
@given(data=mutations(METADATA))
def test_any_metadata_is_merged_or_ignored(data: bytes) -> None:
    start = time.process_time()
    metadata = recording.Metadata()
    metadata.merge(METADATA)
    metadata.merge(data)
    metadata.speaker("1", 0)
    assert spent(start) < LIMIT * SLACK


def test_entities_and_doctypes_are_refused() -> None:
    bomb = b'<!DOCTYPE r [<!ENTITY a "xxxxxxxxxx"><!ENTITY b "&a;&a;&a;&a;">]><recording>&b;</recording>'
    assert not recording.Metadata().merge(bomb)
    assert not recording.Metadata().merge(b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><recording/>')


@settings(max_examples=200, deadline=None)
@given(
    messages=st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=10),
)
def test_a_stream_cut_anywhere_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    whole = [b"M sip:x SIP/2.0\r\nl: %d\r\n\r\n%s" % (len(body), body) for body in messages]
    stream, framer, found = b"".join(whole), StreamFramer(), []
    while stream:
        size = cuts[len(found) % len(cuts)]
        found += framer.feed(stream[:size])
        stream = stream[size:]
    assert found == whole
    assert framer.n_pending_bytes == 0


@settings(max_examples=200, deadline=None)
@given(data=st.lists(mutations(INVITE), max_size=5))
def test_any_stream_is_framed_or_broken(data: list[bytes]) -> None:
    framer = StreamFramer()
    try:
        for piece in data:
            framer.feed(piece)
    except BrokenStreamError:
        return
    assert framer.n_pending_bytes <= sum(map(len, data))


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=200))
def test_cutting_values_never_raises(text: str) -> None:
    syntax.parse_name_addr(text)
    syntax.is_balanced(text)
    assert "".join(syntax.split_outside(text, ",")).count(",") <= text.count(",")
    for cut in (syntax.parse_via, syntax.host_port):
        try:
            cut(text)
        except ValueError:
            pass


def worst_cases() -> dict[str, bytes]:
    """Shapes that are known to break parsers, as large as a datagram can be."""
    head = INVITE.split(b"\r\n\r\n", 1)[0].replace(b"\r\nContent-Length: 87", b"")
    fill = 30_000
    return {
        "many quotes": head.replace(b'"A \\" b"', b'"' * fill),
        "many brackets": head.replace(b'"A \\" b"', b"<" * fill),
        "many parameters": head + b";a=b" * (fill // 4),
        "many commas": head + b"\r\nContact: " + b"<sip:a@b>," * (fill // 10),
        "many vias": head.replace(b"Via: ", b"Via: " + b"SIP/2.0/UDP a;branch=z9hG4bK1, " * (fill // 31)),
        "digest of death": head + b'\r\nAuthorization: Digest a="' + b'x",a="' * (fill // 6),
        "long host": head.replace(b"sip:bob@192.0.2.9 ", b"sip:" + b"a-" * (fill // 2) + b" "),
        "long ipv6": head.replace(b"sip:bob@192.0.2.9 ", b"sip:[" + b"1:" * (fill // 2) + b"] "),
        "many headers": head + b"\r\nX: y" * 230,
        "folded": head + b"\r\n y" * 250,
    }


def test_the_worst_known_shapes_stay_below_ten_milliseconds() -> None:
    for name, head in worst_cases().items():
        best = 1.0
        for _ in range(3):
            endpoint = Endpoint(Identity(), make_token=tokens("t"))
            start = time.process_time()
            endpoint.receive(head + b"\r\nl: 0\r\n\r\n", UDP, 1.0)
            best = min(best, spent(start))
        assert best < (LIMIT * SLACK if "coverage" in sys.modules else LIMIT), name  # coverage slows what it watches


def test_a_refused_message_can_still_be_answered() -> None:
    with pytest.raises(BadMessage) as caught:
        parse(INVITE.replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE"))
    assert caught.value.status == 400
    assert caught.value.request is not None
