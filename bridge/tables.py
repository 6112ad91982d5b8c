"""Tables of TOML, made into dataclasses: every unknown key and wrong type is told, not only the first. What may stand
where, the dataclass's annotations say. Environment variables bring text for everything, and that is understood too."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Check = Callable[[str, Any, list[str]], None]
"""Adds to the problems what is wrong with a value of the right type; told its path, such as `rtp.jitter_ms`."""


def from_table(kind: type[T], table: Mapping[str, Any], path: str, problems: list[str], *, check: Check) -> T:
    """A `kind` from `table`. What is wrong is added to `problems`, each prefixed with its path below `path`, and the
    default stands in for it."""
    hints = typing.get_type_hints(kind)
    known = {f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{path}.{key}" if path else key
        if key not in known:
            problems.append(f"{where}: no such setting")
            continue
        try:
            converted = _convert(hints[key], value, where, problems, check)
        except (TypeError, ValueError) as error:
            problems.append(f"{where}: {error}")
            continue
        n_before = len(problems)
        check(where, converted, problems)
        if len(problems) == n_before:
            values[key] = converted
    return kind(**values)


def _convert(hint: Any, value: Any, where: str, problems: list[str], check: Check) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TypeError("must be a table")
        return from_table(typing.cast("type[Any]", hint), value, where, problems, check=check)
    origin = typing.get_origin(hint)
    if origin is types.UnionType or origin is typing.Union:
        return value
    if origin is tuple:
        return _convert_list(typing.get_args(hint)[0], value, where, problems, check)
    if origin is dict:
        if isinstance(value, str):
            value = _written_out(value, dict)
        if not isinstance(value, Mapping):
            raise TypeError("must be a table")
        item = typing.get_args(hint)[1]
        return {key: _convert_entry(item, entry, f"{where}.{key}", problems) for key, entry in value.items()}
    return _convert_scalar(hint, value)


def _convert_entry(item: Any, value: Any, where: str, problems: list[str]) -> Any:
    """One value of a table whose keys are the user's own; a wrong one is told by its key and left as it is."""
    if item is str and not isinstance(value, str):
        problems.append(f"{where}: must be text")
    return value


def _convert_list(item: Any, value: Any, where: str, problems: list[str], check: Check) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = _written_out(value, list)
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise TypeError("must be a list")
    return tuple(_convert(item, entry, f"{where}[{n}]", problems, check) for n, entry in enumerate(value))


def _written_out(text: str, kind: type[Any]) -> Any:
    """What `text` says in the file's notation (or in JSON, which differs for tables) where that is a `kind`, else the
    text itself: `["udp:127.0.0.1:5060"]` in the environment is the same list as in the file."""
    with contextlib.suppress(ValueError, RecursionError):
        value = tomllib.loads(f"value = {text}")["value"]
        return value if isinstance(value, kind) else text
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        return value if isinstance(value, kind) else text
    return text


def _convert_scalar(hint: Any, value: Any) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in ("true", "1", "yes", "on"):
            return True
        if str(value).lower() in ("false", "0", "no", "off"):
            return False
        raise TypeError("must be true or false")
    if hint in (int, float):
        if isinstance(value, bool):
            raise TypeError("must be a number")
        try:
            number = hint(value)
        except (ValueError, OverflowError):  # OverflowError: TOML knows inf
            raise TypeError("must be a number") from None
        if number != number:  # nan, which no bound refuses
            raise TypeError("must be a number")
        return number
    if hint is str:
        if not isinstance(value, str):
            raise TypeError("must be text")
        return value
    return value
