"""Key presses in INFO: Cisco's application/dtmf-relay (`Signal=5`, `Duration=160`) and the bare application/dtmf.
No RFC has either; every PBX sends one."""

from __future__ import annotations

from bridge.sip.message import Request

DIGITS = "0123456789*#ABCD"
DEFAULT_MS = 250  # what senders that say nothing mean
LONGEST_MS = 60_000


def pressed(request: Request) -> tuple[str, int] | None:
    """Digit and milliseconds; None for an INFO that tells of no key."""
    if request.content_type not in ("application/dtmf-relay", "application/dtmf"):
        return None
    lines = request.body[:256].decode("ascii", "replace").splitlines()
    pairs = (line.partition("=") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    digit = fields.get("signal") or (lines[0].strip() if lines and "=" not in lines[0] else "")
    digit = {"10": "*", "11": "#"}.get(digit, digit).upper()
    if len(digit) != 1 or digit not in DIGITS:
        return None
    said = fields.get("duration", "")
    duration_ms = int(said) if said.isascii() and said.isdecimal() and len(said) <= 5 else DEFAULT_MS
    return digit, min(duration_ms, LONGEST_MS)
