"""The WebSocket skin of the stand-ins: reads a frame, tells the stream, sends what is due, sleeps till its deadline."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

import structlog
from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as websocket_serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from bridge import clock
from bridge.emulator.deepgram import DeepgramStream
from bridge.emulator.deepgram_query import DeepgramQuery, Refusal, credentials, refusal
from bridge.emulator.listening import recogniser_factory
from bridge.emulator.options import EmulatorOptions, Faults
from bridge.emulator.received import Connection, kind_of_sent, kind_of_text
from bridge.emulator.recogniser import Recogniser, RecogniserFactory
from bridge.emulator.soniox import SonioxStream
from bridge.emulator.wire import Abort, Close, Freeze, Output, SendText, Throttle

log = structlog.get_logger()

MAX_FRAME_BYTES = 16 * 1024 * 1024  # no limit is documented
CONNECTIONS_PATH = "/emulator/connections"
DEEPGRAM_PATH = "/v1/listen"
SONIOX_PATH = "/transcribe-websocket"
FLUSHING = ("Finalize", "CloseStream", "finalize", "empty")
SETTLE_WITHIN = 10.0  # s; words of a recogniser that takes longer come with a later final
EXPOSED = "dg-model-name,dg-model-uuid,dg-char-count,dg-request-id,dg-error"


class Stream(Protocol):
    """A provider's state machine for one connection."""

    throttle: Throttle

    @property
    def seconds(self) -> float: ...
    def receive_audio(self, data: bytes, now: float) -> None: ...
    def receive_text(self, text: str, now: float) -> None: ...
    def deadline(self) -> float | None: ...
    def handle_timer(self, now: float) -> None: ...
    def take_outputs(self, now: float) -> list[Output]: ...


StreamMaker = Callable[[RecogniserFactory], Stream]


