"""What all WebRTC sessions of a process share: sockets, lanes, reports. One beat reads, reports and forgets."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from bridge.config import RtpSettings
from bridge.errors import CapacityError
from bridge.net.ice_sockets import IceSockets
from bridge.net.rtcp_reports import RtcpReports
from bridge.rtp.lanes import Lanes


@dataclass(slots=True)
class Seats:
    """Rows of the lanes."""

    free: list[int] = field(default_factory=list)

    def take(self) -> int:
        """Raises CapacityError."""
        if not self.free:
            raise CapacityError("no free WebRTC session")
        return self.free.pop()


class SharedMedia:
    """`capacity` sessions."""

    def __init__(self, rtp: RtpSettings, *, capacity: int) -> None:
        self.rtp = rtp
        self.sockets = IceSockets(first=rtp.ports[0], last=rtp.ports[-1])
        self.lanes = Lanes(capacity)
        self.seats = Seats(list(range(capacity - 1, -1, -1)))
        self.reports = RtcpReports(self.lanes, cname="callbridge", random=random.random)

    def beat(self, now: float) -> None:
        """Every 20 ms."""
        self.sockets.read()
        self.lanes.advance(now)
        self.reports.run(now)

    def close(self) -> None:
        """After the last session."""
        self.sockets.close()
