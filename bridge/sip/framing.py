"""Cutting a TCP or TLS stream into SIP messages by Content-Length (RFC 3261 section 18.3)."""

from __future__ import annotations

import re

from bridge.sip.message import MAX_BODY_BYTES, MAX_HEAD_BYTES

CONTENT_LENGTH = re.compile(rb"(?:^|\r\n)(?:content-length|l)[ \t]*:[ \t]*(\d{1,7})[ \t]*(?=\r\n|$)", re.IGNORECASE)
MAX_PENDING_BYTES = MAX_HEAD_BYTES + MAX_BODY_BYTES + 4


class BrokenStreamError(ValueError):
    """Where the next message starts can no longer be told: the connection must be closed."""


class StreamFramer:
    """One connection's bytes. `feed` gives whole messages, an empty one for each keep-alive ping (RFC 5626 3.5.1)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._needed = 0
        "Bytes without which looking again is useless."

    def feed(self, data: bytes) -> list[bytes]:
        """Messages completed by `data`. Raises BrokenStreamError."""
        self._buffer += data
        messages: list[bytes] = []
        while len(self._buffer) >= max(self._needed, 1):
            message = self._next()
            if message is None:
                break
            messages.append(message)
        return messages

    @property
    def n_pending_bytes(self) -> int:
        """Bytes of a message that is not complete yet."""
        return len(self._buffer)

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            if buffer.startswith(b"\r\n\r\n"):
                del buffer[:4]
                return b""
            if len(buffer) >= 3 and not buffer.startswith(b"\r\n\r"):
                del buffer[:2]  # a lone CRLF before a message is legal (7.5)
                return self._next()
            return None
        end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES + 4)
        if end < 0:
            if len(buffer) > MAX_HEAD_BYTES:
                raise BrokenStreamError("headers too large")
            return None
        lengths = set(CONTENT_LENGTH.findall(bytes(buffer[:end])))
        if len(lengths) != 1:
            raise BrokenStreamError("no usable Content-Length")
        total = end + 4 + int(lengths.pop())
        if total > MAX_PENDING_BYTES:
            raise BrokenStreamError("body too large")
        if len(buffer) < total:
            self._needed = total
            return None
        message = bytes(buffer[:total])
        del buffer[:total]
        self._needed = 0
        return message
