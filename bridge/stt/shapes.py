"""Reading JSON that others wrote, without trusting it: a wrong type is a default, never an exception."""

from __future__ import annotations

import json
import math
from typing import Any

MAX_TIME = 1e7
"""s; no stream lasts longer. What is beyond is nonsense, and would only break arithmetic."""


def parse_object(message: str | bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        value = json.loads(message)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def as_dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def as_text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def as_time(value: Any) -> float | None:
    """Seconds from 0, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and 0 <= number <= MAX_TIME else None


def as_share(value: Any) -> float:
    """A confidence: 0 to 1, 0 for anything that is none."""
    number = as_time(value)
    return 0.0 if number is None else min(number, 1.0)
