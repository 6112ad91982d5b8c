"""baresip, a phone by others: each codec, hold and resume, SDES."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ingress.sip_fakes import FakeHost, port_of, served
from tests.wire import baresip

pytestmark = pytest.mark.skipif(
    baresip.BARESIP is None or baresip.MODULES is None, reason="baresip and its modules are not installed"
)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - another process acts
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("codec", "account"),
    [
        ("PCMU/8000/1", ""),
        ("PCMA/8000/1", ""),
        ("G722/16000/1", ""),
        ("opus/48000/2", ""),
        ("PCMU/8000/1", ";mediaenc=srtp-mand"),
    ],
)
async def test_a_call_is_answered_held_resumed_and_hung_up(tmp_path: Path, codec: str, account: str) -> None:
    host = FakeHost()
    async with served(host) as (ingress, _), baresip.running(tmp_path, codec, account=account) as phone:
        phone.command("dial", f"sip:bob@127.0.0.1:{port_of(ingress, 'udp')}")
        await until(lambda: bool(host.calls) and bool(host.calls[0].answers))
        (call,) = host.calls
        leg = call.legs[0]
        assert leg.offer.media.formats[0].codec.name == codec.partition("/")[0].upper()
        assert (leg.offer.media.srtp is not None) == ("srtp" in account)
        assert not leg.on_hold
        await asyncio.sleep(0.1)  # its ACK
        phone.command("hold")
        await until(lambda: leg.on_hold)
        await asyncio.sleep(0.1)
        phone.command("resume")
        await until(lambda: not leg.on_hold)
        await asyncio.sleep(0.1)
        phone.command("hangup")
        await until(lambda: bool(call.reasons))
        assert call.reasons == ["hangup"]
        await until(lambda: ingress.endpoint.n_dialogs == 0)


async def test_the_service_can_hang_up(tmp_path: Path) -> None:
    host = FakeHost()
    async with served(host) as (ingress, _), baresip.running(tmp_path, "PCMU/8000/1") as phone:
        phone.command("dial", f"sip:bob@127.0.0.1:{port_of(ingress, 'udp')}")
        await until(lambda: bool(host.calls) and bool(host.calls[0].answers))
        await asyncio.sleep(0.1)
        assert ingress.endpoint.n_dialogs == 1
        host.calls[0].control.hang_up()
        await until(lambda: ingress.endpoint.n_dialogs == 0)  # the phone has answered our BYE
