"""The ACK to a refusal, made of the INVITE's own lines (RFC 3261 17.1.1.3)."""

from __future__ import annotations

from bridge.sip.message import Response, serialise


def ack_of_failure(invite: bytes, response: Response) -> bytes:
    """ACK to a non-2xx: the INVITE's own branch and route, the response's To (17.1.1.3)."""
    lines = dict_lines(invite)
    start = invite.split(b"\r\n", 1)[0].decode().replace("INVITE ", "ACK ", 1)
    headers = [
        ("Via", lines["via"]),
        *([("Route", lines["route"])] if "route" in lines else []),
        ("Max-Forwards", "70"),
        ("From", lines["from"]),
        ("To", response.headers.get("To")),
        ("Call-ID", lines["call-id"]),
        ("CSeq", f"{response.cseq} ACK"),
    ]
    return serialise(start, headers)


def dict_lines(request: bytes) -> dict[str, str]:
    """Header lines of a message of our own, equal names joined by commas."""
    lines: dict[str, str] = {}
    for line in request.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        key = name.lower()
        lines[key] = f"{lines[key]}, {value}" if key in lines else value
    return lines
