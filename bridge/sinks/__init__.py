"""Where events go. A new sink is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bridge.config import RedisSettings
from bridge.sinks.contract import Sink
from bridge.sinks.jsonl import Jsonl, JsonlSettings
from bridge.sinks.redis_streams import RedisStreams


class SinkEntry(NamedTuple):
    """How a sink is made: touches no network; raises ConfigError."""

    settings_type: type[Any]
    make: Callable[[Any], Sink]
    "Of an instance of `settings_type`."


SINKS: dict[str, SinkEntry] = {
    "redis": SinkEntry(RedisSettings, RedisStreams),
    "jsonl": SinkEntry(JsonlSettings, Jsonl),
}
"""By name. The service publishes to `redis` (see `bridge.app`); `jsonl` is for tests and tools."""

__all__ = ["SINKS", "Sink", "SinkEntry"]
