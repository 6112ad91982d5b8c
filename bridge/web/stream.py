"""Server-sent events: live, behind what is stored, without a gap between the two.

The id of an event of one call is its `seq`, so `Last-Event-ID` says exactly what was seen; of all calls it is the
event's unix millisecond, from which on stored events are sent again (a client tells doubles by `call` and `seq`).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import structlog
from aiohttp import web

from bridge.clock import monotonic
from bridge.errors import SinkError
from bridge.metrics import Metrics
from bridge.publish.events import CALL_ENDED, TRANSCRIPT_INTERIM, Published, rfc3339
from bridge.web.contract import Calls, Feed
from bridge.web.problems import problem

log = structlog.get_logger()

HEARTBEAT = 15.0  # s; proxies cut idle responses after 30-60 s
STALLED = 60.0  # s; a listener that takes nothing for so long is let go
STORE_LAG = 2.0  # s; how long the store may be behind the live feed
STORE_POLL = 0.05  # s
RETRY_MS = 2000


def as_json(event: Published) -> dict[str, Any]:
    """An event as HTTP clients see it: the names of the Redis entry, with numbers and `data` as JSON."""
    body: dict[str, Any] = {"type": event.type, "call": event.call, "seq": event.seq, "at": rfc3339(event.at_ms)}
    for key in ("leg", "role", "text", "start", "end"):
        value = getattr(event, key)
        if value not in ("", None) or (key == "text" and value == ""):
            body[key] = round(value, 3) if isinstance(value, float) else value
    return body | {"data": event.data}


def as_sse(event: Published, event_id: str) -> bytes:
    """One message (HTML standard, section 9.2). JSON has no raw line breaks, so one `data` line holds it."""
    lines = [f"id: {event_id}"] if event_id else []
    body = json.dumps(as_json(event), ensure_ascii=False, separators=(",", ":"), default=str)
    return "\n".join([*lines, f"event: {event.type}", f"data: {body}", "", ""]).encode("utf-8", "replace")


class EventStreams:
    """`/v1/events` and `/v1/calls/{call}/events`."""

    def __init__(self, calls: Calls, metrics: Metrics) -> None:
        self._calls = calls
        self._metrics = metrics
        self._open: dict[Feed, None] = {}
        metrics.sse_subscribers.read_from(lambda: len(self._open))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/events", self.all_calls, allow_head=False),
            web.get("/v1/calls/{call}/events", self.one_call, allow_head=False),
        ]

    def close(self) -> None:
        """Ends every stream; clients reconnect elsewhere with their last id."""
        for feed in tuple(self._open):
            feed.close()

    async def all_calls(self, request: web.Request) -> web.StreamResponse:
        after = _after(request)
        if after and not _is_number(after):
            return problem(400, "Last-Event-ID is a unix time in milliseconds here.")
        return await self._serve(request, "", after or None)

    async def one_call(self, request: web.Request) -> web.StreamResponse:
        after = _after(request)
        if after and not _is_number(after):
            return problem(400, "Last-Event-ID is the event's seq here.")
        call = request.match_info["call"]
        start = request.query.get("from", "start")
        return await self._serve(request, call, after if after or start == "start" else None)

    async def _serve(self, request: web.Request, call: str, after: str | None) -> web.StreamResponse:
        is_live = not call or self._calls.get(call) is not None
        is_followed = is_live and request.query.get("follow", "1") != "0"
        feed = self._calls.subscribe(call) if is_followed else None
        listener = _Listener(request, call, after, with_interims=request.query.get("interim", "1") != "0")
        try:
            stored = await self._stored(call, after, is_live=is_live)
            if not is_live and after is not None and not stored and not await self._stored(call, "", is_live=False):
                return problem(404, "No such call.")
            if feed is not None:
                self._open[feed] = None
            await listener.open()
            for event in stored:
                await listener.send(event)
            if feed is not None and not listener.is_done:
                await self._follow(listener, feed)
            return listener.response
        except (TimeoutError, ConnectionError):
            return listener.response
        finally:
            if feed is not None:
                self._metrics.sse_dropped.add(feed.dropped)
                self._open.pop(feed, None)
                feed.close()

    async def _stored(self, call: str, after: str | None, *, is_live: bool) -> list[Published]:
        """What is stored behind `after`; of a live call nothing where the store cannot be reached."""
        if after is None:
            return []
        try:
            return [event async for event in self._calls.history(call, after)]
        except SinkError:
            if not is_live:
                raise
            log.info("event stream without its past", call=call, reason="store")
            return []

    async def _follow(self, listener: _Listener, feed: Feed) -> None:
        events = feed.__aiter__()
        while not listener.is_done:
            try:
                async with asyncio.timeout(HEARTBEAT):  # a feed loses nothing when its waiting is cut short
                    event = await anext(events, None)
            except TimeoutError:
                await listener.beat()
                continue
            if event is None:
                return
            await self._close_gap(listener, event)
            await listener.send(event)

    async def _close_gap(self, listener: _Listener, event: Published) -> None:
        """Between the stored past and the first live event, or behind what the feed dropped, there may be events that
        the store did not hold yet a moment ago."""
        deadline = monotonic() + STORE_LAG
        while listener.misses_before(event) and monotonic() < deadline:
            for stored in await self._stored(listener.call, str(listener.seen), is_live=True):
                if stored.seq < event.seq:
                    await listener.send(stored)
            if listener.misses_before(event):
                await asyncio.sleep(STORE_POLL)


class _Listener:
    """One response: what it has seen, and the writing of it."""

    def __init__(self, request: web.Request, call: str, after: str | None, *, with_interims: bool) -> None:
        self._request = request
        self.call = call
        self.seen = int(after or 0) if call else 0
        self._is_gapless = call != "" and after is not None
        self._with_interims = with_interims
        self.is_done = False
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        self.response = web.StreamResponse(headers=headers)

    async def open(self) -> None:
        await self.response.prepare(self._request)
        await self._write(f"retry: {RETRY_MS}\n\n".encode())

    def misses_before(self, event: Published) -> bool:
        return self._is_gapless and event.seq > self.seen + 1

    async def send(self, event: Published) -> None:
        """Writes the event unless it was seen. With one call the last event ends the stream."""
        if self.call:
            if event.seq and event.seq <= self.seen:
                return
            self.seen = max(self.seen, event.seq)
            self.is_done = event.type == CALL_ENDED
        if event.type == TRANSCRIPT_INTERIM and not self._with_interims:
            return
        event_id = (str(event.seq) if event.seq else "") if self.call else str(event.at_ms)
        await self._write(as_sse(event, event_id))

    async def beat(self) -> None:
        await self._write(b": still here\n\n")

    async def _write(self, chunk: bytes) -> None:
        async with asyncio.timeout(STALLED):
            await self.response.write(chunk)


def _after(request: web.Request) -> str:
    return request.headers.get("Last-Event-ID", request.query.get("after", ""))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 15
