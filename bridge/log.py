"""Logging: structlog, JSON in service and colours on a terminal, one line per transition, fixed keys.

Never transcript text, numbers, names or keys: `scrub` drops any field whose key says that it might hold one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import typing
from typing import Any, TextIO

import structlog

from bridge.config import LogSettings

FORBIDDEN = frozenset(
    {
        "text",
        "transcript",
        "words",
        "from",
        "from_",
        "to",
        "number",
        "name",
        "aor",
        "participant",
        "key",
        "api_key",
        "token",
        "password",
        "authorization",
        "headers",
        "body",
        "sdp",
        "digit",
    }
)


def scrub(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The last line of defence: a forbidden key is dropped, and that it was there is said."""
    for key in FORBIDDEN & event.keys():
        event[key] = "[withheld]"
    return event


class Unfailing(io.TextIOBase):
    """Standard error for those who cannot stop for it: a full disk under the log, or a reader that has gone, must not
    end a call. A line that cannot be written is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # ValueError: closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class Libraries(logging.Handler):
    """What libraries log, as lines of our own: one each, in our format. A request that aiohttp could not read is the
    peer's fault: no traceback, and nothing of its bytes, among which may be a token."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        error = record.exc_info[1] if record.exc_info else None
        status = getattr(error, "code", 0) or getattr(error and error.__cause__, "code", 0)
        if record.name == "aiohttp.server" and 400 <= status < 500:
            log.info("request refused", reason=type(error).__name__, n=status)
            return
        log.log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info or None)


def configure(settings: LogSettings) -> None:
    """Sets up the process's logging; by the composition root, at the start and again when the settings are re-read."""
    on_terminal = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    render: Any = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            scrub,
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(typing.cast("TextIO", Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,  # a cached one would keep its level through a reload
    )
    logging.basicConfig(level=logging.WARNING, handlers=[Libraries()])
