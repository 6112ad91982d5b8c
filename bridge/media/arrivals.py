"""A batch of datagrams as the sockets hand it to the plane."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bridge.rtp.latch import Address

DATAGRAM_BYTES = 2048  # longer than any Ethernet datagram; longer ones are cut by the kernel and dropped by us


def packed_address(address: Address) -> NDArray[np.uint64]:
    """[3]: the IPv6 address, an IPv4 one mapped into it (RFC 4291 section 2.5.5.2), and the port: what a batch is
    compared by."""
    ip = ipaddress.ip_address(address[0])
    host = ip.packed if ip.version == 6 else b"\0" * 10 + b"\xff\xff" + ip.packed
    return np.frombuffer(host + address[1].to_bytes(2, "big") + bytes(6), np.uint64)


def address_of(packed: NDArray[np.uint64]) -> Address:
    """An IPv4 peer is named as its SDP does, whatever socket it reached us by."""
    return _address_of(packed.tobytes())


@functools.lru_cache(4096)
def _address_of(data: bytes) -> Address:
    ip = ipaddress.IPv6Address(data[:16])
    return str(ip.ipv4_mapped or ip), int.from_bytes(data[16:18], "big")


@dataclass(slots=True)
class Arrivals:
    """Datagrams 0..n-1; each leg's row occurs at most once per kind (RTP, RTCP)."""

    data: NDArray[np.uint8]
    "[at least n, DATAGRAM_BYTES]; as `lengths` and `sources` valid until the next batch is read."
    rows: NDArray[np.int64]
    lengths: NDArray[np.int64]
    times: NDArray[np.float64]
    "Monotonic seconds at which the kernel got each."
    sources: NDArray[np.uint64]
    "[n, 3]: see `packed_address`."
    is_rtcp: NDArray[np.bool_]
    "Came in on an RTCP port."

    @classmethod
    def of(cls, datagrams: Sequence[tuple[int, bytes, float]], source: Address) -> Self:
        """Row, datagram and arrival of each; RTP, all from one `source`."""
        n = len(datagrams)
        data = np.zeros((max(n, 1), DATAGRAM_BYTES), np.uint8)
        lengths = np.zeros(n, np.int64)
        for at, (_, datagram, _) in enumerate(datagrams):
            lengths[at] = length = min(len(datagram), DATAGRAM_BYTES)
            data[at, :length] = np.frombuffer(datagram, np.uint8, length)
        rows = np.array([row for row, _, _ in datagrams], np.int64)
        times = np.array([at for _, _, at in datagrams], np.float64)
        return cls(data, rows, lengths, times, np.tile(packed_address(source), (n, 1)), np.zeros(n, bool))

    def __len__(self) -> int:
        return len(self.rows)

    def datagram(self, n: int) -> bytes:
        """A copy."""
        return self.data[n, : self.lengths[n]].tobytes()

    def heads(self) -> dict[int, float]:
        """When the RTP of each row arrived: nothing of that row which arrived earlier is still to be read."""
        rtp = ~self.is_rtcp
        return dict(zip(self.rows[rtp].tolist(), self.times[rtp].tolist(), strict=True))
