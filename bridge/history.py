"""What was published, read back from Redis for the console and for resumed event streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from bridge.config import RedisSettings
from bridge.errors import SinkError
from bridge.net.redis_link import FAULTS, Address
from bridge.publish.events import Published, parse, rfc3339
from bridge.publish.keys import Keys

PAGE = 500  # entries per round trip


class History:
    """Connects at the first question. Every method raises SinkError while Redis cannot be asked."""

    def __init__(self, settings: RedisSettings) -> None:
        """Raises ConfigError for a URL that is none."""
        self._address = Address.parse(settings.url)
        self._keys = Keys(settings.prefix, settings.partitions, tagged=self._address.kind == "cluster")
        self._opened: Any = None

    @property
    def _client(self) -> Any:
        if self._opened is None:
            self._opened = self._address.client(decode_responses=True, socket_timeout=5, socket_connect_timeout=3)
        return self._opened

    async def history(self, call: str, after: str) -> AsyncIterator[Published]:
        """See `bridge.web.contract.Calls.history`."""
        if call:
            behind = int(after) if after.isdecimal() else 0
            async for event in self._stream(self._keys.call(call), "-"):
                if event.seq > behind:
                    yield event
            return
        start = after if after.isdecimal() else "-"
        for partition in range(self._keys.partitions):
            async for event in self._stream(self._keys.events(partition), start):
                yield event

    async def _stream(self, key: str, start: str) -> AsyncIterator[Published]:
        while True:
            try:
                page = await self._client.xrange(key, start, "+", PAGE)
            except FAULTS as error:
                raise SinkError(f"redis: {type(error).__name__}") from error
            for entry, flat in page:
                try:
                    yield parse(flat, entry=entry)
                except ValueError:
                    continue  # not ours
            if len(page) < PAGE:
                return
            start = f"({page[-1][0]}"

    async def recent(self, limit: int) -> Sequence[dict[str, Any]]:
        """See `bridge.web.contract.Calls.recent`."""
        found: list[tuple[str, float]] = []
        for partition in range(self._keys.partitions):
            try:
                found += await self._client.zrevrange(self._keys.calls(partition), 0, limit - 1, withscores=True)
            except FAULTS as error:
                raise SinkError(f"redis: {type(error).__name__}") from error
        found.sort(key=lambda entry: -entry[1])
        return [{"id": call, "since": rfc3339(int(started))} for call, started in found[:limit]]

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.aclose()
