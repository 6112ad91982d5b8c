"""What may stand behind the `?` of a request: what the OpenAPI document says, and nothing that would be ignored."""

from __future__ import annotations

import re
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from bridge.web.problems import problem

CHECKED = ("/v1/", "/whip")  # elsewhere probes and scrapers add what they like


class Parameters:
    """`document`: OpenAPI."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._known = {
            (path, method.upper()): {each["name"]: each["schema"] for each in _given(item, method)}
            for path, item in document["paths"].items()
            for method in item.keys() - {"parameters"}
            if path.startswith(CHECKED)
        }

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        wrong = self._wrong(request)
        return await handler(request) if wrong is None else problem(400, wrong)

    def _wrong(self, request: web.Request) -> str | None:
        """What is wrong with the query, as a sentence."""
        resource = request.match_info.route.resource
        path = "" if resource is None else re.sub(r"\{(\w+):[^}]*\}", r"{\1}", resource.canonical)
        known = self._known.get((path, "GET" if request.method == "HEAD" else request.method))
        if known is None:
            return None
        for name in request.query:
            if name not in known:
                return f"Unknown parameter {name[:32]!r}. There is {' and '.join(known) or 'none'} here."
            if len(request.query.getall(name)) > 1:
                return f"{name} is there more than once."
        return next(
            (f"{name} is {known[name]['title']}." for name in request.query if not _fits(request, name, known)), None
        )


def _fits(request: web.Request, name: str, known: dict[str, Any]) -> bool:
    value, schema = request.query[name], known[name]
    if schema["type"] == "integer":
        is_number = value.isascii() and value.isdigit() and len(value) <= 9
        return is_number and schema["minimum"] <= int(value) <= schema["maximum"]
    if "enum" in schema:
        return value in schema["enum"]
    return re.fullmatch(schema["pattern"].strip("^$"), value) is not None


def _given(item: dict[str, Any], method: str) -> list[dict[str, Any]]:
    given = [*item.get("parameters", []), *item[method].get("parameters", [])]
    return [each for each in given if each["in"] == "query"]
