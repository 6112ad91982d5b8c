"""Settings from environment variables: `CALLBRIDGE_SECTION__KEY`, and what looks like one and sets nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PREFIX = "CALLBRIDGE_"
OF_KUBERNETES = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
"""What it sets in every pod about a Service that is named callbridge, or callbridge-something. The variable that ends
in _PORT and nothing else holds an address there."""


def overlay(tables: dict[str, Any], environ: Mapping[str, str], problems: list[str]) -> None:
    """Puts what `environ` says over `tables`; what is wrong is appended to `problems`."""
    for name, value in environ.items():
        if name.startswith(PREFIX) and "__" in name:
            keys = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if not put(tables, keys, value):
                problems.append(f"{name}: {'.'.join(keys[:-1])} is no table")


def put(tables: dict[str, Any], keys: tuple[str, ...], value: str) -> bool:
    """False: on the way there is something that is no table."""
    table = tables
    for key in keys[:-1]:
        child = table.setdefault(key, {})
        if not isinstance(child, dict):
            return False
        table = child
    table[keys[-1]] = value
    return True


def strays(environ: Mapping[str, str]) -> list[str]:
    """Variables that look like ours and set nothing."""
    ours = {name: value for name, value in environ.items() if name.startswith(PREFIX) and "__" not in name}
    return [name for name, value in ours.items() if not _is_of_kubernetes(name, value)]


def _is_of_kubernetes(name: str, value: str) -> bool:
    return OF_KUBERNETES.fullmatch(name) is not None or (name.endswith("_PORT") and "://" in value)


def misspelt(environ: Mapping[str, str], known: Mapping[str, frozenset[str]]) -> list[str]:
    """A problem for each stray that is a setting of `known` (keys by section) with one underscore for two."""
    problems = []
    for name in strays(environ):
        section, _, key = name.removeprefix(PREFIX).lower().partition("_")
        if key in known.get(section, ()):
            problems.append(f"{name}: write {PREFIX}{section.upper()}__{key.upper()}")
    return problems
