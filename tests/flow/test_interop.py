"""Phones by others speak through `callbridge serve` to words in Redis: baresip and pjsua2, every codec and transport
that they and we share. Each says one line, goes on speaking while muted, says another, speaks into a hold, says a last
one and hangs up. All of them call at once, so that the whole takes as long as one.
"""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.demo.verdict import TICK
from tests.net.test_sip_transports import make_certificate
from tests.redis_server import RedisServer, is_installed
from tests.wire import baresip, pjsua

from . import interop
from .house import Running, free_udp_port, provider, service
from .interop import MUTE, Phoned

STAGGER = 0.23  # s between two calls
SPREAD = 0.020  # s, the contract: between any two of a call's words
PAUSE = 0.5  # s between words after which a phone with voice detection has stopped sending
ONSET = 0.1
"s of a word's onset that voice detection in the phone can swallow or leave a gap in: what was never sent has no place."
BEGINS = (-0.045, 0.4)
"""s by which a phone's file can begin after call time 0: a phone that has decoded two packets ahead, a busy machine."""
DETECTED = (1.4, 2.4)  # s after which a mute that nobody signals is known: `gate.mute_after_ms`, after the codec's DTX
SIGNALLED = 0.15  # s: one re-INVITE on a busy machine
pytestmark = [pytest.mark.skipif(not is_installed(), reason="redis-server is not installed"), pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Baresip:
    codec: str
    account: str = ""


@dataclass(frozen=True)
class Pjsua:
    codec: str
    vad: bool
    transport: str = "udp"
    srtp: bool = False


PHONES: dict[str, Baresip | Pjsua] = {
    "baresip-pcmu": Baresip("PCMU/8000/1"),
    "baresip-g722": Baresip("G722/16000/1"),
    "baresip-opus": Baresip("opus/48000/2"),
    "baresip-sdes": Baresip("PCMU/8000/1", ";mediaenc=srtp-mand"),
    "pjsua-vad": Pjsua("PCMU", vad=True),
    "pjsua-tcp": Pjsua("PCMA", vad=False, transport="tcp"),
    "pjsua-tls-srtp": Pjsua("PCMU", vad=True, transport="tls", srtp=True),
    "pjsua-g722-srtp": Pjsua("G722", vad=False, srtp=True),
}


def missing(name: str) -> str:
    """Why a phone cannot call; empty: it can."""
    if isinstance(PHONES[name], Baresip):
        ready = baresip.BARESIP is not None and baresip.MODULES is not None
        return "" if ready else "baresip and its modules are not installed (Debian: baresip-core)"
    return "" if pjsua.PYTHON else "PJSUA names no environment that has pjsua2-python (`make tests` makes one)"


class Exchange:
    """All phones, having called once."""

    def __init__(self, running: Running, folder: Path, ports: dict[str, int]) -> None:
        self._running, self._folder, self._ports = running, folder, ports
        self._did: dict[str, dict[str, float]] = {}
        self._told: dict[str, list[dict[str, Any]]] = {}
        able = [name for name in PHONES if not missing(name)]
        asyncio.run(self._play(able))
        running.collect(len(able))
        self.phoned: dict[str, Phoned] = {}
        for events in running.events.values():
            name = user_of(events[0].data["from"])
            self.phoned[name] = Phoned(events, self._did[name], self._told.get(name, []))
        self.log = running.log_lines()

    async def _play(self, names: list[str]) -> None:
        async with asyncio.TaskGroup() as group:
            for name in names:
                phone, folder = PHONES[name], self._folder / name
                folder.mkdir()
                if isinstance(phone, Baresip):
                    group.create_task(self._baresip(name, phone, folder))
                else:
                    group.create_task(self._pjsua(name, phone, folder))
                await asyncio.sleep(STAGGER)

    async def _baresip(self, name: str, phone: Baresip, folder: Path) -> None:
        samples = interop.speech(int(phone.codec.split("/")[1]))
        async with baresip.running(folder, phone.codec, account=phone.account, user=name, samples=samples) as control:
            control.command("dial", f"sip:flow@127.0.0.1:{self._ports['udp']}")
            zero = await self._zero(name)
            self._did[name] = {}
            for at, what in interop.SCRIPT:
                await asyncio.sleep(zero + at - time.monotonic())
                self._did[name][what] = time.monotonic() - zero
                control.command("mute" if what == "unmute" else what)  # it toggles
            await asyncio.sleep(0.5)  # its BYE

    async def _pjsua(self, name: str, phone: Pjsua, folder: Path) -> None:
        wav, rate_hz = folder / "says.wav", 16000 if phone.codec == "G722" else 8000
        baresip.write_wav(wav, interop.speech(rate_hz), rate_hz, 1)
        transport = phone.transport
        job = {
            "target": f"sip:flow@127.0.0.1:{self._ports[transport]};transport={transport}",
            "caller": f"sip:{name}@127.0.0.1", "wav": str(wav), "rate_hz": rate_hz, "codec": phone.codec,
            "vad": phone.vad, "transport": transport, "srtp": phone.srtp, "script": interop.SCRIPT,
        }  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            pjsua.PYTHON, pjsua.__file__, json.dumps(job), stdout=asyncio.subprocess.PIPE
        )
        try:
            zero = await self._zero(name)
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        told = [json.loads(line) for line in output.decode("utf-8", "replace").splitlines() if line.startswith("{")]
        self._told[name] = told
        self._did[name] = {line["what"]: line["at"] - zero for line in told}

    async def _zero(self, name: str) -> float:
        """Monotonic time of the call's time 0, as the service tells it."""
        async with asyncio.timeout(20):
            while True:
                before = time.monotonic()
                for call in await asyncio.to_thread(self._calls):
                    if user_of(call["from"]) == name and call["call_s"] is not None:
                        return (before + time.monotonic()) / 2 - float(call["call_s"])
                await asyncio.sleep(0.02)

    def _calls(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self._running.http}/v1/calls", timeout=10) as response:
            return list(json.loads(response.read())["calls"])


