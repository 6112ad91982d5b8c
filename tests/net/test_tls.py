"""TLS between memory buffers, against Python's own server side."""

from __future__ import annotations

import asyncio
import re
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.utils import accept_key

from bridge.net.tls import TlsClient
from bridge.net.websocket import WebSocketConnection, WebSocketTarget
from tests.net.test_stt_tls import contexts
from tests.net.test_websocket import Listener

TRUSTING = ssl.create_default_context()


class Server:
    """The other end of a `TlsClient`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def greet(self) -> None:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass


def connected(folder: Path, *, piece: int = 65536) -> tuple[TlsClient, Server]:
    """After a handshake whose bytes came `piece` at a time."""
    server_context, client_context = contexts(folder)
    client, server = TlsClient(client_context, "localhost"), Server(server_context)
    client.start()
    for _ in range(3):
        server.incoming.write(client.take_outgoing())
        server.greet()
        said = server.outgoing.read()
        for at in range(0, len(said), piece):
            assert client.receive(said[at : at + piece]) == b""
    assert client.is_ready
    return client, server


@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_a_handshake_succeeds_however_its_bytes_are_cut(tmp_path: Path, piece: int) -> None:
    client, server = connected(tmp_path, piece=piece)
    client.send(b"hello")
    server.incoming.write(client.take_outgoing())
    assert server.tls.read() == b"hello"


def test_what_was_said_comes_whole_and_in_order_however_it_is_cut(tmp_path: Path) -> None:
    client, server = connected(tmp_path)
    said = bytes(range(256)) * 300  # more than four records
    server.tls.write(said)
    wire = server.outgoing.read()
    heard = b"".join(client.receive(wire[at : at + 1000]) for at in range(0, len(wire), 1000))
    assert heard == said
    assert not client.is_over


def test_a_close_notify_is_the_end_behind_the_last_words(tmp_path: Path) -> None:
    client, server = connected(tmp_path)
    server.tls.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    assert client.receive(server.outgoing.read()) == b"last words"
    assert client.is_over


def test_the_servers_side_sees_our_close_notify(tmp_path: Path) -> None:
    client, server = connected(tmp_path)
    client.close()
    server.incoming.write(client.take_outgoing())
    assert server.tls.read() == b""


def test_a_record_that_was_tampered_with_is_refused(tmp_path: Path) -> None:
    client, server = connected(tmp_path)
    server.tls.write(b"words")
    wire = bytearray(server.outgoing.read())
    wire[-1] ^= 1
    with pytest.raises(ssl.SSLError):
        client.receive(bytes(wire))
    with pytest.raises(ssl.SSLError):
        client.send(b"more")


def test_words_before_a_broken_record_are_heard_and_the_connection_is_over(tmp_path: Path) -> None:
    client, server = connected(tmp_path)
    server.tls.write(b"last words")
    sound = server.outgoing.read()
    server.tls.write(b"more")
    broken = bytearray(server.outgoing.read())
    broken[-1] ^= 1
    assert client.receive(sound + broken) == b"last words"
    assert client.is_over


class Wire(asyncio.Transport):
    """A connection's transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True


async def test_a_close_notify_closes_a_connection_whose_tcp_still_stands(tmp_path: Path) -> None:
    server_context, client_context = contexts(tmp_path)
    server, wire, listener = Server(server_context), Wire(), Listener()
    client = TlsClient(client_context, "localhost")
    connection = WebSocketConnection(WebSocketTarget("wss://localhost/"), listener, tls=client)
    connection.connection_made(wire)
    for _ in range(3):
        server.incoming.write(wire.written)
        wire.written = b""
        server.greet()
        connection.data_received(server.outgoing.read())
    server.incoming.write(wire.written)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", server.tls.read())
    assert key is not None
    accepted = accept_key(key[1].decode())
    upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    server.tls.write(f"{upgrade}Sec-WebSocket-Accept: {accepted}\r\n\r\n".encode())
    connection.data_received(server.outgoing.read())
    assert (await listener.next())[0] == "opened"
    assert not wire.is_closed
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.unwrap()
    connection.data_received(server.outgoing.read())
    assert wire.is_closed
    connection.abort()


@given(st.binary(min_size=1, max_size=200))
def test_a_peer_that_talks_no_tls_is_an_error_or_waited_for(junk: bytes) -> None:
    client = TlsClient(TRUSTING, "localhost")
    client.start()
    try:
        assert client.receive(junk) == b""
    except ssl.SSLError:
        pass
    assert not client.is_ready
