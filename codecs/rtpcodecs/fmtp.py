"""Format parameters (`a=fmtp`) as nearly all payload formats write them: `name=value;name=value`."""

from __future__ import annotations


def parameters(fmtp: str) -> dict[str, str]:
    """Lower-case names to values; a name without a value gets "". Never raises."""
    pairs = (part.partition("=") for part in fmtp.split(";"))
    return {name.strip().lower(): value.strip() for name, _, value in pairs if name.strip()}
