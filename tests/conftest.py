"""Fixtures that every part may use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, is_installed


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A private, empty, real Redis."""
    if not is_installed():
        pytest.skip("redis-server is not installed")
    with RedisServer() as server:
        yield server
