"""What SBCs, PBXs and phones do that no standard asks for, against a running service: the words must stand all the
same, each in its place. All call at once, so that the whole takes as long as one."""

from __future__ import annotations

import base64
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.verdict import Event
from bridge.rtp.packet import Extension
from bridge.rtp.srtp import SrtpSender, fresh_keys
from tests.redis_server import RedisServer, is_installed

from .house import Running, provider, service
from .raw_sip import RawCall
from .scenarios import THANKS, TWO, leg, plain
from .stranger import Datagrams, Stranger, Voice, dressed

SPREAD = 0.020  # s, the contract
BEGINS = (-0.05, 0.45)  # s by which a stream's own time may be off call time: it begins 0.1 s after the answer
SAID = plain(TWO)
SECONDS = len(SAID.options.legs[0].samples) / 8000
BETWEEN = 3.8
"Between the two lines."
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]
Script = Callable[[Stranger], None]
SCRIPTS: dict[str, Script] = {}
RECORDED = "a recording of two legs that come and move"


def script(name: str) -> Callable[[Script], Script]:
    def keep(made: Script) -> Script:
        SCRIPTS[name] = made
        return made

    return keep


def g722(stated: int, counted: int) -> Script:
    def play(s: Stranger) -> None:
        s.offer("m=audio PORT RTP/AVP 96", f"a=rtpmap:96 G722/{stated}")
        s.play(s.voice.says(0, SECONDS, codec="G722", pt=96, clock_hz=counted))

    return play


for clocks in ((8000, 16000), (16000, 8000), (16000, 16000)):
    SCRIPTS["g722 stated as {} and counted by {}".format(*clocks)] = g722(*clocks)


