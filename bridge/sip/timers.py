"""Session timers (RFC 4028): who refreshes, when, and when a session is given up."""

from __future__ import annotations

import re

from bridge.sip.dialog import Dialog
from bridge.sip.message import Request, Response
from bridge.sip.syntax import parse_params, split_outside

MIN_SE = 90  # s; RFC 4028 section 4
LEAD = 32.0  # s; the party that does not refresh ends the session so much before its end, section 10


def requested(message: Request | Response) -> tuple[int, str] | None:
    """Interval and refresher (uac, uas or empty) of Session-Expires; None without a usable one."""
    head, *params = split_outside(message.headers.get("Session-Expires"), ";")
    if not re.fullmatch(r"\d{1,9}", head):
        return None
    refresher = parse_params(params).get("refresher", "").lower()
    return int(head), refresher if refresher in ("uac", "uas") else ""


def too_small(request: Request) -> tuple[int, list[tuple[str, str]]] | None:
    """422 with our minimum (section 9)."""
    asked = requested(request)
    if asked is not None and asked[0] < MIN_SE:
        return 422, [("Min-SE", str(MIN_SE))]
    return None


def grant(dialog: Dialog, request: Request, now: float) -> list[tuple[str, str]]:
    """Sets the dialog's timer for a 2xx that we send and returns the headers for it. The interval is never raised, and
    never lowered under what they call their minimum."""
    most = dialog.longest_interval
    asked = requested(request)
    supports = "timer" in request.headers.tokens("Supported") | request.headers.tokens("Require")
    dialog.is_timer_agreed = asked is not None or (supports and most > 0)
    if asked is None:
        # without `timer` at the peer, or asked by nobody: we watch the session ourselves, and tell only who understands
        start(dialog, max(most, _min_se(request)) if most else 0, is_refresher=True, now=now)
        return [("Session-Expires", f"{dialog.interval};refresher=uas")] if dialog.interval and supports else []
    interval, refresher = asked
    if most:
        interval = min(interval, max(most, _min_se(request)))
    refresher = refresher or ("uac" if supports else "uas")
    start(dialog, interval, is_refresher=refresher == "uas", now=now)
    headers = [("Session-Expires", f"{interval};refresher={refresher}")]
    return [*headers, ("Require", "timer")] if refresher == "uac" else headers


def _min_se(message: Request | Response) -> int:
    head = message.headers.get("Min-SE").partition(";")[0].strip()
    return max(MIN_SE, int(head)) if re.fullmatch(r"\d{1,9}", head) else MIN_SE


def take_grant(dialog: Dialog, response: Response, now: float) -> None:
    """The timer that a 2xx to a request of ours set (section 7.2)."""
    granted = requested(response)
    if granted is not None:
        dialog.is_timer_agreed = True
        start(dialog, max(granted[0], MIN_SE), is_refresher=granted[1] != "uas", now=now)
    elif dialog.interval:
        start(dialog, dialog.interval, is_refresher=True, now=now)


def take_minimum(dialog: Dialog, response: Response) -> bool:
    """What a 422 to our refresh asks for at least (section 7.4). False: it asks for nothing new."""
    least = _min_se(response)
    if least <= dialog.interval:
        return False
    dialog.interval = least
    return True


def start(dialog: Dialog, interval: int, *, is_refresher: bool, now: float) -> None:
    """(Re)starts the timer; an interval of 0 stops it."""
    dialog.interval, dialog.is_refresher = interval, is_refresher
    if not interval:
        dialog.refresh_at = dialog.expires_at = None
    elif is_refresher:
        dialog.refresh_at, dialog.expires_at = now + interval / 2, now + interval
    else:
        dialog.refresh_at, dialog.expires_at = None, now + interval - min(LEAD, interval / 3)
