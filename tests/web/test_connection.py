"""Bytes that are no HTTP request, over a real socket."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.web.conftest import Site

HEAD = b"POST /v1/calls HTTP/1.1\r\nHost: 127.0.0.1\r\n"


async def answer(site: Site, request: bytes) -> tuple[int, str, dict[str, object]]:
    """Status, content type and problem of the answer; the connection must then be closed by the server."""
    reader, writer = await asyncio.open_connection(*site.server.address)
    async with asyncio.timeout(5):
        writer.write(request)
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    status, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
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
