"""The connection against a real WebSocket server on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from bridge.net.websocket import Refusal, WebSocketConnection, WebSocketTarget


class Listener:
    """Writes down what it is told; `heard` waits for it."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()

    def opened(self, request_id: str) -> None:
        self.told.put_nowait(("opened", request_id))

    def refused(self, refusal: Refusal) -> None:
        self.told.put_nowait(("refused", refusal))

    def received(self, message: str | bytes) -> None:
        self.told.put_nowait(("received", message))

    def closed(self, code: int, reason: str) -> None:
        self.told.put_nowait(("closed", code, reason))

    def writable(self, is_writable: bool) -> None:
        self.told.put_nowait(("writable", is_writable))

    async def next(self) -> tuple[object, ...]:
        async with asyncio.timeout(10):
            return await self.told.get()


@asynccontextmanager
async def connected(
    port: int, *, ping_s: float = 20.0, pong_s: float = 20.0, key: str = "Token secret-key"
) -> AsyncIterator[tuple[WebSocketConnection, Listener]]:
    listener = Listener()
    target = WebSocketTarget(f"ws://127.0.0.1:{port}/v1/listen?model=x", (("Authorization", key),))
    connection = WebSocketConnection(target, listener, ping_s=ping_s, pong_s=pong_s)
    await asyncio.get_running_loop().create_connection(lambda: connection, "127.0.0.1", port)
    try:
        yield connection, listener
    finally:
        connection.abort()


async def echo(ws: ServerConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for message in ws:
            await ws.send(message)


def port_of(server: object) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])  # type: ignore[attr-defined]


async def test_text_and_binary_go_and_come_as_what_they_are() -> None:
    async with serve(echo, "127.0.0.1", 0) as server, connected(port_of(server)) as (connection, listener):
        assert (await listener.next())[0] == "opened"
        connection.send('{"type":"KeepAlive"}')
        connection.send(b"\x00\x01")
        assert await listener.next() == ("received", '{"type":"KeepAlive"}')
        assert await listener.next() == ("received", b"\x00\x01")


async def test_a_refused_upgrade_gives_status_reason_and_request_id() -> None:
    def refuse(ws: ServerConnection, request: Request) -> Response:
        headers = Headers({"dg-error": "Invalid credentials.", "dg-request-id": "r-1", "Content-Length": "0"})
        return Response(HTTPStatus.UNAUTHORIZED.value, "Unauthorized", headers, b"")

    async with (
        serve(echo, "127.0.0.1", 0, process_request=refuse) as server,
        connected(port_of(server)) as (_, listener),
    ):
        assert await listener.next() == ("refused", Refusal(401, "Invalid credentials.", "r-1"))


async def test_the_peers_close_comes_with_its_code_and_reason_after_its_last_message() -> None:
    async def end(ws: ServerConnection) -> None:
        await ws.send("last")
        await ws.close(1011, "net0001")

    async with serve(end, "127.0.0.1", 0) as server, connected(port_of(server)) as (_, listener):
        assert (await listener.next())[0] == "opened"
        assert await listener.next() == ("received", "last")
        assert await listener.next() == ("closed", 1011, "net0001")


async def test_a_dropped_connection_is_1006() -> None:
    async def drop(ws: ServerConnection) -> None:
        await ws.recv()
        ws.transport.abort()

    async with serve(drop, "127.0.0.1", 0) as server, connected(port_of(server)) as (connection, listener):
        assert (await listener.next())[0] == "opened"
        connection.send("go")
        assert (await listener.next())[:2] == ("closed", 1006)


@pytest.mark.parametrize("is_refused", [False, True])
async def test_what_is_over_is_freed_without_the_garbage_collector(is_refused: bool) -> None:
    async def drop(ws: ServerConnection) -> None:
        ws.transport.abort()

    def refuse(ws: ServerConnection, request: Request) -> Response | None:
        return Response(503, "no", Headers({"Content-Length": "0"}), b"") if is_refused else None

    gc.collect()
    gc.disable()
    try:
        async with serve(drop, "127.0.0.1", 0, process_request=refuse) as server:
            async with connected(port_of(server)) as (connection, listener):
                protocol = weakref.ref(connection._ws)
                while (await listener.next())[0] not in ("closed", "refused"):
                    pass
            del connection
            await asyncio.sleep(0.1)
        assert protocol() is None
    finally:
        gc.enable()


async def test_a_server_that_is_no_websocket_is_refused_without_a_status() -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    async with server, connected(port_of(server)) as (_, listener):
        kind, refusal = await listener.next()
        assert kind == "refused"
        assert isinstance(refusal, Refusal)
        assert refusal.status == 0


async def test_a_half_open_socket_is_found_by_ping() -> None:
    async with (
        serve(echo, "127.0.0.1", 0, close_timeout=0.1) as server,
        connected(port_of(server), ping_s=0.05, pong_s=0.1) as (_, listener),
    ):
        assert (await listener.next())[0] == "opened"
        for ws in server.connections:
            ws.transport.pause_reading()  # the socket stays up, nobody is at home
        assert await listener.next() == ("closed", 1006, "no pong")


async def test_a_peer_that_answers_pings_is_kept_and_a_probe_does_no_harm() -> None:
    async with (
        serve(echo, "127.0.0.1", 0) as server,
        connected(port_of(server), ping_s=0.02, pong_s=0.05) as (connection, listener),
    ):
        assert (await listener.next())[0] == "opened"
        connection.probe()
        await asyncio.sleep(0.2)
        connection.send("still here")
        assert await listener.next() == ("received", "still here")


async def test_a_slow_reader_makes_it_unwritable_and_writable_again() -> None:
    got = asyncio.Event()

    async def slow(ws: ServerConnection) -> None:
        ws.transport.pause_reading()
        await got.wait()
        ws.transport.resume_reading()
        with contextlib.suppress(ConnectionClosed):
            async for _ in ws:
                pass

    async with (
        serve(slow, "127.0.0.1", 0, max_size=None) as server,
        connected(port_of(server)) as (connection, listener),
    ):
        assert (await listener.next())[0] == "opened"
        for _ in range(400):
            connection.send(bytes(65536))
            if not listener.told.empty():
                break
        assert await listener.next() == ("writable", False)
        got.set()
        assert await listener.next() == ("writable", True)


async def test_the_key_is_in_no_log_and_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serve(echo, "127.0.0.1", 0) as server, connected(port_of(server)) as (connection, listener):
        assert (await listener.next())[0] == "opened"
        connection.close()
    ours = [record.getMessage() for record in caplog.records if "server" not in record.name]
    assert not any("secret-key" in line for line in ours)
    assert "secret-key" not in repr(WebSocketTarget("ws://h/", (("Authorization", "Token secret-key"),)))
