"""The console: one page from the package, without a build step. It holds no data; it reads the API as anybody would."""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

from bridge.config import HttpSettings

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PAGE = "index.html"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Console:
    """`/` and the files below `/console/`, read once."""

    def __init__(self, settings: HttpSettings, *, needs_token: bool) -> None:
        self._config = {"price_per_hour": settings.price_per_hour, "needs_token": needs_token}
        folder = resources.files("bridge.web").joinpath("page")
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.page),
            web.get("/console/config.json", self.config),
            web.get("/console/{name}", self.file),
        ]

    async def page(self, request: web.Request) -> web.Response:
        return self._serve(request, PAGE)

    async def file(self, request: web.Request) -> web.Response:
        return self._serve(request, request.match_info["name"])

    async def config(self, _: web.Request) -> web.Response:
        return web.json_response(self._config)

    def _serve(self, request: web.Request, name: str) -> web.Response:
        content = self._files.get(name)
        content_type = next((kind for ending, kind in TYPES.items() if name.endswith(ending)), None)
        if content is None or content_type is None:
            raise web.HTTPNotFound
        tag = hashlib.sha256(content).hexdigest()[:16]
        headers = {
            "Cache-Control": "no-cache",
            "ETag": f'"{tag}"',
            "Content-Security-Policy": POLICY,
            "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        }
        if f'"{tag}"' in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=headers)
        response = web.Response(body=content, content_type=content_type, charset="utf-8", headers=headers)
        response.enable_compression()
        return response
