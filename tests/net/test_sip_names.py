"""Host names in Contact and Record-Route: looked up beside the loop, remembered, and never a reason to lose a call."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import dns.asyncresolver
import dns.message
import dns.rrset
import pytest

from bridge.metrics import Metrics
from bridge.net import sip_names
from bridge.net.sip_names import UNKNOWN, SipNames
from tests.ingress.sip_fakes import AUDIO, FakeHost, port_of, sdp, served
from tests.test_metrics import samples


class NameServer(asyncio.DatagramProtocol):
    """Answers SRV from a table, and counts."""

    def __init__(self, records: dict[str, list[str]], *, is_deaf: bool = False) -> None:
        self.records = records
        self.is_deaf = is_deaf
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name = str(query.question[0].name)
        self.asked.append(name)
        if self.is_deaf:
            return
        answer = dns.message.make_response(query)
        if name in self.records:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "SRV", *self.records[name]))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def name_server(records: dict[str, list[str]], **kwargs: bool) -> AsyncIterator[tuple[NameServer, SipNames]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: NameServer(records, **kwargs), ("127.0.0.1", 0)
    )

    def resolver() -> dns.asyncresolver.Resolver:
        made = dns.asyncresolver.Resolver(configure=False)
        made.nameservers, made.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
        return made

    try:
        yield server, SipNames(resolver=resolver)
    finally:
        transport.close()


async def test_a_name_with_a_port_is_looked_up_as_the_system_does_and_remembered() -> None:
    async with name_server({}) as (server, names):
        assert names.known("udp", "localhost", 5070, is_v6=False) == UNKNOWN
        assert await names.look_up("udp", "localhost", 5070, is_v6=False) == ("127.0.0.1", 5070)
        assert names.known("udp", "LOCALHOST", 5070, is_v6=False) == ("127.0.0.1", 5070)
        assert server.asked == []


async def test_a_name_without_a_port_is_asked_for_its_service_first() -> None:
    records = {
        "_sip._udp.sbc.test.": ["20 0 5090 localhost.", "10 0 5080 localhost."],
        "_sips._tcp.sbc.test.": ["1 0 5099 localhost."],
    }
    async with name_server(records) as (server, names):
        assert await names.look_up("udp", "sbc.test", 0, is_v6=False) == ("127.0.0.1", 5080)
        assert await names.look_up("tls", "sbc.test", 0, is_v6=False) == ("127.0.0.1", 5099)
        assert await names.look_up("udp", "localhost", 0, is_v6=False) == ("127.0.0.1", 5060)
        assert server.asked == ["_sip._udp.sbc.test.", "_sips._tcp.sbc.test.", "_sip._udp.localhost."]


@pytest.mark.parametrize("name", ["nobody.invalid", "a..b", "x" * 300])
async def test_a_name_without_an_address_is_none_and_remembered_as_that(name: str) -> None:
    async with name_server({}) as (_, names):
        assert await names.look_up("udp", name, 0, is_v6=False) is None
        assert names.known("udp", name, 0, is_v6=False) is None


async def test_a_name_server_that_says_nothing_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip_names, "TIMEOUT", 0.2)
    async with name_server({}, is_deaf=True) as (_, names):
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            began, longest = loop.time(), 0.0
            lookup = group.create_task(names.look_up("udp", "slow.invalid", 0, is_v6=False))
            while not lookup.done():
                before = loop.time()
                await asyncio.sleep(0.005)
                longest = max(longest, loop.time() - before)
        assert lookup.result() is None
        assert loop.time() - began < 3
        assert longest < 0.2


def invite(port: int, contact: str) -> bytes:
    body = sdp(AUDIO)
    return (
        f"INVITE sip:q@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK1;rport\r\n"
        f"From: <sip:a@b>;tag=1\r\nTo: <sip:q@127.0.0.1>\r\nCall-ID: names\r\nCSeq: 1 INVITE\r\n"
        f"Contact: <{contact}>\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.parametrize(("host", "is_found"), [("localhost", True), ("nobody.invalid", False)])
async def test_a_bye_goes_to_the_name_in_the_contact_or_the_way_the_call_came(host: str, is_found: bool) -> None:
    loop = asyncio.get_running_loop()
    metrics = Metrics()
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as named,
    ):
        for sock in (caller, named):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        made = FakeHost()
        async with served(made, metrics=metrics) as (ingress, _):
            to = ("127.0.0.1", port_of(ingress, "udp"))
            contact = f"sip:a@{host}:{named.getsockname()[1]}"
            await loop.sock_sendto(caller, invite(caller.getsockname()[1], contact), to)
            ok = (await loop.sock_recv(caller, 65535)).decode()
            tag = next(line for line in ok.split("\r\n") if line.startswith("To:")).partition("tag=")[2]
            ack = (
                "ACK sip:q@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK2\r\n"
                f"From: <sip:a@b>;tag=1\r\nTo: <sip:q@127.0.0.1>;tag={tag}\r\n"
                "Call-ID: names\r\nCSeq: 1 ACK\r\nContent-Length: 0\r\n\r\n"
            )
            await loop.sock_sendto(caller, ack.encode(), to)
            await asyncio.sleep(0.1)
            made.calls[0].control.hang_up()
            async with asyncio.timeout(10):
                bye = await loop.sock_recv(named if is_found else caller, 65535)
            assert bye.startswith(f"BYE {contact} SIP/2.0".encode())
    assert samples(metrics)["callbridge_sip_unresolved_total", ()] == float(not is_found)
