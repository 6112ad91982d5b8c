"""`wss://`: the same words over TLS, on both event loops, and no audio to a server that nobody vouches for."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from bridge.net.stt_driver import SttDrivers
from bridge.stt.events import Lost
from tests.net.test_sip_transports import make_certificate
from tests.net.test_stt_driver import Leg, breakers, service
from tests.stt.rig import speech

RUNNERS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


def contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's, and that of a client which trusts it."""
    certificate, key = make_certificate(folder)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


@pytest.mark.parametrize("runner", RUNNERS)
def test_words_come_over_tls(tmp_path: Path, runner: str) -> None:
    server_tls, client_tls = contexts(tmp_path)

    async def main() -> None:
        async with service("deepgram", server_tls) as served, SttDrivers(context=client_tls) as drivers:
            leg = Leg(drivers, [("deepgram", served.port)], speech(0.1, 0.8, 1), breakers(), host="wss://localhost")
            leg.speak(0.0, 0.8)
            await leg.hang_up()
            assert leg.transcript() == leg.expected()
            assert served.peers[0].seconds == pytest.approx(0.8)

    RUNNERS[runner](main())


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_certificate_that_nobody_vouches_for_is_a_lost_session_without_audio(tmp_path: Path, runner: str) -> None:
    server_tls, _ = contexts(tmp_path)

    async def main() -> None:
        async with service("deepgram", server_tls) as served, SttDrivers() as drivers:
            leg = Leg(drivers, [("deepgram", served.port)], speech(0.1, 0.8, 1), breakers(), host="wss://localhost")
            leg.speak(0.0, 0.3)
            async with asyncio.timeout(10):
                await leg.lost.wait()
            lost = next(event for event in leg.events if isinstance(event, Lost))
            assert "SSL" in lost.reason or "ertificate" in lost.reason
            assert served.peers == []
            assert leg.transcriber.ledger(time.monotonic()).sent_s == 0

    RUNNERS[runner](main())
