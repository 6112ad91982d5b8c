"""TLS of a client over bytes that somebody else moves: OpenSSL between two memory buffers.

The event loops' own TLS keeps a read buffer of 256 kB for each connection, touched from its first byte on; a thousand
legs would hold a quarter of a gigabyte of them. This one holds what OpenSSL needs, about a tenth of that.
"""

from __future__ import annotations

import ssl

READ_BYTES = 16384  # one TLS record, at most (RFC 8446 section 5.1)


class TlsClient:
    """One connection. After each call send what `take_outgoing` answers."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        """Raises ValueError for a host name that is none."""
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.is_ready = False
        "Whether the handshake is over: the peer is who it should be."
        self.is_over = False
        "Whether the peer has said that nothing more comes."

    def start(self) -> None:
        """Says hello."""
        self._go_on()

    def receive(self, data: bytes) -> bytes:
        """What the peer has said in `data`. Raises ssl.SSLError, which SSLCertVerificationError is one of; not where
        words came before what is wrong: these are answered, and `is_over`."""
        self._incoming.write(data)
        if not self.is_ready:
            self._go_on()
        parts: list[bytes] = []
        try:
            while self.is_ready:
                part = self._tls.read(READ_BYTES)
                if not part:
                    self.is_over = True
                    break
                parts.append(part)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            if not parts and not isinstance(error, ssl.SSLZeroReturnError):
                raise
            self.is_over = True
        return b"".join(parts)

    def send(self, data: bytes) -> None:
        """To the peer; only once `is_ready`. Raises ssl.SSLError."""
        self._tls.write(data)

    def close(self) -> None:
        """Says that nothing more comes (close_notify). The peer's own is not waited for."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # it wants the peer's, or there never was a connection

    def take_outgoing(self) -> bytes:
        """Bytes for the wire."""
        return self._outgoing.read()

    def _go_on(self) -> None:
        try:
            self._tls.do_handshake()
            self.is_ready = True
        except ssl.SSLWantReadError:
            pass