def user_of(uri: str) -> str:
    return uri.partition(":")[2].partition("@")[0]


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    folder = tmp_path_factory.mktemp("interop")
    pem, key = make_certificate(folder)
    plain, secure = free_udp_port(), free_udp_port()
    listen = [f"udp:127.0.0.1:{plain}", f"tcp:127.0.0.1:{plain}", f"tls:127.0.0.1:{secure}"]
    sip: dict[str, object] = {"listen": listen, "certificate": pem, "private_key": key}
    with RedisServer() as redis, provider(folder) as stand_in, service(folder, redis, stand_in.url, sip=sip) as running:
        yield Exchange(running, folder, {"udp": plain, "tcp": plain, "tls": secure})


@pytest.fixture(params=PHONES)
def name(request: pytest.FixtureRequest) -> str:
    if why := missing(request.param):
        pytest.skip(why)
    return str(request.param)


@pytest.fixture
def phoned(exchange: Exchange, name: str) -> Phoned:
    assert name in exchange.phoned, "its call never ended"
    return exchange.phoned[name]


def test_every_word_said_openly_is_in_redis_in_its_place_and_no_other(phoned: Phoned, name: str) -> None:
    heard, truth = phoned.words(), interop.truth()
    assert [word for word, _, _ in heard] == [word for word, _, _ in truth]
    starts = [h[1] - t[1] for h, t in zip(heard, truth, strict=True)]
    ends = [h[2] - t[2] for h, t in zip(heard, truth, strict=True)]
    if isinstance(phone := PHONES[name], Pjsua) and phone.vad:
        pauses = [0.0, *(end for _, _, end in truth)]
        first = [n for n, word in enumerate(truth) if word[1] - pauses[n] > PAUSE]
        assert max(abs(starts[n] - ends[n]) for n in first) <= ONSET
        starts = [error for n, error in enumerate(starts) if n not in first]
    errors = starts + ends
    assert BEGINS[0] <= min(errors)
    assert max(errors) <= BEGINS[1]
    assert max(errors) - min(errors) <= SPREAD


def test_the_call_is_told_with_who_called_in_which_codec(phoned: Phoned, name: str) -> None:
    started, ended = phoned.events[0], phoned.events[-1]
    assert started.type == "call.started"
    assert started.data["ingress"] == "sip"
    (leg,) = started.data["legs"]
    codec = PHONES[name].codec.partition("/")[0].upper()
    assert (leg["role"], leg["codec"], leg["participant"]) == ("caller", codec, f"sip:{name}@127.0.0.1")
    assert (ended.type, ended.data["reason"]) == ("call.ended", "hangup")
    assert ended.data["duration_s"] == pytest.approx(phoned.did["hangup"], abs=SIGNALLED)


def test_hold_is_told_when_it_was_signalled_and_ends_with_the_resume(phoned: Phoned) -> None:
    (span,) = phoned.closed("hold")
    assert span[0] == pytest.approx(phoned.did["hold"], abs=SIGNALLED)
    assert span[1] == pytest.approx(phoned.did["resume"], abs=SIGNALLED)


def test_gate_changes_are_told_in_the_order_of_their_times(phoned: Phoned) -> None:
    since = [e.data["since"] for e in phoned.events if e.type == "leg.gate"]
    assert since == sorted(since)


def test_mute_is_known_by_what_the_phone_sends_or_no_longer_sends(phoned: Phoned) -> None:
    (span,) = phoned.closed("mute")
    assert DETECTED[0] <= span[0] - phoned.did["mute"] <= DETECTED[1]
    first_word = next(start for _, start, _ in phoned.words() if start > MUTE[1])
    # with DTX only the next word brings packets again; that they are there is known a packet and a tick later
    assert phoned.did["unmute"] - 0.1 <= span[1] <= first_word + 0.06


def test_the_books_show_what_was_withheld_and_what_never_came(phoned: Phoned) -> None:
    ledger = phoned.ledger()
    used = ledger["sent_s"] - ledger["replayed_s"] - ledger["padded_s"] + sum(ledger["withheld_s"].values())
    assert ledger["received_s"] == pytest.approx(used + ledger["unsent_s"], abs=TICK)
    assert ledger["sent_s"] == pytest.approx(ledger["provider_s"], abs=0.1)
    lasted = phoned.events[-1].data["duration_s"]
    assert ledger["received_s"] + ledger["absent_s"] == pytest.approx(lasted, abs=0.1)
    assert ledger["packets"]["lost"] == ledger["packets"]["duplicate"] == ledger["packets"]["late"] == 0
    spoken = sum(interop.LIBRARY[line].seconds for _, line in interop.HEARD)
    assert ledger["sent_s"] < spoken + 3  # of 17 s


@pytest.mark.parametrize("name", ["pjsua-tls-srtp", "pjsua-g722-srtp"])
def test_of_an_offer_with_aes_256_first_the_line_that_we_can_do_is_taken(exchange: Exchange, name: str) -> None:
    if why := missing(name):
        pytest.skip(why)
    told = exchange.phoned[name].told
    offered = next(line["crypto"] for line in told if line["what"] == "offers")
    assert offered[0] == "AES_256_CM_HMAC_SHA1_80"
    assert "AES_CM_128_HMAC_SHA1_80" in next(line["srtp"] for line in told if line["what"] == "media")


def test_nothing_went_wrong_in_the_service_meanwhile(exchange: Exchange) -> None:
    assert [line for line in exchange.log if line["level"] in ("warning", "error", "critical")] == []
