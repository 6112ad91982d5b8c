"""Responses: built by copying the request's own lines (RFC 3261 section 8.2.6), and where they go (18.2, RFC 3581)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bridge.sip.events import Body, Flow
from bridge.sip.message import Request, serialise
from bridge.sip.syntax import split_outside

REASONS = {
    100: "Trying", 180: "Ringing", 183: "Session Progress", 200: "OK", 400: "Bad Request", 401: "Unauthorized",
    403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable", 408: "Request Timeout",
    413: "Request Entity Too Large", 415: "Unsupported Media Type", 416: "Unsupported URI Scheme", 420: "Bad Extension",
    421: "Extension Required", 422: "Session Interval Too Small", 480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist", 482: "Loop Detected", 486: "Busy Here", 487: "Request Terminated",
    488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending", 500: "Server Internal Error",
    501: "Not Implemented", 503: "Service Unavailable", 504: "Server Time-out", 505: "Version Not Supported",
    513: "Message Too Large", 603: "Decline",
}  # fmt: skip


def via_lines(request: Request, flow: Flow) -> list[str]:
    """The request's Via lines with `received` and `rport` filled into the topmost (18.2.1, RFC 3581 section 4)."""
    lines = request.headers.lines("Via")
    top, *rest = split_outside(lines[0], ",")
    host, port = flow.remote
    if "rport" in request.via.params:
        head, *params = split_outside(top, ";")
        kept = [param for param in params if param.partition("=")[0].strip().lower() not in ("rport", "received")]
        top = ";".join([head, *kept, f"rport={port}", f"received={host}"])
    elif request.via.host.strip("[]").lower() != host.lower():
        head, *params = split_outside(top, ";")
        kept = [param for param in params if param.partition("=")[0].strip().lower() != "received"]
        top = ";".join([head, *kept, f"received={host}"])
    return [", ".join([top, *rest]), *lines[1:]]


def response_flow(request: Request, flow: Flow) -> Flow:
    """Back over the same connection; on UDP to the source, its port only with `rport` (18.2.2)."""
    if flow.is_reliable or "rport" in request.via.params:
        return flow
    return flow._replace(remote=(flow.remote[0], request.via.port or 5060))


def response_address(request: Request, flow: Flow) -> tuple[str, int] | None:
    """Where to connect for a response whose connection is gone: the source's address and the port that Via names
    (18.2.2). None on UDP."""
    if not flow.is_reliable:
        return None
    return flow.remote[0], request.via.port or (5061 if flow.transport == "tls" else 5060)


def build(
    request: Request,
    status: int,
    *,
    vias: Sequence[str],
    to_tag: str = "",
    headers: Sequence[tuple[str, str]] = (),
    body: Body | None = None,
    reason: str = "",
) -> bytes:
    """A response. `to_tag` is added where the request has none, never to 100."""
    to = request.headers.get("To")
    if to and to_tag and status > 100 and not request.to.tag:
        to += f";tag={to_tag}"
    copied = [("From", request.headers.get("From")), ("To", to), ("Call-ID", request.call_id)]
    lines = [
        *(("Via", via) for via in vias),
        *(line for line in copied if line[1]),  # a 400 may answer a request that lacks them
        ("CSeq", request.headers.get("CSeq")),
    ]
    if 100 < status < 300 and request.method == "INVITE":
        lines += [("Record-Route", route) for route in request.headers.lines("Record-Route")]
    if body:
        lines.append(("Content-Type", body.content_type))
    start = f"SIP/2.0 {status} {reason or REASONS.get(status, 'Unknown')}"
    return serialise(start, [*lines, *headers], body.content if body else b"")


def stateless_tag(request: Request) -> str:
    """The same To tag for every repeat of a request, without keeping anything (8.2.7)."""
    text = "\0".join((request.call_id, request.headers.get("From"), request.headers.get("CSeq"), request.via.branch))
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()