@script("an offer of ours answered in the ack by another codec and port, old packets still coming")
def offerless(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 0")
    s.play(s.voice.says(0, BETWEEN))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
        new.bind(("127.0.0.1", 0))
        port = new.getsockname()[1]
        s.asked_for_offer(lambda answer: s.sdp(f"m=audio {port} RTP/AVP 8"))
        s.play(s.voice.says(BETWEEN, BETWEEN + 0.2))
        s.play(s.voice.says(BETWEEN + 0.2, SECONDS, codec="PCMA", pt=8), sock=new)


@script("a call without an offer that moves to another address by update")
def moved(s: Stranger) -> None:
    s.asked_for_offer(lambda answer: s.sdp("m=audio PORT RTP/AVP 0"))
    s.play(s.voice.says(0, BETWEEN))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
        new.bind(("127.0.0.2", 0))
        s.offer(method="UPDATE", body=s.sdp(f"m=audio {new.getsockname()[1]} RTP/AVP 0", address="127.0.0.2"))
        other = Voice(leg("caller", ((0.5, THANKS), (4.5, THANKS))).samples, 77)
        # the old source goes on with something else, which is nobody's words any more
        thread = threading.Thread(target=s.play, args=(other.says(BETWEEN + 0.3, SECONDS),))
        thread.start()
        s.play(s.voice.says(BETWEEN, SECONDS), sock=new)
        thread.join()


@script("padding, contributing sources and header extensions")
def decorated(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 0", "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level")
    said = s.voice.says(0, SECONDS)
    n = len(said) // 3
    s.play(
        dressed(said[:n], padding=b"\0\0\0\4")
        + dressed(said[n : 2 * n], csrc=(1, 2, 3), extension=Extension(0xBEDE, b"\x10\x55\0\0"))
        + dressed(said[2 * n :], extension=Extension(0x1000, bytes(8)), padding=b"\x01", csrc=(9,))
    )


@script("another packet time every second")
def repacked(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 0", "a=ptime:20", "a=maxptime:60")
    at = 0.0
    while at < SECONDS:
        for ptime in (0.02, 0.06, 0.01, 0.03):
            s.play(s.voice.says(at, at + 1.2, ptime=ptime))
            at += 1.2


@script("comfort noise of both types in a pause")
def noise(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 8 13", "a=rtpmap:13 CN/8000")
    s.play(s.voice.says(0, BETWEEN, codec="PCMA", pt=8))
    for n, pt in enumerate((13, 19, 13)):
        at = BETWEEN + n * 0.2
        s.play([(at + 0.02, s.voice.packet(b"\x46\x80", pt, round(at * 8000)))])
    s.play(s.voice.says(4.4, SECONDS, codec="PCMA", pt=8))


@script("comfort noise beside g722")
def wide_noise(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 9 13 98", "a=rtpmap:98 CN/16000")
    s.play(s.voice.says(0, BETWEEN, codec="G722", pt=9))
    s.play([(BETWEEN + 0.02, s.voice.packet(b"\x46", 98, round(BETWEEN * 8000)))])
    s.play(s.voice.says(4.4, SECONDS, codec="G722", pt=9))


@script("a hold behind which the timestamps are others")
def jumped(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 0")
    s.play(s.voice.says(0, 3.7))
    s.offer("m=audio PORT RTP/AVP 0", "a=inactive")
    s.wait_until(4.3)
    s.offer("m=audio PORT RTP/AVP 0", "a=sendrecv")
    s.voice.base = (s.voice.base + 1_234_567_890) & 0xFFFFFFFF
    s.play(s.voice.says(4.36, SECONDS))


@script("somebody else with the same ssrc")
def collided(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 0")
    other = Voice(leg("caller", ((0.2, THANKS), (4.0, THANKS))).samples, s.voice.ssrc)
    s.play(s.voice.says(0, 0.2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.3", 0))
        thread = threading.Thread(target=s.play, args=(other.says(0.2, 7.0),), kwargs={"sock": stranger})
        thread.start()
        s.play(s.voice.says(0.2, SECONDS))
        thread.join()


@script("another stream on the same port in a pause")
def accompanied(s: Stranger) -> None:
    """Announcements of the same gateway between the lines, then the voice again by the SSRC that it had."""
    s.offer("m=audio PORT RTP/AVP 0")
    quiet = Voice((s.voice.samples // 50).astype("int16"), 81)
    s.play(s.voice.says(0, 3.9))
    s.play(quiet.says(3.9, 4.3))
    s.play(s.voice.says(4.3, SECONDS))


@script("payload types that mean something else after each offer")
def remapped(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 97 101", "a=rtpmap:97 PCMU/8000", "a=rtpmap:101 telephone-event/8000")
    s.play(s.voice.says(0, 3.6, pt=97))
    s.play(s.voice.presses("1", 3.6, 0.1, pt=101))
    s.offer("m=audio PORT RTP/AVP 101 97", "a=rtpmap:101 PCMA/8000", "a=rtpmap:97 telephone-event/8000")
    s.play(s.voice.says(3.7, 3.9, codec="PCMA", pt=101))
    s.play(s.voice.presses("2", 3.9, 0.1, pt=97, ends=0))
    s.play(s.voice.says(4.0, SECONDS, codec="PCMA", pt=101))


@script("opus with key presses by each codec's clock")
def opus(s: Stranger) -> None:
    s.offer(
        "m=audio PORT RTP/AVP 111 0 110 101", "a=rtpmap:111 opus/48000/2", "a=rtpmap:110 telephone-event/48000",
        "a=rtpmap:101 telephone-event/8000",
    )  # fmt: skip
    s.play(s.voice.says(0, 3.8, codec="OPUS", pt=111))
    s.play(s.voice.presses("1", 3.8, 0.1, pt=110, clock_hz=48000))
    s.play(s.voice.says(3.9, 4.1, codec="OPUS", pt=111))
    s.play(s.voice.presses("2", 4.1, 0.1, pt=110, clock_hz=48000, ends=1))
    s.play(s.voice.says(4.2, 7.0, codec="OPUS", pt=111))
    s.voice.base -= round(7.0 * (8000 - 48000))  # to another clock the timestamps go on
    s.play(s.voice.says(7.0, SECONDS))
    s.play(s.voice.presses("3", SECONDS, 0.1, pt=101))


@script("keys in info")
def informed(s: Stranger) -> None:
    s.offer("m=audio PORT RTP/AVP 0")
    s.play(s.voice.says(0, 3.8))
    for digit in "12":
        s.call.send("INFO", body=f"Signal={digit}\r\nDuration=100\r\n", kind="application/dtmf-relay")
        assert s.call.final("INFO").status == 200
        s.call.cseq += 1
    s.play(s.voice.says(3.8, SECONDS))


@script("srtp under several keys, and new ones with a refresh")
def keyed(s: Stranger) -> None:
    one, two, three = (fresh_keys("AES_CM_128_HMAC_SHA1_80", random.Random(n).randbytes) for n in range(3))

    def text(key: bytes) -> str:
        return "inline:" + base64.b64encode(key).decode()

    both = f"{text(one.key_and_salt)}|2^20|1:4;{text(two.key_and_salt)}|2^20|2:4"
    lines = [f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 {both} KDR=3", f"a=crypto:2 AES_CM_128_HMAC_SHA1_80 {both}"]
    s.offer("m=audio PORT RTP/SAVP 0", *lines)
    senders = {b"\0\0\0\1": SrtpSender(one), b"\0\0\0\2": SrtpSender(two)}

    def sealed(packets: Datagrams, mki: bytes) -> Datagrams:
        secret = [(due, senders[mki].protect(data)) for due, data in packets]
        return [(due, data[:-10] + mki + data[-10:]) for due, data in secret]

    s.play(sealed(s.voice.says(0, 2.0), b"\0\0\0\1"))
    s.play(sealed(s.voice.says(2.0, BETWEEN), b"\0\0\0\2"))
    s.offer("m=audio PORT RTP/SAVP 0", f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 {text(three.key_and_salt)}")
    s.play(sealed(s.voice.says(BETWEEN, 6.0), b"\0\0\0\2"))  # on their way when the answer came
    last = SrtpSender(three)
    s.play([(due, last.protect(data)) for due, data in s.voice.says(6.0, SECONDS)])


@script("another m-line in mid-call")
def another_line(s: Stranger) -> None:
    s.offer("m=image 4002 udptl t38", "m=audio PORT RTP/AVP 0")
    s.play(s.voice.says(0, BETWEEN))
    s.offer("m=image 0 udptl t38", "m=audio 0 RTP/AVP 0", "m=audio PORT RTP/AVP 9")
    s.play(s.voice.says(BETWEEN, SECONDS, codec="G722", pt=9))


SRC = ("Require: siprec", "Contact: <sip:src@127.0.0.1>;+sip.src")
METADATA = """<recording xmlns="urn:ietf:params:xml:ns:recording:1">
<datamode>complete</datamode><session session_id="s"/>
<participant participant_id="a"><nameID aor="sip:ann@x"><name>Ann</name></nameID></participant>
<participant participant_id="b"><nameID aor="sip:bob@x"><name>Bob</name></nameID></participant>
<stream stream_id="t1" session_id="s"><label>1</label></stream>
<stream stream_id="t2" session_id="s"><label>2</label></stream>
<participantstreamassoc participant_id="a"><send>t1</send><recv>t2</recv></participantstreamassoc>
<participantstreamassoc participant_id="b"><send>t2</send><recv>t1</recv></participantstreamassoc>
<!--{}--></recording>"""


def with_metadata(sdp: str, metadata: str) -> dict[str, Any]:
    """Body and its type."""
    parts = (("application/sdp", sdp), ("application/rs-metadata+xml", metadata))
    text = "".join(f"--b\r\nContent-Type: {kind}\r\n\r\n{content}\r\n" for kind, content in parts)
    return {"body": text + "--b--\r\n", "kind": "multipart/mixed;boundary=b", "headers": SRC}


@script(RECORDED)
def recorded(s: Stranger) -> None:
    """One leg with 55 kB of metadata over UDP, the second later, an offer of ours, the second on another m-line."""
    first = ("m=audio PORT RTP/AVP 0", "a=label:1", "a=sendonly")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        second = (f"m=audio {port} RTP/AVP 8", "a=label:2", "a=sendonly")
        s.offer(**with_metadata(s.sdp(*first), METADATA.format("x" * 55_000)))
        s.play(s.voice.says(0, 0.3))
        answer = s.offer(*first, *second, headers=SRC)
        agent = Voice(s.voice.samples, 78)
        ports = [int(line.split()[1]) for line in answer.body.splitlines() if line.startswith("m=audio")]

        def both(start: float, end: float) -> None:
            streams = s.voice.says(start, end), agent.says(start, end, codec="PCMA", pt=8)
            s.play(*streams, to=[("127.0.0.1", port) for port in ports])

        both(0.3, 3.8)
        s.asked_for_offer(lambda answer: s.sdp(*first, *second))
        both(3.8, 4.0)
        gone = ("m=audio 0 RTP/AVP 8", "a=label:2")
        answer = s.offer(*first, *gone, *second, headers=SRC)
        told = [int(line.split()[1]) for line in answer.body.splitlines() if line.startswith("m=audio")]
        assert told == [ports[0], 0, ports[1]]
        both(4.0, SECONDS)


DIGITS = {
    "payload types that mean something else after each offer": ["1", "2"],
    "opus with key presses by each codec's clock": ["1", "2", "3"],
    "keys in info": ["1", "2"],
}


@dataclass
class Told:
    """What a call left."""

    events: list[Event]
    began: float
    "Call time at which its stream began, as far as the caller can know."

    def words(self, role: str = "caller") -> list[tuple[str, float, float]]:
        finals = [e for e in self.events if e.type == "transcript.final" and e.role == role]
        return [(str(w[0]).lower().strip(".,;:!?"), w[1], w[2]) for e in finals for w in e.data["words"]]


@dataclass
class Evening:
    told: dict[str, Told] = field(default_factory=dict)
    failures: dict[str, BaseException] = field(default_factory=dict)
    log: list[dict[str, object]] = field(default_factory=list)


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evening]:
    folder: Path = tmp_path_factory.mktemp("strangers")
    made = Evening()
    with (
        RedisServer() as redis,
        provider(folder) as stand_in,
        service(folder, redis, stand_in.url, sip={"dtmf_events": True}) as running,
    ):
        yield _spend(made, running)


def _spend(made: Evening, running: Running) -> Evening:
    began: dict[str, float] = {}

    def live(name: str, number: int) -> None:
        try:
            with RawCall(int(running.uri.rpartition(":")[2]), f"stranger{number}", f"s{number}") as call:
                stranger = Stranger(call, SAID.options.legs[0].samples)
                SCRIPTS[name](stranger)
                began[name] = stranger.began - stranger.answered_at
                stranger.wait_until(SECONDS + 0.3)
                assert call.bye().status == 200
        except BaseException as error:  # noqa: BLE001 - told by the test of that name
            made.failures[name] = error

    threads = [threading.Thread(target=live, args=(name, n)) for n, name in enumerate(SCRIPTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    by_id = running.collect(len(SCRIPTS) - len(made.failures))
    for n, name in enumerate(SCRIPTS):
        if name not in made.failures:
            made.told[name] = Told(by_id[f"stranger{n}"], began[name])
    made.log = running.log_lines()
    return made


@pytest.mark.parametrize(("name", "role"), [*((name, "caller") for name in SCRIPTS), (RECORDED, "agent")])
def test_every_word_stands_in_its_place_and_no_other(evening: Evening, name: str, role: str) -> None:
    if name in evening.failures:
        raise evening.failures[name]
    told, truth = evening.told[name], SAID.words()
    heard = told.words(role)
    assert [word for word, _, _ in heard] == [w.text.lower().strip(".,;:!?") for w in truth]
    off = [
        error - told.began
        for h, t in zip(heard, truth, strict=True)
        for error in (h[1] - t.start, h[2] - t.end)
    ]  # fmt: skip
    assert BEGINS[0] <= min(off)
    assert max(off) <= BEGINS[1]
    assert max(off) - min(off) <= SPREAD
    assert told.events[-1].data["reason"] == "hangup"


@pytest.mark.parametrize("name", DIGITS)
def test_every_key_is_told_once(evening: Evening, name: str) -> None:
    pressed = [e.data for e in evening.told[name].events if e.type == "dtmf"]
    assert [key["digit"] for key in pressed] == DIGITS[name]
    assert all(60 <= key["duration_ms"] <= 100 for key in pressed)


def test_who_speaks_is_known_from_the_first_document_on(evening: Evening) -> None:
    events = evening.told[RECORDED].events
    (caller,) = events[0].data["legs"]
    assert (caller["role"], caller["participant"]) == ("caller", "Ann")
    added = [(e.role, e.data["participant"]) for e in events if e.type == "leg.started"]
    assert ("agent", "Bob") in added
    assert set(events[-1].data["legs"]) == {"leg1", "leg2"}


def test_nothing_went_wrong_in_the_service_meanwhile(evening: Evening) -> None:
    assert [line for line in evening.log if line["level"] in ("warning", "error", "critical")] == []
