"""What is logged, and what is not."""

from __future__ import annotations

import json

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
