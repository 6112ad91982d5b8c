"""Which of this machine's addresses a peer can reach us by."""

from __future__ import annotations

import socket

import structlog

from bridge.clock import monotonic

FACING_FOR = 60.0  # s that an address of ours is believed to face a peer: it may move (VIP, DHCP)
MANY_PEERS = 1000
log = structlog.get_logger()


def facing_address(peer: str) -> str | None:
    """The local address from which packets to `peer` (an IP address) would leave; None: there is no route. Sends
    nothing: connecting UDP only asks the kernel."""
    family = socket.AF_INET6 if ":" in peer else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((peer, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])


class Advertised:
    """The media address told to a peer: the configured one, the bound one, or the one that faces the peer."""

    def __init__(self, configured: str, bind: str) -> None:
        self._fixed = configured or ("" if bind in ("0.0.0.0", "::", "") else bind)
        self._facing: dict[str, tuple[str, float]] = {}
        "With the time (monotonic) until which it is believed."

    def __call__(self, peer: str) -> str:
        if self._fixed or not peer:
            return self._fixed or "127.0.0.1"
        known = self._facing.get(peer)
        if known is not None and known[1] > monotonic():
            return known[0]
        if len(self._facing) >= MANY_PEERS:
            self._facing.clear()
        address = facing_address(peer)
        if address is None:
            log.warning("no address faces a peer; set rtp.advertise", reason="no route")
            address = "127.0.0.1"
        self._facing[peer] = (address, monotonic() + FACING_FOR)
        return address
