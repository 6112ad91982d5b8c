from __future__ import annotations

import re

from bridge.web.openapi import PROBLEMS, document
from tests.web.conftest import Site

UNDOCUMENTED = {"/", "/console/{name}", "/console/config.json"}


async def test_the_document_names_exactly_the_routes_that_are_served(site: Site) -> None:
    routes: dict[str, set[str]] = {}
    for route in site.server._app.router.routes():
        resource = route.resource
        assert resource is not None
        path = re.sub(r"\{(\w+):[^}]*\}", r"{\1}", resource.canonical)
        if route.method not in ("HEAD", "OPTIONS") and path not in UNDOCUMENTED:
            routes.setdefault(path, set()).add(route.method.lower())
    _, served = await site.ask("GET", "/openapi.json")
    told = {path: set(item) - {"parameters"} for path, item in served["paths"].items()}
    assert told == routes


def test_every_reference_resolves_and_every_path_parameter_is_described() -> None:
    api = document(needs_token=True)
    for reference in re.findall(r"#/components/schemas/(\w+)", str(api)):
        assert reference in api["components"]["schemas"]
    for path, item in api["paths"].items():
        named = {parameter["name"] for parameter in item.get("parameters", []) if parameter["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_security_is_asked_for_only_where_tokens_are_set() -> None:
    assert document(needs_token=True)["security"] == [{"bearer": []}]
    assert document(needs_token=False)["security"] == []
    assert document(needs_token=True)["paths"]["/healthz"]["get"]["security"] == []


def test_every_problem_has_a_sentence() -> None:
    assert all(text.endswith(".") for text in PROBLEMS.values())
