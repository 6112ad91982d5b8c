"""RTCP of all legs: a receiver report with CNAME every five seconds or so (RFC 3550 section 6; many SBCs and PBXs take
its absence for a dead peer), and the note that is taken of what peers send. BYE is advisory: signalling ends a leg."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from bridge.errors import MalformedPacket
from bridge.model import POSITION_HZ
from bridge.net.datagrams import MediaPort
from bridge.rtp.lanes import Lanes
from bridge.rtp.rtcp import Goodbye, ReceiverReport, ReportBlock, SenderReport, parse_rtcp, report_datagram
from bridge.rtp.rtcp_timing import LastSenderReport, Reception, report_block, report_interval

log = structlog.get_logger()


@dataclass(slots=True)
class _Reporter:
    port: MediaPort
    ssrc: int
    target: tuple[str, int] | None
    is_muxed: bool
    is_secure: bool
    before: Reception = field(default_factory=Reception)
    last_report: LastSenderReport | None = None
    is_open: bool = True


class RtcpReports:
    """`random` gives 0 to 1; `cname` must say nothing about people."""

    def __init__(self, lanes: Lanes, *, cname: str, random: Callable[[], float]) -> None:
        self._lanes = lanes
        self._cname = cname
        self._random = random
        self._reporters: dict[int, _Reporter] = {}
        self._due: list[tuple[float, int, _Reporter]] = []
        self.malformed = 0
        self.goodbyes = 0

    def open(self, row: int, port: MediaPort, now: float) -> None:
        """A leg receives RTP from now on; `media_changed` says from whom."""
        reporter = _Reporter(port, int(self._random() * 0xFFFF_FFFF), None, False, False)
        self._reporters[row] = reporter
        heapq.heappush(self._due, (now + report_interval(self._random(), is_first=True), row, reporter))

    def media_changed(self, row: int, remote: tuple[str, int] | None, *, is_muxed: bool, is_secure: bool) -> None:
        """After an offer was answered: where reports go. `remote` is the peer's RTP address."""
        reporter = self._reporters[row]
        reporter.is_muxed = is_muxed
        reporter.is_secure = is_secure
        if remote is not None:
            reporter.target = (remote[0], remote[1] + (0 if is_muxed else 1))

    def close(self, row: int, now: float) -> None:
        """The leg ends: a last report with BYE."""
        reporter = self._reporters.pop(row, None)
        if reporter is not None:
            self._send(row, reporter, now, is_last=True)
            reporter.is_open = False

    def receive(self, row: int, data: bytes, source: tuple[str, int], now: float) -> None:
        """RTCP that arrived for a leg. Its source is where our reports go from now on (RFC 4961)."""
        reporter = self._reporters.get(row)
        if reporter is None:
            return
        try:
            packets = parse_rtcp(data).packets
        except MalformedPacket:
            self.malformed += 1
            return
        reporter.target = source
        for packet in packets:
            if isinstance(packet, SenderReport):
                reporter.last_report = LastSenderReport.of(packet, now)
            elif isinstance(packet, Goodbye):
                self.goodbyes += 1

    def run(self, now: float) -> None:
        """Every tick: sends what is due."""
        while self._due and self._due[0][0] <= now:
            _, row, reporter = heapq.heappop(self._due)
            if reporter.is_open:
                self._send(row, reporter, now)
                heapq.heappush(self._due, (now + report_interval(self._random()), row, reporter))

    def _send(self, row: int, reporter: _Reporter, now: float, *, is_last: bool = False) -> None:
        if reporter.target is None or reporter.is_secure:  # our SRTCP key is the ingress's own: see README, limits
            return
        lanes = self._lanes
        blocks: tuple[ReportBlock, ...] = ()
        ssrc = int(lanes.ssrc[row])
        if lanes.received[row]:
            highest = int(lanes.cycles[row]) << 16 | ((int(lanes.first_word[row]) - 1) & 0xFFFF)
            received = int(lanes.received[row])
            reception = Reception(
                expected=max(highest - int(lanes.first_sequence[row]) + 1, received), received=received
            )
            jitter = float(lanes.jitter[row]) * POSITION_HZ
            block = report_block(
                ssrc,
                reception,
                before=reporter.before,
                highest_sequence=highest,
                jitter=jitter,
                last_report=reporter.last_report,
                now=now,
            )
            reporter.before = reception
            blocks = (block,)
        further = (Goodbye((reporter.ssrc,)),) if is_last else ()
        data = report_datagram(ReceiverReport(reporter.ssrc, blocks), self._cname, further=further)
        sock = reporter.port.rtp if reporter.is_muxed else reporter.port.rtcp
        try:
            sock.sendto(data, reporter.target)
        except OSError as error:
            log.debug("rtcp not sent", reason=error.strerror)
