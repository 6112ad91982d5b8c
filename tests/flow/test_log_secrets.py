"""A log at level debug holds no name, number, word, password or key, whatever is said to the service and goes wrong."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.caller.call import place_calls
from tests.redis_server import RedisServer, is_installed
from tests.soak.stand_in import StandIn, stand_in

from .house import Running, service
from .scenarios import TWO, plain
from .test_operations import said, sip_port, until

NUMBER, CALLED, NAME = "4155551234", "+4930555000", "Erika"
SECRETS = (NUMBER, "4930555", NAME, "Mustermann", "s3same", "t0ken-xyz", "k3y-abc", "hashk3y", "weasels", "terribly")
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns={session}\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n{more}"
GOOD = {"session": "-", "host": "127.0.0.1", "port": "4000", "more": ""}
BODIES = [
    SDP.format(**GOOD | change)
    for change in (
        {"session": "Mustermann", "host": NUMBER}, {"port": NUMBER}, {"host": "Mustermann.example"},
        {"more": f"a=rtpmap:0 Erika/{NUMBER}\r\n"}, {"more": "a=crypto:1 Mustermann inline:k3y-abc\r\n"},
    )
] + [f"Erika Mustermann {NUMBER}"]  # fmt: skip
METADATA = f"<recording><participant><nameID aor='sip:{NUMBER}@h'><name>Erika Mustermann</nameID></recording>"
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


def say(running: Running, n: int, body: str, *more: str, first: str = "", kind: str = "application/sdp") -> None:
    """One INVITE, from Erika; nobody waits for what becomes of it."""
    lines = [
        first or f"INVITE sip:{CALLED}@127.0.0.1 SIP/2.0", "Max-Forwards: 70", "CSeq: 1 INVITE",
        f"Content-Type: {kind}", f"Via: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bKs{n}",
        f'From: "Erika Mustermann" <sip:{NUMBER}@h>;tag={n}',
        f"To: <sip:{CALLED}@h>", f"Call-ID: {NUMBER}-{n}@Mustermann", f"Contact: <sip:{NUMBER}@127.0.0.1:9>",
        *more, f"Content-Length: {len(body)}", "", body,
    ]  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto("\r\n".join(lines).encode(), ("127.0.0.1", sip_port(running)))


def misbehave_by_sip(running: Running) -> None:
    for n, body in enumerate(BODIES):
        say(running, n, body)
    parts = (("application/sdp", BODIES[3]), ("application/rs-metadata+xml", METADATA))
    mixed = "".join(f"--b\r\nContent-Type: {kind}\r\n\r\n{body}\r\n" for kind, body in parts) + "--b--\r\n"
    say(running, 20, mixed, "Require: siprec", kind="multipart/mixed;boundary=b")
    say(running, 21, NUMBER, kind="Erika/Mustermann")
    say(running, 22, BODIES[3], "Require: Erika", f"P-Asserted-Identity: <sip:{NUMBER}@h>")
    say(running, 23, BODIES[3], "Authorization: Digest username=Erika, response=k3y-abc")
    say(running, 24, "", first=f"Erika {NUMBER} SIP/2.0")


def misbehave_by_http(running: Running) -> None:
    for path, body in (
        ("/v1/calls", {"legs": [{"role": NAME, "codec": NUMBER}]}), ("/v1/calls", NAME), ("/whip", f"v=0 {NAME}"),
        ("/v1/calls", {"legs": [{"role": "caller"}], "from": NUMBER, "to": NAME}),
        (f"/v1/calls/{NUMBER}/legs/a/hold", ""),
        ("/v1/calls?token=t0ken-xyz", {"legs": [{"role": "caller", "remote": {"address": NAME, "port": 1}}]}),
    ):  # fmt: skip
        for token in ("t0ken-xyz", "t0ken-xyzz"):
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            request = urllib.request.Request(running.http + path, json.dumps(body).encode(), headers)
            try:
                urllib.request.urlopen(request, timeout=10).close()
            except urllib.error.HTTPError as error:
                error.close()


def reload_badly(running: Running) -> None:
    config = running.log.parent / "callbridge.toml"
    before = config.read_text()
    route = f'match = {{ to = "{NUMBER}(", from = ["{NAME}"] }}\nstt = {{ api_key = "k3y-abc", language = 3 }}\n'
    for n, broken in enumerate((f"[[route]]\n{route}", f'[privacy]\nhash_key = "hashk3y\n[{NAME}'), 1):
        config.write_text(f"{before}\n{broken}")
        running.process.send_signal(signal.SIGHUP)
        until(lambda n=n: len(said(running, "reload refused")) == n, "not told")
    config.write_text(before)


def call(running: Running, provider: StandIn) -> None:
    """One that is transcribed, and one whose provider refuses it."""
    options = replace(
        plain(TWO).options, target=running.uri.replace("flow@", f"{CALLED}@"),
        from_=f'"Erika Mustermann" <sip:{NUMBER}@callbridge.invalid>', headers=(("X-Customer", NAME),),
    )  # fmt: skip
    assert asyncio.run(place_calls(options))[0].ok
    provider.refuse(401)
    assert asyncio.run(place_calls(options))[0].ok


def test_no_secret_is_in_the_log_of_calls_that_go_well_and_of_everything_that_goes_wrong(tmp_path: Path) -> None:
    sections: dict[str, dict[str, object]] = {
        "http": {"tokens": ["t0ken-xyz"]}, "log": {"level": "debug"}, "sip": {"correlation_headers": ["X-Customer"]},
        "privacy": {"hash_key": "hashk3y"}, "stt.deepgram": {"api_key": "k3y-abc"},
    }  # fmt: skip
    with RedisServer() as redis, stand_in(tmp_path) as provider:
        with redis.client() as client:
            client.execute_command("ACL", "SETUSER", "writer", "on", ">s3same", "~*", "+@all")
        sections["redis"] = {"url": f"redis://writer:s3same@127.0.0.1:{redis.port}/0"}
        with service(tmp_path, redis, provider.url, **sections) as running:
            call(running, provider)
            misbehave_by_sip(running)
            misbehave_by_http(running)
            redis.restart()  # and the user is unknown now
            until(lambda: [line for line in said(running, "sink down") if "password" in line["reason"]], "let in")
            reload_badly(running)
            running.process.kill()
            running.process.wait()
        text = running.log.read_text()
    events = {line["event"] for line in running.log_lines()}
    assert {"call started", "stt opened", "stt lost", "call refused", "sink down", "reload refused", "gate"} <= events
    assert [secret for secret in SECRETS if secret.lower() in text.lower()] == []
    assert "Traceback" not in text
