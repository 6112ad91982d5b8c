"""What is logged, and what is not."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys

import pytest
import structlog
from aiohttp import web

from bridge.config import LogSettings
from bridge.log import Libraries, configure


def test_a_level_that_is_read_again_holds_for_loggers_that_were_used_before(capsys: pytest.CaptureFixture[str]) -> None:
    log = structlog.get_logger()
    try:
        configure(LogSettings(level="warning", format="json"))
        log.info("before")
        log.warning("warned")
        configure(LogSettings(level="debug", format="json"))
        log.debug("after", text="words of a caller")
    finally:
        structlog.reset_defaults()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line.get("text")) for line in lines] == [("warned", None), ("after", "[withheld]")]


def test_a_log_that_cannot_be_written_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # whoever read the log is gone
    with os.fdopen(writer, "wb", buffering=0) as raw:
        stream = io.TextIOWrapper(raw, write_through=True)
        monkeypatch.setattr(sys, "stderr", stream)
        configure(LogSettings(format="json"))
        for _ in range(100):
            structlog.get_logger().info("still here", n=1)
        with pytest.raises(BrokenPipeError):
            stream.write("and nobody reads it\n")
        stream.detach()
    structlog.reset_defaults()


async def test_a_request_that_cannot_be_read_is_one_line_without_its_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    heard = logging.getLogger("aiohttp.server")
    library = Libraries()
    heard.addHandler(library)
    server = web.Server(_hello)
    runner = web.ServerRunner(server)
    await runner.setup()
    try:
        configure(LogSettings(format="json"))
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer s3cret" + b"x" * 9000 + b"\r\n\r\n")
        assert b" 400 " in await reader.readline()
        writer.close()
    finally:
        await runner.cleanup()
        heard.removeHandler(library)
        structlog.reset_defaults()
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["reason"], line["n"]) == ("request refused", "LineTooLong", 400)


async def _hello(_: web.BaseRequest) -> web.Response:
    return web.Response()


def test_what_a_library_warns_of_is_a_line_in_our_format(capsys: pytest.CaptureFixture[str]) -> None:
    library = logging.getLogger("some.library")
    handler = Libraries()
    library.addHandler(handler)
    try:
        configure(LogSettings(format="json"))
        try:
            raise ValueError("odd")
        except ValueError:
            library.exception("it failed\nbadly")
    finally:
        library.removeHandler(handler)
        structlog.reset_defaults()
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["library"], line["level"]) == ("it failed\nbadly", "some.library", "error")
    assert line["exception"].endswith("ValueError: odd")
