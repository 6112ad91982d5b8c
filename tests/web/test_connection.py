"""Bytes that are no HTTP request, over a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from bridge.web import connection
from tests.web.conftest import Serve, Site

HEAD = b"POST /v1/calls HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def answer(site: Site, request: bytes) -> tuple[int, str, dict[str, object]]:
    """Status, content type and problem of the answer."""
    reader, writer = await asyncio.open_connection(*site.server.address)
    async with asyncio.timeout(5):
        writer.write(request)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
    writer.close()
    return int(status.split()[1]), headers["content-type"], json.loads(body)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + b"secret" * 2000 + b"\r\n\r\n",
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: -5\r\n\r\n",
        b"GET /v1/calls\x00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ],
)
async def test_what_cannot_be_read_as_a_request_is_a_problem_that_repeats_nothing(
    site: Site, request_bytes: bytes
) -> None:
    status, kind, problem = await answer(site, request_bytes)
    assert (status, kind, problem["status"]) == (400, "application/problem+json", 400)
    assert "secret" not in str(problem)


async def test_a_body_that_is_not_what_its_headers_say_is_the_peers_fault(site: Site) -> None:
    status, kind, problem = await answer(site, HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc")
    assert (status, kind, problem["status"]) == (400, "application/problem+json", 400)


@pytest.mark.parametrize("begun", [b"", b"GET /v1/calls HTTP/1.1\r\nHost: 127"])
async def test_a_connection_that_never_asks_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connection, "IDLE", 0.2)
    async with serve() as site, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*site.server.address)
        writer.write(begun)
        assert await reader.read() == b""
        writer.close()


async def test_a_body_that_does_not_come_is_not_waited_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_WITHIN", 0.2)
    status, kind, problem = await answer(site, HEAD + b"Content-Length: 100\r\n\r\n{")
    assert (status, kind, problem["status"]) == (408, "application/problem+json", 408)
