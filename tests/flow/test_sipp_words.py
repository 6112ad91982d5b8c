"""A call that SIPp places and speaks: somebody else's SIP and RTP, from INVITE to words in Redis."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from bridge.emulator import recordings
from rtpcodecs.g711 import linear_to_ulaw
from tests.flow.house import provider, service
from tests.redis_server import RedisServer

SIPP = shutil.which("sipp")
LINES = (("caller-weasels", 1.0), ("caller-not-answering", 6.0))
SECONDS = 9.0
HEADERS = """Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:sipp@[local_ip]:[local_port]>;tag=[pid]t[call_number]
To: <sip:bridge@[remote_ip]:[remote_port]>{tag}
Call-ID: [call_id]
CSeq: {cseq}
Contact: <sip:sipp@[local_ip]:[local_port];transport=[transport]>
Max-Forwards: 70
"""
SCENARIO = """<?xml version="1.0" encoding="UTF-8"?>
<scenario name="words">
<send retrans="500"><![CDATA[
INVITE sip:bridge@[remote_ip]:[remote_port] SIP/2.0
{invite}Content-Type: application/sdp
Content-Length: [len]

v=0
o=sipp 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000

]]></send>
<recv response="100" optional="true"/>
<recv response="200" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
{ack}Content-Length: 0

]]></send>
<nop><action><exec rtp_stream="{audio},1,0"/></action></nop>
<pause milliseconds="{ms}"/>
<send retrans="500"><![CDATA[
BYE [next_url] SIP/2.0
{bye}Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>
"""


@pytest.mark.skipif(SIPP is None, reason="sipp is not installed (Debian: sip-tester)")
def test_words_that_sipp_speaks_stand_in_redis_interims_first_and_in_call_time(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    truth = write_audio(tmp_path / "words.ulaw")
    tag = "[peer_tag_param]"
    text = SCENARIO.format(
        invite=HEADERS.format(tag="", cseq="1 INVITE"),
        ack=HEADERS.format(tag=tag, cseq="1 ACK"),
        bye=HEADERS.format(tag=tag, cseq="2 BYE"),
        audio=tmp_path / "words.ulaw",
        ms=round(SECONDS * 1000) + 300,
    )
    (tmp_path / "words.xml").write_text(text)
    with provider(tmp_path) as stand_in, service(tmp_path, redis_server, stand_in.url) as running:
        port = running.uri.rpartition(":")[2]
        assert SIPP is not None
        command = [SIPP, f"127.0.0.1:{port}", "-sf", str(tmp_path / "words.xml"), "-m", "1", "-i", "127.0.0.1"]
        command += ["-mi", "127.0.0.1", "-nostdin", "-timeout", "30s", "-timeout_error"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode("utf-8", "replace")[-800:]
        (events,) = running.collect(1).values()
    words = [word for event in events if event.type == "transcript.final" for word in event.data["words"]]
    assert len(words) == len(truth)
    errors = [word[1] - start for word, start in zip(words, truth, strict=True)]
    # SIPp sends a packet's 20 ms before they are over, and begins a moment after its ACK; from then on every word must
    # keep its place
    assert -0.025 <= min(errors) < 0.5
    assert max(errors) - min(errors) <= 0.02
    types = [event.type for event in events]
    assert types.index("transcript.interim") < types.index("transcript.final")
    assert types[-1] == "call.ended"
    assert events[-1].data["reason"] == "hangup"


def write_audio(path: Path) -> list[float]:
    """Two lines with silence between them, as raw mu-law; answers where each word begins."""
    library = recordings.load()
    samples, truth = np.zeros(round(SECONDS * 8000), np.int16), []
    for name, at in LINES:
        line = library[name]
        samples[round(at * 8000) :][: len(line.samples)] = line.samples
        truth += [at + word.start for word in line.words]
    path.write_bytes(linear_to_ulaw(samples).tobytes())
    return truth
