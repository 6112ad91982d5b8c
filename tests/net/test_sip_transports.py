"""Sockets around the endpoint: framing, keep-alives, hostile connections, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from bridge.net import sip_sockets, sip_transports
from bridge.net.sip_listen import ListenAddress, parse_listen
from bridge.net.sip_transports import SipDriver
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Accepted, Event, Flow, IncomingCall
from tests.sip.network import tokens

OPTIONS = (
    b"OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK%d;rport\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: 1\r\nCSeq: %d OPTIONS\r\nContent-Length: 0\r\n\r\n"
)


@asynccontextmanager
async def listening(*listen: str, **kwargs) -> AsyncIterator[SipDriver]:
    def ignore(event: Event, now: float) -> None:
        """Only OPTIONS here."""

    driver = SipDriver(Endpoint(Identity(), make_token=tokens("t")), ignore, **kwargs)
    await driver.open(listen or ("tcp:127.0.0.1:0",))
    try:
        yield driver
    finally:
        await driver.close()


async def connect(driver: SipDriver, **kwargs) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", driver.bound[0].port, **kwargs)


async def response(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(5):
        return await reader.readuntil(b"\r\n\r\n")


async def closed(reader: asyncio.StreamReader) -> bool:
    async with asyncio.timeout(5):
        try:
            return await reader.read() == b""
        except ConnectionError:
            return True


async def test_messages_cut_anywhere_and_glued_together_are_each_answered() -> None:
    async with listening() as driver:
        reader, writer = await connect(driver)
        data = OPTIONS % (1, 1) + b"\r\n" + OPTIONS % (2, 2) + OPTIONS % (3, 3)
        for n in range(0, len(data), 150):
            writer.write(data[n : n + 150])
            await writer.drain()
            await asyncio.sleep(0)
        answers = [await response(reader) for _ in range(3)]
        assert [b"CSeq: %d OPTIONS" % n in answer for n, answer in enumerate(answers, 1)] == [True, True, True]
        writer.close()


async def test_a_ping_is_answered_with_a_pong() -> None:
    async with listening() as driver:
        reader, writer = await connect(driver)
        writer.write(b"\r\n\r\n")
        assert await asyncio.wait_for(reader.readexactly(2), 5) == b"\r\n"
        writer.close()


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"x" * 40_000,
        b"OPTIONS sip:a SIP/2.0\r\nl: 3\r\nContent-Length: 4\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 9999999\r\n\r\n",
        b"OPTIONS sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_a_stream_that_cannot_be_cut_is_closed(junk: bytes) -> None:
    async with listening() as driver:
        reader, writer = await connect(driver)
        writer.write(junk)
        assert await closed(reader)
        writer.close()


async def test_a_message_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip_sockets, "PARTIAL_TIMEOUT", 0.05)
    async with listening() as driver:
        reader, writer = await connect(driver)
        writer.write(b"OPTIONS sip:a SIP/2.0\r\n")
        assert await closed(reader)
        writer.close()


async def test_a_stranger_and_one_connection_too_many_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(admit=lambda host: False) as driver:
        reader, writer = await connect(driver)
        assert await closed(reader)
        writer.close()
    monkeypatch.setattr(sip_transports, "MAX_CONNECTIONS", 1)
    async with listening() as driver:
        _, first = await connect(driver)
        first.write(OPTIONS % (1, 1))
        await asyncio.sleep(0.01)
        reader, writer = await connect(driver)
        assert await closed(reader)
        writer.close()
        first.close()


async def test_udp_answers_where_the_request_came_from_and_ignores_keepalives() -> None:
    loop = asyncio.get_running_loop()
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    class Peer(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            answers.put_nowait(data)

    async with listening("udp:127.0.0.1:0", "udp:[::1]:0") as driver:
        for address in driver.bound:
            peer, _ = await loop.create_datagram_endpoint(Peer, remote_addr=(address.host, address.port))
            for data in (b"\r\n\r\n", b"\0" * 20, b"\x00\x01\x00\x00" * 9, OPTIONS % (1, 1)):
                peer.sendto(data)
            answer = await asyncio.wait_for(answers.get(), 5)
            assert answer.startswith(b"SIP/2.0 200")
            assert f"received={address.host}".encode() in answer
            peer.close()
        assert answers.empty()


async def test_of_two_sockets_on_one_port_the_asked_one_answers() -> None:
    loop = asyncio.get_running_loop()
    sources: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    class Peer(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            sources.put_nowait(addr)

    async with listening("udp:127.0.0.1:0") as driver:
        port = driver.bound[0].port
        await driver._listen(parse_listen(f"udp:127.0.0.2:{port}"))
        peer, _ = await loop.create_datagram_endpoint(Peer, local_addr=("127.0.0.1", 0))
        for host in ("127.0.0.1", "127.0.0.2"):
            peer.sendto(OPTIONS % (1, 1), (host, port))
            assert await asyncio.wait_for(sources.get(), 5) == (host, port)
        peer.close()


async def test_the_advertised_address_stands_in_contact() -> None:
    async with listening(advertise="203.0.113.5") as driver:
        reader, writer = await connect(driver)
        writer.write(OPTIONS % (1, 1))
        assert f"Contact: <sip:callbridge@203.0.113.5:{driver.bound[0].port};transport=tcp>".encode() in await response(
            reader
        )
        writer.close()


async def test_a_wildcard_socket_shows_the_address_that_faces_the_peer() -> None:
    async with listening("tcp:0.0.0.0:0") as driver:
        reader, writer = await connect(driver)
        writer.write(OPTIONS % (1, 1))
        assert b"Contact: <sip:callbridge@127.0.0.1:" in await response(reader)
        writer.close()


@pytest.mark.parametrize(
    "text", ["udp:1.2.3.4", "sctp:1.2.3.4:5060", "udp:host:5060", "tcp:1.2.3.4:99999", "", "udp::5060"]
)
def test_a_listen_address_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_listen(text)


def test_an_ipv6_listen_address_stands_in_brackets() -> None:
    assert parse_listen("tls:[::]:5061") == ListenAddress("tls", "::", 5061)


def make_certificate(folder: Path) -> tuple[str, str]:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return str(pem), str(secret)


@pytest.mark.parametrize("mutual", [False, True])
async def test_tls_serves_and_mutual_tls_wants_a_certificate(tmp_path: Path, mutual: bool) -> None:
    from bridge.ingress.sip import server_tls
    from tests.ingress.sip_fakes import settings

    pem, key = make_certificate(tmp_path)
    context = server_tls(settings(certificate=pem, private_key=key, client_ca=pem if mutual else ""))
    async with listening("tls:127.0.0.1:0", server_tls=context) as driver:
        client = ssl.create_default_context(cafile=pem)
        if mutual:
            with pytest.raises((ConnectionError, ssl.SSLError, asyncio.IncompleteReadError)):
                await asked(driver, client)
            client.load_cert_chain(pem, key)
        answer = await asked(driver, client)
        assert answer.startswith(b"SIP/2.0 200")
        assert b";transport=tls>" in answer


async def asked(driver: SipDriver, context: ssl.SSLContext) -> bytes:
    reader, writer = await connect(driver, ssl=context, server_hostname="localhost")
    try:
        writer.write(OPTIONS % (1, 1))
        return await response(reader)
    finally:
        writer.close()


async def test_a_peer_of_tls_is_not_spoken_to_in_the_clear() -> None:
    async with listening() as driver:
        with pytest.raises(OSError, match="TLS"):
            await driver.connect("tls", "127.0.0.1", driver.bound[0].port)


INVITE = (
    b"INVITE sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:%d;branch=z9hG4bKi;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: i\r\nCSeq: 1 INVITE\r\n"
    b"Contact: <sip:a@127.0.0.1:%d>\r\nContent-Length: 0\r\n\r\n"
)


class Preempted(SipDriver):
    """Whom a 200 wakes runs for a while before the sender goes on, as on a busy machine."""

    answered_at = 0.0

    def _send_datagram(self, data: bytes, flow: Flow) -> None:
        if data.startswith(b"SIP/2.0 200"):
            self.answered_at = self.answered_at or time.monotonic()
            time.sleep(0.05)
        super()._send_datagram(data, flow)


async def test_a_call_is_accepted_when_its_200_leaves_even_where_sending_takes_long() -> None:
    accepted: list[float] = []
    told = asyncio.Event()

    def take(event: Event, now: float) -> None:
        if isinstance(event, IncomingCall):
            endpoint.accept(event.dialog, None, now)
        elif isinstance(event, Accepted):
            accepted.append(now)
            told.set()

    endpoint = Endpoint(Identity(), make_token=tokens("t"))
    driver = Preempted(endpoint, take)
    await driver.open(("udp:127.0.0.1:0",))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", driver.bound[0].port)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        transport.sendto(INVITE % (port, port))
        async with asyncio.timeout(5):
            await told.wait()
        assert abs(accepted[0] - driver.answered_at) < 0.02
    finally:
        transport.close()
        await driver.close()


def test_a_request_that_comes_while_we_start_is_answered() -> None:
    """Phones repeat what was not answered before a restart. uvloop reads sooner than asyncio."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    stop = threading.Event()
    troubles: list[dict[str, object]] = []

    def phone() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            while not stop.is_set():
                own.sendto(OPTIONS % (1, 1), ("127.0.0.1", port))

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))
        for _ in range(30):
            async with listening(f"udp:127.0.0.1:{port}"):
                await asyncio.sleep(0.01)

    sender = threading.Thread(target=phone)
    sender.start()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve())
    finally:
        stop.set()
        sender.join()
    assert troubles == []
