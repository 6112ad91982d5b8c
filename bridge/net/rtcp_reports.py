"""RTCP of all legs: a receiver report with CNAME every five seconds or so (RFC 3550 section 6; many SBCs and PBXs take
its absence for a dead peer), with it the silence of legs that said they send, and the note that is taken of what peers
send. BYE is advisory: signalling ends a leg."""

from __future__ import annotations

import heapq
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from bridge.clock import unix_ms
from bridge.errors import MalformedPacket
from bridge.model import POSITION_HZ
from bridge.net.datagrams import MediaPort, target_of
from bridge.net.rtp_silence import SentFormat, Silence
from bridge.rtp.lanes import Lanes
from bridge.rtp.rtcp import Goodbye, ReportBlock, SenderReport, parse_rtcp, report_datagram
from bridge.rtp.rtcp_timing import LastSenderReport, Reception, report_block, report_interval
from bridge.rtp.srtp import SrtpKeys, SrtpSender

log = structlog.get_logger()


@dataclass(slots=True)
class _Reporter:
    port: MediaPort
    silence: Silence
    target: tuple[str, int] | None
    is_muxed: bool = False
    own_keys: SrtpKeys | None = None
    srtp: SrtpSender | None = None
    before: Reception = field(default_factory=Reception)
    last_report: LastSenderReport | None = None
    is_open: bool = True
    clock_hz: int = POSITION_HZ


class RtcpReports:
    """`random` gives 0 to 1; `cname` must say nothing about people."""

    def __init__(
        self,
        lanes: Lanes,
        *,
        cname: str,
        random: Callable[[], float],
        source_of: Callable[[int], tuple[str, int] | None] = lambda row: None,
    ) -> None:
        """`source_of`: where a row's RTP comes from, and ours goes to."""
        self._lanes = lanes
        self._cname = cname
        self._random = random
        self._source_of = source_of
        self._reporters: dict[int, _Reporter] = {}
        self._due: list[tuple[float, int, _Reporter]] = []
        self.malformed = 0
        self.goodbyes = 0

    def open(self, row: int, port: MediaPort, now: float) -> None:
        """A leg receives RTP from now on; `media_changed` says from whom."""
        silence = Silence(int(self._random() * 0xFFFF_FFFF), sequence=int(self._random() * 0x7FFF))
        reporter = _Reporter(port, silence, None)
        self._reporters[row] = reporter
        heapq.heappush(self._due, (now + report_interval(self._random(), is_first=True), row, reporter))

    def media_changed(
        self,
        row: int,
        target: tuple[str, int] | None,
        *,
        is_muxed: bool,
        own_keys: SrtpKeys | None,
        clock_hz: int = POSITION_HZ,
    ) -> None:
        """After an offer was answered: where reports go, and under which key; None: in the clear. `clock_hz`: of the
        timestamps that come, in which jitter is told (RFC 3550 section 6.4.1)."""
        reporter = self._reporters[row]
        reporter.clock_hz = clock_hz
        reporter.is_muxed = is_muxed
        if own_keys != reporter.own_keys:  # the same key goes on with its counters: libsrtp must not start them anew
            reporter.own_keys = own_keys
            reporter.srtp = SrtpSender(own_keys) if own_keys is not None else None
        if target is not None and _is_address(target[0]):
            reporter.target = target

    def sends(self, row: int, format_: SentFormat | None) -> None:
        """Whether we told the peer that we send, and in which format our silence then is."""
        self._reporters[row].silence.format = format_

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
                self._send_silence(row, reporter, now)
                self._send(row, reporter, now)
                heapq.heappush(self._due, (now + report_interval(self._random()), row, reporter))

    def _send_silence(self, row: int, reporter: _Reporter, now: float) -> None:
        target = self._source_of(row)
        data = reporter.silence.next(now) if target is not None else None
        if target is None or data is None:
            return
        try:
            reporter.port.rtp.sendto(reporter.srtp.protect(data) if reporter.srtp is not None else data, target)
        except (OSError, OverflowError, ValueError) as error:
            log.debug("silence not sent", reason=str(error))

    def _send(self, row: int, reporter: _Reporter, now: float, *, is_last: bool = False) -> None:
        if reporter.target is None:
            return
        lanes = self._lanes
        blocks: tuple[ReportBlock, ...] = ()
        ssrc = int(lanes.ssrc[row])
        if lanes.received[row]:
            following = int(lanes.cycles[row]) << 16 | (int(lanes.first_word[row]) & 0xFFFF)
            highest = max(following - 1, 0)  # not each half by itself: just after a wrap the cycle is one ahead
            received = int(lanes.received[row] - lanes.received_before[row])
            reception = Reception(
                expected=max(highest - int(lanes.first_sequence[row]) + 1, received), received=received
            )
            jitter = float(lanes.jitter[row]) * reporter.clock_hz
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
        further = (Goodbye((reporter.silence.ssrc,)),) if is_last else ()
        data = report_datagram(reporter.silence.report(blocks, now, unix_ms()), self._cname, further=further)
        sock = reporter.port.rtp if reporter.is_muxed else reporter.port.rtcp
        try:
            if reporter.srtp is not None:
                data = reporter.srtp.protect_rtcp(data)
            sock.sendto(data, target_of(sock, reporter.target))
        except (OSError, OverflowError, ValueError) as error:  # one leg's bad target or key must not stop the tick
            log.debug("rtcp not sent", reason=str(error))


def _is_address(host: str) -> bool:
    """A name in an SDP is not looked up: that would stop every call. The peer's own RTCP shows where it is."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
