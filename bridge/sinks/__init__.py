"""Where events go. A new sink is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bridge.config import RedisSettings
from bridge.sinks.contract import Sink
from bridge.sinks.jsonl import Jsonl, JsonlSettings
from bridge.sinks.redis_streams import RedisStreams

SINKS: dict[str, tuple[type[Any], Callable[[Any], Sink]]] = {
    "redis": (RedisSettings, RedisStreams),
    "jsonl": (JsonlSettings, Jsonl),
}
"""Name to its settings dataclass and what makes it of them. Making one touches no network; it raises ConfigError."""

__all__ = ["SINKS", "Sink"]
