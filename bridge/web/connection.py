"""Connections whose peer speaks no HTTP, or lets us wait for it. Errors are the same problem document as any other.

aiohttp answers such bytes before there is a request that a middleware could see, with a text that repeats them.
"""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.web_request import BaseRequest

from bridge.web.problems import OUR_FAULT, problem

IDLE = 30.0  # s; a connection without a whole request for so long is closed (aiohttp's own: an hour, for balancers)
BODY_WITHIN = 10.0  # s; bodies here have a few KiB


async def body(request: web.Request) -> bytes:
    """The whole body. Raises HTTPRequestTimeout for a peer that lets us wait for it, HTTPRequestEntityTooLarge."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, message)  # logs it; raises where an answer has begun
        response = problem(status, OUR_FAULT if status >= 500 else "This cannot be read as an HTTP request.")
        response.force_close()
        return response


class _Server(web.Server):
    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An application's runner whose connections speak of errors as we do."""

    async def _make_server(self) -> web.Server:
        plain = await super()._make_server()
        return _Server(
            plain.request_handler,
            request_factory=plain.request_factory,
            handler_cancellation=plain.handler_cancellation,
            **plain._kwargs,
        )