class EmulatorServer:
    """A running stand-in. `connections` grows by one for each upgrade, refused or not."""

    def __init__(self, options: EmulatorOptions, make_recogniser: RecogniserFactory) -> None:
        self.options = options
        self.connections: list[Connection] = []
        self.port = 0
        self._make_recogniser = make_recogniser
        self._started = clock.monotonic()
        self._server: Server | None = None
        self._changed = asyncio.Event()
        self._pending: dict[ServerConnection, tuple[Connection, StreamMaker]] = {}

    @property
    def url(self) -> str:
        """What a client is configured with."""
        path = DEEPGRAM_PATH if self.options.provider == "deepgram" else SONIOX_PATH
        return f"ws://{self.options.host}:{self.port}{path}"

    def listening(self, running: Server) -> None:
        """Told by `serve` once the port is open."""
        self._server = running

    async def until_ended(self, number: int) -> Connection:
        """Wait until connection `number` (1, 2, 3 ...) has come and gone; its record is complete then."""
        while len(self.connections) < number or self.connections[number - 1].is_open:
            self._changed.clear()
            await self._changed.wait()
        return self.connections[number - 1]

    def drop_all(self) -> None:
        """Abort every open connection, as a network loss would."""
        for connection in self._server.connections if self._server else ():
            connection.transport.abort()

    def _now(self) -> float:
        return clock.monotonic() - self._started

    async def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer the log's path, refuse, or prepare the stream of the connection that is about to open."""
        parts = urlsplit(request.path)
        if parts.path == CONNECTIONS_PATH:
            return self._connections_response("frames" in parse_qs(parts.query))
        request_id = uuid7()
        record = Connection(len(self.connections) + 1, request.path, request_id, self._now())
        self.connections.append(record)
        faults = self.options.faults_of(record.number)
        try:
            await asyncio.sleep(faults.seconds("slow_upgrade") or 0.0)
            stream = self._admit(request, record, faults)
        except Refusal as refused:
            record.refused, record.closed_at = refused.status, self._now()
            self._changed.set()
            log.info("upgrade refused", provider=self.options.provider, n=record.number, reason=refused.code)
            return _refusal_response(refused, request_id)
        self._pending[connection] = (record, stream)
        return None

    def _admit(self, request: Request, record: Connection, faults: Faults) -> StreamMaker:
        """How to make the stream once the upgrade is through. Raises Refusal."""
        options, now = self.options, clock.monotonic
        open_now = sum(1 for other in self.connections if other.is_open)
        is_full = bool(options.concurrency) and open_now > options.concurrency
        protocols = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name]
        if options.provider == "soniox":
            offer = (request.headers.get("Authorization"), tuple(protocols))
            return lambda make: SonioxStream(
                make, offer, request_id=record.request_id, options=options, faults=faults, is_full=is_full, now=now()
            )
        if urlsplit(request.path).path != DEEPGRAM_PATH:
            raise Refusal(404, "NOT_FOUND", "Not found.")
        key = credentials(request.headers, protocols)
        if options.keys and key not in options.keys:
            raise refusal(401)
        query = DeepgramQuery.parse(urlsplit(request.path).query)
        if is_full:
            raise refusal(429)
        if (status := faults.seconds("refuse")) is not None:
            raise refusal(int(status))
        created = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return lambda make: DeepgramStream(
            query, make, request_id=record.request_id, created=created, options=options, faults=faults, now=now()
        )

    def process_response(self, connection: ServerConnection, request: Request, response: Response) -> None:
        """Headers of the 101 (captured from deepgram-js-sdk issue 301)."""
        pending = self._pending.get(connection)
        if pending is None or response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            return
        if self.options.provider == "deepgram":
            response.headers["dg-request-id"] = pending[0].request_id
            if origin := request.headers.get("Origin"):
                response.headers["access-control-allow-origin"] = origin
                response.headers["access-control-allow-credentials"] = "true"
                response.headers["access-control-expose-headers"] = EXPOSED

    async def run_connection(self, connection: ServerConnection) -> None:
        """From the 101 to the close."""
        record, make_stream = self._pending.pop(connection)
        recognisers: list[Recogniser] = []

        def make_recogniser() -> Recogniser:
            recognisers.append(self._make_recogniser())
            return recognisers[-1]

        stream = make_stream(make_recogniser)
        try:
            await self._serve(connection, stream, record, recognisers)
        except ConnectionClosed:
            pass
        finally:
            record.seconds = stream.seconds
            record.close_code = record.close_code or connection.close_code or 1006
            record.close_reason = record.close_reason or connection.close_reason or ""
            record.closed_at = self._now()
            self._changed.set()
            if self.options.log is not None:
                record.append_to(self.options.log)

    async def _serve(
        self, connection: ServerConnection, stream: Stream, record: Connection, recognisers: list[Recogniser]
    ) -> None:
        while True:
            for output in stream.take_outputs(clock.monotonic()):
                if not await self._perform(output, connection, record):
                    return
            ready, deadline = stream.throttle.ready_at(), stream.deadline()
            try:
                async with asyncio.timeout_at(deadline):
                    if ready > clock.monotonic():
                        await asyncio.sleep(ready - clock.monotonic())
                    message = await connection.recv()
            except TimeoutError:
                stream.handle_timer(clock.monotonic())
                continue
            if isinstance(message, str) and kind_of_text(message) in FLUSHING:
                await self._settle(recognisers)
            self._take(message, stream, record)

    async def _settle(self, recognisers: list[Recogniser]) -> None:
        """Recognisers that work elsewhere finish before a flush asks them to have finished."""
        work = [asyncio.wrap_future(future) for recogniser in recognisers for future in recogniser.settle()]
        if work:
            await asyncio.wait(work, timeout=SETTLE_WITHIN)

    def _take(self, message: str | bytes, stream: Stream, record: Connection) -> None:
        now = clock.monotonic()
        kind, size = ("audio", len(message)) if isinstance(message, bytes) else (kind_of_text(message), len(message))
        if len(record.frames) < self.options.keep_frames:
            record.frames.append((now - self._started, kind, size))
        else:
            record.frames_left_out += 1
        if isinstance(message, str):
            stream.receive_text(message, now)
        else:
            record.audio_bytes += size
            if len(record.audio) + size <= self.options.keep_audio_bytes:
                record.audio += message
            stream.receive_audio(message, now)
            record.seconds = stream.seconds

    async def _perform(self, output: Output, connection: ServerConnection, record: Connection) -> bool:
        """False: the connection is over."""
        if isinstance(output, SendText):
            await connection.send(output.text)
            record.sent.append((self._now(), kind_of_sent(output.message)))
            record.words += output.words
            return True
        if isinstance(output, Close):
            record.close_code, record.close_reason = output.code, output.reason
            await connection.close(output.code, output.reason)
        elif isinstance(output, Abort):
            record.close_code = 1006
            connection.transport.abort()
        elif isinstance(output, Freeze):
            connection.transport.pause_reading()  # not even pings are read
            await connection.wait_closed()
        return False

    def _connections_response(self, frames: bool) -> Response:
        summaries = [record.summary(frames=frames) for record in self.connections]
        return _json_response(200, json.dumps({"connections": summaries}))


@asynccontextmanager
async def serve(options: EmulatorOptions) -> AsyncIterator[EmulatorServer]:
    """The stand-in, listening while the block runs; leaving it closes what is open. Raises OSError where the port is
    taken and ConfigError where a library cannot be read."""
    with recogniser_factory(options) as make_recogniser:
        server = EmulatorServer(options, make_recogniser)
        async with websocket_serve(
            server.run_connection,
            options.host,
            options.port,
            process_request=server.process_request,
            process_response=server.process_response,
            select_subprotocol=_select_subprotocol,
            compression=None,
            ping_interval=None,
            close_timeout=1.0,
            max_size=MAX_FRAME_BYTES,
            max_queue=16,
            server_header=None,
        ) as running:
            server.listening(running)
            server.port = next(iter(running.sockets)).getsockname()[1]
            try:
                yield server
            finally:
                server.drop_all()


def _select_subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The first of a pair `name, key`: never the key."""
    return offered[0] if len(offered) == 2 else None


def _refusal_response(refused: Refusal, request_id: str) -> Response:
    body = {"err_code": refused.code, "err_msg": refused.message, "request_id": request_id}
    response = _json_response(refused.status, json.dumps(body))
    response.headers["dg-request-id"] = request_id
    response.headers["dg-error"] = refused.message
    return response


def _json_response(status: int, body: str) -> Response:
    data = body.encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(data)), "Connection": "close"})
    return Response(status, HTTPStatus(status).phrase, headers, data)


def uuid7() -> str:
    """A request id as the service's look: UUID version 7 (RFC 9562 section 5.7)."""
    random = uuid.uuid4().int & ((1 << 74) - 1)
    value = clock.unix_ms() << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    return str(uuid.UUID(int=value))
