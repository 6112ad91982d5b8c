"""The HTTP server: puts the parts together, binds, and closes."""

from __future__ import annotations

import ipaddress
import socket
import ssl

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.config import HttpSettings
from bridge.errors import ConfigError
from bridge.metrics import Metrics
from bridge.web import connection
from bridge.web.access import Access
from bridge.web.api import CallsApi
from bridge.web.console import Console
from bridge.web.contract import Calls, ExternalMedia, Whip
from bridge.web.health import Health
from bridge.web.openapi import document
from bridge.web.parameters import Parameters
from bridge.web.problems import problems
from bridge.web.stream import EventStreams
from bridge.web.whip import WhipApi

log = structlog.get_logger()

MAX_BODY_BYTES = 128 * 1024
CLOSING = 2.0  # s; requests in flight may finish, event streams were ended before
EXPOSED = "Location, Link, Retry-After, Callbridge-Call, Callbridge-Leg"


def parse_listen(listen: str) -> tuple[str, int]:
    """`address:port`, IPv6 in brackets. Raises ConfigError."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isascii() or not port.isdigit() or int(port) > 65535 or not host:
        raise ConfigError([f"http.listen: {listen!r} is not address:port"])
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def http_tls(settings: HttpSettings) -> ssl.SSLContext | None:
    """None without a certificate. Raises ConfigError for files that cannot be used."""
    if not settings.certificate:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.private_key or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"http.certificate: {error.strerror or error}"]) from None
    return context


class WebServer:
    """One listening address. `external` and `whip` are None where those ways in are off."""

    def __init__(
        self,
        settings: HttpSettings,
        calls: Calls,
        *,
        metrics: Metrics,
        external: ExternalMedia | None = None,
        whip: Whip | None = None,
    ) -> None:
        self._settings = settings
        self._host, self._port = parse_listen(settings.listen)
        self._metrics = metrics
        self._streams = EventStreams(calls, metrics)
        self._runner: connection.Runner | None = None
        self._tls: ssl.SSLContext | None = None
        self._app = self._make_app(calls, external, whip)

    def _make_app(self, calls: Calls, external: ExternalMedia | None, whip: Whip | None) -> web.Application:
        access = Access(self._settings.tokens, is_loopback=_is_loopback(self._host))
        parameters = Parameters(document(needs_token=access.needs_token))
        middlewares = [self._counted, problems, access.middleware, parameters.middleware]
        app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
        app.add_routes(Health(calls, self._metrics).routes(with_metrics=self._settings.metrics))
        app.add_routes(CallsApi(calls, external).routes())
        app.add_routes(self._streams.routes())
        if whip is not None:
            app.add_routes(WhipApi(whip).routes())
        if self._settings.console:
            app.add_routes(Console(self._settings, needs_token=access.needs_token).routes())
        app.router.add_get("/openapi.json", self._openapi)
        app.on_response_prepare.append(self._add_headers)
        return app

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; with port 0 the one that was given to us."""
        if self._runner is not None and self._runner.addresses:
            host, port = self._runner.addresses[0][:2]
            return host, port
        return self._host, self._port

    async def open(self) -> None:
        """Binds and serves from then on. Raises ConfigError where the address cannot be had."""
        self._tls = http_tls(self._settings)
        runner = connection.Runner(
            self._app,
            access_log=None,
            shutdown_timeout=CLOSING,
            handler_cancellation=True,
            keepalive_timeout=connection.IDLE,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port, ssl_context=self._tls, reuse_port=False).start()
        except (OSError, socket.gaierror) as error:
            await runner.cleanup()
            reason = (error.strerror or str(error)).removeprefix("[Errno").strip()
            raise ConfigError([f"http.listen: {self._settings.listen}: {reason}"]) from None
        self._runner = runner
        log.info("http server listens", state="open", n=self.address[1])

    def renew_certificate(self, settings: HttpSettings) -> None:
        """Reads the certificate's files again, for new connections; the caller has tried them with `http_tls`."""
        if self._tls is not None and settings.certificate:
            self._tls.load_cert_chain(settings.certificate, settings.private_key or None)

    async def close(self) -> None:
        """Ends the event streams, lets requests in flight finish, and stops listening."""
        self._streams.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
            log.info("http server closed", state="closed")

    @web.middleware
    async def _counted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        status = 499  # the client went away
        try:
            response = await handler(request)
            status = response.status
            return response
        except web.HTTPException as error:
            status = error.status
            raise
        finally:
            resource = request.match_info.route.resource
            route = resource.canonical if resource is not None else "unknown"
            self._metrics.http_requests.add(1, request.method, route, str(status))

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.setdefault("X-Content-Type-Options", "nosniff")
        headers.setdefault("Referrer-Policy", "no-referrer")
        headers.setdefault("Cache-Control", "no-store")
        if self._settings.tokens:
            headers["Access-Control-Allow-Origin"] = "*"
            headers["Access-Control-Expose-Headers"] = EXPOSED

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.json_response(document(needs_token=bool(self._settings.tokens)))
