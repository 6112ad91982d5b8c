"""Several streams on one port: whose packets are the leg's.

A new SSRC is believed at once: a sender may change it at any time (RFC 3550 section 8.2), and does after transfers. One
that was left and comes back in between the packets of the present one is a second stream (SSRC multiplexing, RFC 7866
section 8.3.2, or a loop): taking both would shred the audio of both. It is taken again when the present one has ended.
"""

from __future__ import annotations

from collections import OrderedDict

from bridge.rtp.packet import RtpPacket

Arrived = tuple[RtpPacket, float]
IN_A_ROW = 5  # packets without one of the present stream in between: that has ended
ENDED_AFTER = 0.2  # s without a packet of the present stream
MOST = 8  # streams that are remembered


class Rivals:
    """The streams that were left for another, and what came of one of them since."""

    def __init__(self) -> None:
        self._left: OrderedDict[int, None] = OrderedDict()
        self._waiting: list[Arrived] = []

    def leave(self, ssrc: int) -> None:
        """That stream is not the present one any more."""
        self._left[ssrc] = None
        self._left.move_to_end(ssrc)
        if len(self._left) > MOST:
            self._left.popitem(last=False)

    def knows(self, ssrc: int) -> bool:
        return ssrc in self._left

    def judge(self, packet: RtpPacket, arrival: float, *, present_at: float) -> tuple[list[Arrived], int]:
        """A packet of one that was left; the present stream was heard last at `present_at`. Answers what is to be taken
        now, all of one stream, and how many packets have just proved to be nobody's."""
        n_dropped = 0
        if self._waiting and (present_at > self._waiting[0][1] or self._waiting[0][0].ssrc != packet.ssrc):
            n_dropped = len(self._waiting)
            self._waiting = []
        self._waiting.append((packet, arrival))
        if len(self._waiting) < IN_A_ROW and arrival - present_at < ENDED_AFTER:
            return [], n_dropped
        taken, self._waiting = self._waiting, []
        self._left.pop(packet.ssrc, None)
        return taken, n_dropped

    def forget(self) -> int:
        """After an offer and answer every stream is as good as new. Answers how many packets were waiting."""
        n_waiting = len(self._waiting)
        self._left.clear()
        self._waiting = []
        return n_waiting
