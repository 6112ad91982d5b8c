"""What is logged, and what is not."""

from __future__ import annotations

import io
import json
import os
import sys

import pytest
import structlog

from bridge.config import LogSettings
from bridge.log import configure


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
