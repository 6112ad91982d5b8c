"""Where our requests within a call go, over real sockets: by what Contact says, never from TLS into the clear."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from bridge.ingress.sip import SipIngress
from tests.net.test_sip_transports import make_certificate
from tests.sip.network import request, tag_of

from .sip_fakes import FakeHost, settings
from .test_sip import make_sip_ingress

SDP = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"


def message(method: str, via: str, contact: str, *, tag: str = "") -> bytes:
    return request(
        method, via=f"{via};rport", peer="sip:sbc@127.0.0.1", uri="sip:q@127.0.0.1", contact=contact, call_id="ways",
        tag=tag, body=SDP if method == "INVITE" else b"",
    )  # fmt: skip


def answered(data: bytes) -> bytes:
    lines = data.decode().split("\r\n")
    kept = [line for line in lines if line.startswith(("Via", "From", "To", "Call-ID", "CSeq"))]
    return "\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]).encode()


class Datagrams(asyncio.DatagramProtocol):
    """An SBC's UDP socket."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[bytes] = asyncio.Queue()
        self.transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.got.put_nowait(data)
        if data.startswith(b"BYE"):
            self.transport.sendto(answered(data), addr)

    async def final(self) -> bytes:
        async with asyncio.timeout(5):
            while (data := await self.got.get()).startswith(b"SIP/2.0 1"):
                pass
        return data


async def until(is_so: Callable[[], object]) -> None:
    for _ in range(800):
        if is_so():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def closing(ingress: SipIngress) -> None:
    await until(lambda: not ingress.endpoint.n_dialogs)


@pytest.mark.parametrize("is_open", [True, False])
async def test_a_bye_goes_over_tcp_where_contact_says_so_and_back_over_udp_where_nobody_listens(is_open: bool) -> None:
    host, over_tcp = FakeHost(), asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\r\n\r\n")
        over_tcp.put_nowait(data)
        writer.write(answered(data))
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if not is_open:
        server.close()
    ingress = make_sip_ingress(settings(), host)
    await ingress.open()
    udp = next(address.port for address in ingress.driver.bound if address.transport == "udp")
    _, sbc = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, remote_addr=("127.0.0.1", udp))
    own = sbc.transport.get_extra_info("sockname")[1]
    contact = f"sip:sbc@127.0.0.1:{port};transport=tcp"
    sbc.transport.sendto(message("INVITE", f"UDP 127.0.0.1:{own}", contact))
    tag = tag_of(await sbc.final())
    sbc.transport.sendto(message("ACK", f"UDP 127.0.0.1:{own}", contact, tag=tag))
    await asyncio.sleep(0.05)
    host.calls[0].control.hang_up()
    await closing(ingress)
    if is_open:
        assert (await over_tcp.get()).startswith(b"BYE ")
        assert sbc.got.empty()
    else:
        assert (await sbc.final()).startswith(b"BYE ")
        assert over_tcp.empty()
    sbc.transport.close()
    server.close()
    await ingress.close()


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_closed_tls_connection_is_opened_again_to_who_has_a_certificate_and_never_in_the_clear(
    tmp_path: Path, is_known: bool
) -> None:
    pem, key = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other")
    host, got = FakeHost(), bytearray()
    byes: asyncio.Queue[bytes] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readuntil(b"\r\n\r\n")
        byes.put_nowait(data)
        writer.write(answered(data))
        await writer.drain()

    async def overhear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.extend(await reader.read(4000))
        writer.close()

    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(*((pem, key) if is_known else other))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=theirs)
    clear = await asyncio.start_server(overhear, "127.0.0.1", 0)
    port = (server if is_known else clear).sockets[0].getsockname()[1]
    ingress = make_sip_ingress(
        settings(listen=("tls:127.0.0.1:0", "tcp:127.0.0.1:0"), certificate=pem, private_key=key, client_ca=pem), host
    )
    await ingress.open()
    ours = ssl.create_default_context(cafile=pem)
    ours.load_cert_chain(pem, key)
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", ingress.driver.bound[0].port, ssl=ours, server_hostname="localhost"
    )
    own = writer.get_extra_info("sockname")[1]
    contact = f"sip:sbc@127.0.0.1:{port};transport=tcp"
    writer.write(message("INVITE", f"TLS 127.0.0.1:{own}", contact))
    async with asyncio.timeout(5):
        while not (answer := await reader.readuntil(b"\r\n\r\n")).startswith(b"SIP/2.0 200"):
            pass
    writer.write(message("ACK", f"TLS 127.0.0.1:{own}", contact, tag=tag_of(answer)))
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await until(lambda: not ingress.driver._streams)
    host.calls[0].control.hang_up()
    if is_known:
        await closing(ingress)
        assert (await byes.get()).startswith(b"BYE ")
    else:
        await until(lambda: got)  # the TLS handshake that nobody there understands
        await asyncio.sleep(0.2)
        assert b"BYE" not in got
        assert b"ways" not in got
    server.close()
    clear.close()
    await ingress.close()


async def test_an_answer_whose_connection_is_gone_goes_to_the_port_that_via_names() -> None:
    """RFC 3261 18.2.2: what a load balancer's half-closed connections look like."""
    host, over_new = FakeHost(), asyncio.Queue[bytes]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            over_new.put_nowait(head)
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            if head.startswith(b"SIP/2.0 200"):
                writer.write(message("ACK", f"TCP 127.0.0.1:{port}", f"sip:sbc@127.0.0.1:{port}", tag=tag_of(head)))
                break
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    ingress = make_sip_ingress(settings(), host)
    await ingress.open()
    tcp = next(address.port for address in ingress.driver.bound if address.transport == "tcp")
    _, writer = await asyncio.open_connection("127.0.0.1", tcp)
    writer.write(message("INVITE", f"TCP 127.0.0.1:{port}", f"sip:sbc@127.0.0.1:{port};transport=tcp"))
    await writer.drain()
    writer.transport.abort()
    async with asyncio.timeout(5):
        assert (await over_new.get()).startswith(b"SIP/2.0 200")
    await until(lambda: ingress.endpoint.deadline() is not None and host.calls[0].answers)
    await asyncio.sleep(0.1)  # its ACK
    dialog = next(iter(ingress.endpoint._core.dialogs.values()))
    assert dialog.unacknowledged is None
    server.close()
    await ingress.driver.close()
