"""When RTCP is sent and what its numbers are (RFC 3550 sections 6.2, 6.3 and appendix A.3), all as plain functions."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.rtp.rtcp import ReportBlock, SenderReport

MEAN_INTERVAL = 5.0  # s; the fixed minimum of section 6.2, which one leg's 5 % of bandwidth never exceeds
NTP_EPOCH = 2_208_988_800  # s from 1900 to 1970 (section 4)


def report_interval(random: float, *, is_first: bool = False) -> float:
    """Seconds until the next report. `random` is uniform in 0 to 1 and spreads it over 0.5 to 1.5 of the mean, so that
    peers do not fall into step; the first comes after half (section 6.2).

    Two members for the whole session: timer reconsideration, and with it the division by e - 3/2, has nothing to do.
    """
    mean = MEAN_INTERVAL / 2 if is_first else MEAN_INTERVAL
    return mean * (0.5 + random)


@dataclass(frozen=True, slots=True)
class Reception:
    """Packets of one source, counted from its first one on."""

    expected: int = 0
    "Extended highest sequence number - first one + 1."
    received: int = 0
    "Late and duplicate ones included (appendix A.3)."


@dataclass(frozen=True, slots=True)
class LastSenderReport:
    """What must be kept of a sender report to answer it."""

    lsr: int
    arrived: float

    @classmethod
    def of(cls, report: SenderReport, now: float) -> LastSenderReport:
        """`report`, which arrived at `now` (monotonic seconds)."""
        return cls(report.lsr, now)


def report_block(
    ssrc: int,
    reception: Reception,
    *,
    before: Reception,
    highest_sequence: int,
    jitter: float,
    last_report: LastSenderReport | None,
    now: float,
) -> ReportBlock:
    """The block about one source. `before` is the reception at the previous report; `highest_sequence` is unwrapped and
    `jitter` in RTP timestamp units."""
    expected = reception.expected - before.expected
    lost = expected - (reception.received - before.received)
    fraction = min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
    total = max(-0x80_0000, min(0x7F_FFFF, reception.expected - reception.received))
    lsr, dlsr = (last_report.lsr, _dlsr(now - last_report.arrived)) if last_report else (0, 0)
    clipped_jitter = max(0, min(0xFFFF_FFFF, int(jitter)))
    return ReportBlock(ssrc, fraction, total, highest_sequence & 0xFFFF_FFFF, clipped_jitter, lsr, dlsr)


def _dlsr(delay: float) -> int:
    return max(0, min(0xFFFF_FFFF, int(delay * 65536)))


def round_trip(block: ReportBlock, ntp_time: int) -> float | None:
    """Seconds to the reporter and back (section 6.4.1), for the sender of the report that `block` answers; `ntp_time`
    is the moment of its arrival. None where it answers none."""
    if not block.lsr:
        return None
    units = (((ntp_time >> 16) & 0xFFFF_FFFF) - block.lsr - block.dlsr) & 0xFFFF_FFFF
    return units / 65536 if units < 0x8000_0000 else 0.0  # clocks that disagree by a hair must not say 18 hours


def ntp_time(unix_ms: int) -> int:
    """The 64 bit NTP time of a wall clock (`bridge.clock.unix_ms`), for sender reports."""
    seconds, ms = divmod(unix_ms, 1000)
    return ((seconds + NTP_EPOCH) & 0xFFFF_FFFF) << 32 | (ms << 32) // 1000
