"""Addresses of peers that name themselves by host name in Contact or Record-Route (RFC 3263, the part a server needs).

A name with a port, or without SRV records, is looked up as the system does (hosts file, then A and AAAA); one without a
port first as SRV of the flow's transport. Lookups never block the loop; answers, empty ones too, are kept for a while.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable

import dns.asyncresolver
import dns.exception
import structlog
from dns.rdtypes.IN.SRV import SRV

from bridge.clock import monotonic

log = structlog.get_logger()
Address = tuple[str, int]
KEPT = 60.0  # s; peers change addresses rarely, and a dialog's requests come in bursts
KEPT_EMPTY = 10.0  # s
TIMEOUT = 4.0  # s for a whole lookup; a request is given up after 32
MAX_NAMES = 1000
UNKNOWN: Address = ("", -1)
MAX_LOOKUPS = 32
"At once; a peer on the allow-list may invent names."
SERVICES = {"udp": "_sip._udp.", "tcp": "_sip._tcp.", "tls": "_sips._tcp."}  # RFC 3263 section 4.1


class SipNames:
    """A small cache in front of the resolvers."""

    def __init__(self, *, resolver: Callable[[], dns.asyncresolver.Resolver] = dns.asyncresolver.Resolver) -> None:
        """`resolver` makes the one for SRV, when it is first needed; that of /etc/resolv.conf."""
        self._make_resolver = resolver
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._known: dict[tuple[str, str, int, bool], tuple[Address | None, float]] = {}
        self._n_running = 0

    def known(self, transport: str, host: str, port: int, *, is_v6: bool) -> Address | None:
        """The address as looked up lately; None: there is none; UNKNOWN: it is to be looked up. `port` 0: not given."""
        found, until = self._known.get((transport, host.lower(), port, is_v6), (UNKNOWN, 0.0))
        return found if monotonic() < until else UNKNOWN

    async def look_up(self, transport: str, host: str, port: int, *, is_v6: bool) -> Address | None:
        """An address of the family that the flow's socket has; None where there is none, or too much is asked."""
        if self._n_running >= MAX_LOOKUPS:
            return None
        self._n_running += 1
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self._find(transport, host, port, is_v6=is_v6)
        except TimeoutError:
            found = None
        finally:
            self._n_running -= 1
        if len(self._known) >= MAX_NAMES:
            self._known.clear()
        until = monotonic() + (KEPT if found is not None else KEPT_EMPTY)
        self._known[transport, host.lower(), port, is_v6] = (found, until)
        return found

    async def _find(self, transport: str, host: str, port: int, *, is_v6: bool) -> Address | None:
        targets = [(host, port)] if port else await self._services(transport, host)
        default = 5061 if transport == "tls" else 5060
        family = socket.AF_INET6 if is_v6 else socket.AF_INET
        loop = asyncio.get_running_loop()
        for name, number in targets or [(host, default)]:
            try:
                infos = await loop.getaddrinfo(name, number, family=family, type=socket.SOCK_DGRAM)
            except (OSError, UnicodeError):  # UnicodeError: no name at all, such as one with empty labels
                continue
            if infos:
                return str(infos[0][4][0]), int(infos[0][4][1])
        return None

    async def _services(self, transport: str, host: str) -> list[Address]:
        """SRV targets in the order in which they are to be tried (RFC 2782)."""
        try:
            if self._resolver is None:
                self._resolver = self._make_resolver()
            answer = await self._resolver.resolve(SERVICES[transport] + host, "SRV", lifetime=TIMEOUT / 2, search=False)
        except (dns.exception.DNSException, OSError, ValueError):
            return []
        records = [record for record in answer if isinstance(record, SRV) and str(record.target) != "."]
        records.sort(key=lambda record: (record.priority, -(random.random() ** (1 / max(record.weight, 0.01)))))
        return [(str(record.target).rstrip("."), int(record.port)) for record in records]
