"""What `sip.listen` says."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """One entry of `sip.listen`."""

    transport: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.transport}:{host}:{self.port}"


def parse_listen(text: str) -> ListenAddress:
    """`udp|tcp|tls:address:port`, IPv6 in brackets. Raises ValueError with a sentence for the user."""
    transport, _, rest = text.partition(":")
    host, _, port = rest.rpartition(":")
    host = host.strip("[]")
    if transport not in ("udp", "tcp", "tls"):
        raise ValueError(f"{text}: must start with udp:, tcp: or tls:")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text}: has no port")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text}: {host or 'nothing'} is not an IP address") from None
    return ListenAddress(transport, host, int(port))
