from __future__ import annotations

import aiortc
import pytest
from aiortc.mediastreams import AudioStreamTrack
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import PeerError, SdpError
from bridge.ingress.webrtc_sdp import MAX_CANDIDATES, Offer, read_fragment, read_offer, with_address, without_names

CHROMIUM = """v=0
o=- 5228595038118931041 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
a=ice-options:trickle ice2
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y
a=fingerprint:sha-256 DA:7B:57:DC:28:CE:04:4F:31:79:85:C4:31:67:EB:27:58:29:ED:77:2A:0D:24:AE:ED:AD:30:BC:BD:F1:9C:02
a=setup:actpass
a=mid:0
a=sendonly
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=rtpmap:9 G722/8000
a=rtpmap:13 CN/8000
a=rtpmap:110 telephone-event/48000
""".replace("\n", "\r\n")

CANDIDATE = "a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1"
SECOND_TRACK = "m=audio 9 UDP/TLS/RTP/SAVPF 110\r\na=mid:1\r\n"
OFFER = Offer("0", "EsAw")


def test_a_browsers_offer_is_taken_and_its_ice_fragment_known() -> None:
    assert read_offer(CHROMIUM) == OFFER


async def test_an_offer_of_aiortc_itself_is_taken() -> None:
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    peer.addTrack(AudioStreamTrack())
    await peer.setLocalDescription(await peer.createOffer())
    assert read_offer(peer.localDescription.sdp).mid == "0"
    await peer.close()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("v=0", "x=0", PeerError),
        ("m=audio 9", "m=audio", PeerError),
        ("m=audio 9", "m=audio 0", SdpError),
        ("m=audio", "m=video", SdpError),
        ("a=sendonly", "a=recvonly", SdpError),
        ("a=sendonly", "a=inactive", SdpError),
        ("opus/48000/2", "speex/16000", SdpError),
        ("a=ice-ufrag:EsAw\r\n", "", SdpError),
        ("a=fingerprint", "a=footprint", SdpError),
        ("sha-256 DA:7B", "sha-256 ZZ:7B", PeerError),
        ("a=rtpmap:110", SECOND_TRACK + "a=rtpmap:110", SdpError),
    ],
)
def test_an_offer_that_cannot_be_answered_says_so(old: str, new: str, error: type[Exception]) -> None:
    assert old in CHROMIUM
    with pytest.raises(error):
        read_offer(CHROMIUM.replace(old, new))


@given(st.text(max_size=300))
def test_no_text_raises_anything_but_peer_error(text: str) -> None:
    with pytest.raises(PeerError):
        read_offer(text)


@given(st.integers(0, len(CHROMIUM)), st.integers(0, 40), st.text(max_size=20))
def test_no_damage_to_an_offer_raises_anything_but_peer_error(at: int, n: int, inserted: str) -> None:
    try:
        read_offer(CHROMIUM[:at] + inserted + CHROMIUM[at + n :])
    except PeerError:
        pass


def test_candidates_of_a_fragment_belong_to_the_offers_m_line() -> None:
    found = read_fragment(f"a=ice-ufrag:EsAw\r\nm=audio 9 x 0\r\na=mid:0\r\n{CANDIDATE}\r\na=end-of-candidates", OFFER)
    assert (found[0].ip, found[0].port, found[0].sdpMid) == ("192.0.2.1", 61764, "0")
    assert len(found) == 1, "what may still come is never cut off: the browser's own checks are candidates too"


def test_candidates_that_are_names_are_not_looked_up() -> None:
    hidden = CANDIDATE.replace("192.0.2.1", "4f1a.local")
    assert read_fragment(f"{hidden}\r\na=end-of-candidates", OFFER) == []
    offer = f"v=0\r\n{hidden}\r\n{CANDIDATE}\r\na=end-of-candidates\r\na=candidate:short\r\na=mid:0\r\n"
    assert without_names(offer) == f"v=0\r\n{CANDIDATE}\r\na=mid:0\r\n"
    assert without_names(f"{CANDIDATE}\r\n" * 500).count("candidate") == MAX_CANDIDATES


def test_another_ice_fragment_is_a_restart_and_refused() -> None:
    with pytest.raises(SdpError):
        read_fragment("a=ice-ufrag:other\r\na=ice-pwd:x", OFFER)


@pytest.mark.parametrize("text", ["", "hello", "a=candidate:1 1 udp", "a=candidate:a b c d e f g h",
                                  (CANDIDATE + "\r\n") * (MAX_CANDIDATES + 1)])  # fmt: skip
def test_what_is_no_fragment_is_a_peer_error(text: str) -> None:
    with pytest.raises(PeerError):
        read_fragment(text, OFFER)


@given(st.text(max_size=120))
def test_no_fragment_raises_anything_but_peer_error(text: str) -> None:
    for fragment in (text, f"a=candidate:{text}", f"{CANDIDATE}\n{text}"):
        try:
            read_fragment(fragment, OFFER)
        except PeerError:
            pass


def test_behind_a_nat_each_host_candidate_is_told_at_the_public_address_too() -> None:
    ours = "a=candidate:x 1 udp 2130706431 10.0.0.5 4000 typ host\r\na=candidate:y 1 udp 1 fd00::1 4001 typ host\r\n"
    answer = "v=0\r\n" + ours
    told = with_address(answer, "203.0.113.9")
    assert "203.0.113.9 4000 typ host" in told
    assert told.count("a=candidate") == 3
    assert with_address(answer, "") == answer
    assert with_address(answer, "media.example") == answer, "a name is for SDP's c= line; a candidate is an address"


def test_the_public_address_of_two_interfaces_on_one_port_is_told_once() -> None:
    hosts = "".join(f"a=candidate:{n} 1 udp 2130706431 10.0.0.{n} 4000 typ host\r\n" for n in (5, 6))
    assert with_address("v=0\r\n" + hosts, "203.0.113.9").count("203.0.113.9 4000 typ host") == 1
