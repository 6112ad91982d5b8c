"""Whose packets are taken: symmetric RTP (RFC 4961) that no stranger can steal (RFC 7362 section 4)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

Address = tuple[str, int]
REBIND_AFTER = 2.0  # s without packets before another port of the same host is believed (NAT rebinding)
SENDS_ON = 3000  # packets, a minute of 20 ms: what is further on in sequence is another stream (RFC 3550 A.1)


class Stream(NamedTuple):
    """RTP of a call that had the port before."""

    source: Address
    ssrc: int
    next_seq: int
    "Sequence number of what would have come next."


class Latch:
    """The source of one leg's RTP.

    The first packet after signalling gives the source; a packet from the signalled host replaces a latch on another
    host, one from the very address that was signalled a latch on anything.
    Afterwards only signalling (`reopen`) lets a new host in. `foreign` counts what was turned away.
    """

    def __init__(self, signalled: Address | None, *, left: Collection[Stream] = ()) -> None:
        """`left`: streams of calls that had the port before. A phone that has not heard of its call's end sends on, and
        what it says is not the next call's: it is turned away unless signalling names its source. Whoever begins anew
        with the same source and SSRC is not: some senders always have the same."""
        self._signalled = signalled
        self._left = left
        self.source: Address | None = None
        self._last = 0.0
        self._may_move = False
        self.foreign = 0

    def reopen(self, signalled: Address | None) -> None:
        """After a re-offer: the present source stays good until a packet from a new one arrives."""
        if signalled != self._signalled:
            self._may_move = True
        self._signalled = signalled

    def is_left_over(self, source: Address, ssrc: int, seq: int) -> bool:
        """Whether a packet goes on with a call that had the port before. Counts it as foreign."""
        if source in (self._signalled, self.source):
            return False
        is_left = any(
            (source, ssrc) == (left.source, left.ssrc) and (seq - left.next_seq) & 0xFFFF < SENDS_ON
            for left in self._left
        )
        self.foreign += is_left
        return is_left

    def heard(self, at: float) -> None:
        """Packets of the present source came until `at` that `admits` was not asked about."""
        self._last = max(self._last, at)

    def admits(self, source: Address, now: float) -> bool:
        """Whether a valid packet from `source` belongs to this leg; may move the latch."""
        if source == self.source:
            self._last = now
            return True
        if self.source is None or self._may_take_over(source, now):
            self.source = source
            self._may_move = False
            self._last = now
            return True
        self.foreign += 1
        return False

    def admits_rtcp(self, source: Address) -> bool:
        """Whether unprotected RTCP from `source` is believed: its port may be any, its host must be known."""
        hosts = {address[0] for address in (self.source, self._signalled) if address is not None}
        if self.source is None or source[0] in hosts:
            return True
        self.foreign += 1
        return False

    def _may_take_over(self, source: Address, now: float) -> bool:
        assert self.source is not None
        if self._may_move or source == self._signalled:
            return True
        signalled = self._signalled
        if signalled is not None and self.source[0] != signalled[0] and source[0] == signalled[0]:
            return True
        return source[0] == self.source[0] and now - self._last > REBIND_AFTER
