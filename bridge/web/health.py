"""Alive, ready, and the numbers."""

from __future__ import annotations

from aiohttp import web

from bridge.metrics import Metrics
from bridge.web.contract import Calls


class Health:
    """`/healthz` says that the loop turns; `/readyz` that new calls would do well here."""

    def __init__(self, calls: Calls, metrics: Metrics) -> None:
        self._calls = calls
        self._metrics = metrics

    def routes(self, *, with_metrics: bool) -> list[web.RouteDef]:
        routes = [web.get("/healthz", self.alive), web.get("/readyz", self.ready)]
        return [*routes, web.get("/metrics", self.metrics)] if with_metrics else routes

    async def alive(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def ready(self, _: web.Request) -> web.Response:
        status = self._calls.status()
        checks = {
            "not_draining": not status.get("is_draining", False),
            "sink_writable": bool(status.get("sink_writable", True)),
            "sip_bound": bool(status.get("sip_bound", True)),
        }
        is_ready = all(checks.values())
        body = {"status": "ready" if is_ready else "not ready", "checks": checks}
        return web.json_response(body, status=200 if is_ready else 503)

    async def metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.text(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
