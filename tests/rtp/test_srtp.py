from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedPacket
from bridge.rtp.packet import RtpPacket, parse_rtp
from bridge.rtp.rtcp import ReceiverReport, report_datagram
from bridge.rtp.sdes import format_crypto, parse_crypto
from bridge.rtp.srtp import (
    MOST_ROLL_OVERS,
    OLD_KEYS_FOR,
    REBUILD_AFTER,
    REBUILD_QUIET,
    SUITES,
    SrtpKeys,
    SrtpReceiver,
    SrtpSender,
    fresh_keys,
)

PTIME = 0.02
EACH_SUITE = pytest.mark.parametrize("suite", SUITES)


def keys(suite: str = "AES_CM_128_HMAC_SHA1_80", seed: int = 1) -> SrtpKeys:
    return fresh_keys(suite, random.Random(seed).randbytes)


def packet(sequence: int, ssrc: int = 0xABCD) -> bytes:
    return RtpPacket(0, sequence & 0xFFFF, sequence * 160 & 0xFFFF_FFFF, ssrc, b"voice" * 32).build()


def rolled_over(under: SrtpKeys, turns: int, sequence: int) -> SrtpSender:
    """A sender whose sequence number has wrapped `turns` times and is about to be `sequence`."""
    sender = SrtpSender(under)
    sender.protect(packet(0xFFFF))
    for n in range(1, turns + 1):
        for at in (0x5554, 0xAAA8, 0xFFFF):
            if n < turns or at < sequence:
                sender.protect(packet(at))
    return sender


# -- packets ----------------------------------------------------------------------------------------------------------


@EACH_SUITE
def test_rtp_and_rtcp_arrive_as_they_were_sent(suite: str) -> None:
    sender, receiver = SrtpSender(keys(suite)), SrtpReceiver(keys(suite))
    report = report_datagram(ReceiverReport(0xABCD), "x")

    for n in range(200):
        assert receiver.unprotect(sender.protect(packet(n)), n * PTIME) == packet(n)
        assert receiver.unprotect_rtcp(sender.protect_rtcp(report), n * PTIME) == report
    assert (receiver.failures, receiver.rebuilds) == (0, 0)


@EACH_SUITE
def test_nothing_readable_goes_over_the_wire(suite: str) -> None:
    assert b"voice" not in SrtpSender(keys(suite)).protect(packet(1))


@EACH_SUITE
def test_forged_replayed_and_unprotected_packets_are_refused_and_counted(suite: str) -> None:
    sender, receiver = SrtpSender(keys(suite)), SrtpReceiver(keys(suite))
    good = sender.protect(packet(1))
    receiver.unprotect(good, 0.0)
    forged = good[:20] + bytes((good[20] ^ 1,)) + good[21:]
    stranger = SrtpSender(keys(suite, seed=2)).protect(packet(2))

    for n, bad in enumerate((good, forged, stranger, packet(2), b"", b"\x80", bytes(2000)), start=1):
        with pytest.raises(MalformedPacket):
            receiver.unprotect(bad, 0.0)
        assert receiver.failures == n
    assert receiver.unprotect(sender.protect(packet(2)), 0.0) == packet(2)


def test_a_new_source_needs_no_new_context() -> None:
    sender, receiver = SrtpSender(keys()), SrtpReceiver(keys())
    for n, ssrc in enumerate((1, 1, 2, 1, 2)):
        receiver.unprotect(sender.protect(packet(n, ssrc)), 0.0)

    assert receiver.rebuilds == 0


def test_sequence_numbers_may_wrap() -> None:
    sender, receiver = SrtpSender(keys()), SrtpReceiver(keys())
    for n in range(65500, 65600):
        data = receiver.unprotect(sender.protect(packet(n)), n * PTIME)
        assert parse_rtp(data).sequence == n & 0xFFFF


@pytest.mark.parametrize("restart_at", [100, 39_000])
def test_a_peer_that_restarts_is_heard_again_within_a_second(restart_at: int) -> None:
    receiver = SrtpReceiver(keys())
    sender = SrtpSender(keys())
    now = 0.0
    for n in range(40_000, 40_100):
        receiver.unprotect(sender.protect(packet(n)), now)
        now += PTIME
    sender = SrtpSender(keys())  # the same key, counting from the beginning
    restarted = now
    heard = None
    for n in range(restart_at, restart_at + 100):
        try:
            receiver.unprotect(sender.protect(packet(n)), now)
            heard = heard or now
        except MalformedPacket:
            pass
        now += PTIME

    assert heard is not None
    assert heard - restarted <= REBUILD_AFTER * PTIME + 2 * PTIME
    assert receiver.rebuilds == 1
    assert receiver.failures == REBUILD_AFTER


def test_junk_never_replaces_the_context_of_a_running_stream() -> None:
    """With a roll-over behind it a fresh context could not read the stream any more: this would cut the call off."""
    sender, receiver = SrtpSender(keys()), SrtpReceiver(keys())
    junk = SrtpSender(keys(seed=2)).protect(packet(1))
    old = sender.protect(packet(65_000))
    receiver.unprotect(old, 0.0)
    now = 0.0
    for n in range(65_001, 66_001):
        receiver.unprotect(sender.protect(packet(n)), now)
        for bad in [junk, old] * REBUILD_AFTER if n % 100 == 0 else []:
            with pytest.raises(MalformedPacket):
                receiver.unprotect(bad, now)
        now += PTIME

    assert receiver.rebuilds == 0
    now += 10 * REBUILD_QUIET
    for _ in range(10 * REBUILD_AFTER):  # not in a pause either
        with pytest.raises(MalformedPacket):
            receiver.unprotect(junk, now)
    assert receiver.rebuilds == 0
    assert receiver.unprotect(sender.protect(packet(66_001)), now) == packet(66_001)


def test_the_sender_refuses_what_is_no_packet() -> None:
    sender = SrtpSender(keys())

    for bad in (b"", b"\x80", bytes(1500)):
        with pytest.raises(ValueError, match=r"."):
            sender.protect(bad)


def test_keys_of_the_wrong_length_or_suite_are_refused() -> None:
    for wrong in (SrtpKeys("AEAD_AES_256_GCM", bytes(30)), SrtpKeys("AES_256_CM_HMAC_SHA1_80", bytes(46))):
        with pytest.raises(ValueError, match="SRTP"):
            SrtpReceiver(wrong)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=1600), max_size=30))
def test_any_junk_is_malformed(junk: list[bytes]) -> None:
    receiver = SrtpReceiver(keys())
    for n, data in enumerate(junk):
        for unprotect in (receiver.unprotect, receiver.unprotect_rtcp):
            with pytest.raises(MalformedPacket):
                unprotect(data, n * 1.0)


# -- behind the wrap of the sequence number ---------------------------------------------------------------------------


@EACH_SUITE
def test_a_stream_that_is_first_heard_behind_its_wrap_is_heard_at_once(suite: str) -> None:
    sender, receiver = SrtpSender(keys(suite)), SrtpReceiver(keys(suite))
    sent = [(n, sender.protect(packet(n))) for n in range(65530, 65536 + 40)]
    for n, data in sent[12:]:
        assert receiver.unprotect(data, n * PTIME) == packet(n)
    assert receiver.failures == 0
    with pytest.raises(MalformedPacket):
        receiver.unprotect(sent[12][1], 9e9)


def test_another_stream_of_the_same_peer_keeps_its_count() -> None:
    sender, receiver = SrtpSender(keys()), SrtpReceiver(keys())
    for n in range(65500, 65536 + 40):
        receiver.unprotect(sender.protect(packet(n, ssrc=1)), 1.0)
    late = [sender.protect(packet(n, ssrc=2)) for n in range(65535, 65536 + 10)][5:]
    assert receiver.unprotect(late[0], 2.0)
    assert receiver.unprotect(sender.protect(packet(65536 + 40, ssrc=1)), 2.0)


def test_junk_does_not_lead_a_context_astray() -> None:
    sender, receiver = SrtpSender(keys()), SrtpReceiver(keys())
    stranger = SrtpSender(keys(seed=2))
    for n in range(100):
        with pytest.raises(MalformedPacket):
            receiver.unprotect(stranger.protect(packet(n)), n * 0.001)
    assert receiver.unprotect(sender.protect(packet(7)), 1.0) == packet(7)


@EACH_SUITE
@pytest.mark.parametrize("sequence", [0, 9, 0x5555, 0x5556, 0x8000, 0xAAAA, 0xAAAB, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("turns", [1, 2, 7])
def test_a_stream_that_is_first_heard_many_wraps_late_is_heard_at_once(suite: str, sequence: int, turns: int) -> None:
    sender, receiver = rolled_over(keys(suite), turns, sequence), SrtpReceiver(keys(suite))
    for n in range(5):
        number = turns * 65536 + sequence + n
        assert receiver.unprotect(sender.protect(packet(number)), n * PTIME) == packet(number)
    assert receiver.failures == 0


def test_the_latest_that_is_found_is_a_day_late() -> None:
    for turns, is_found in ((MOST_ROLL_OVERS, True), (MOST_ROLL_OVERS + 1, False)):
        sender, receiver = rolled_over(keys(), turns, 100), SrtpReceiver(keys())
        data = sender.protect(packet(100))
        if is_found:
            assert receiver.unprotect(data, 0.0) == packet(100)
        else:
            with pytest.raises(MalformedPacket):
                receiver.unprotect(data, 0.0)


@pytest.mark.parametrize("turns", [0, 2])
def test_a_stream_that_went_on_unheard_for_hours_is_heard_again_within_a_second(turns: int) -> None:
    """Sent to music on hold meanwhile: the same source, the same key, some wraps later."""
    receiver, sender = SrtpReceiver(keys()), rolled_over(keys(), turns, 1) if turns else SrtpSender(keys())
    for n in range(50):
        receiver.unprotect(sender.protect(packet(n)), n * PTIME)
    later, now, heard = rolled_over(keys(), turns + 3, 30_000), 4000.0, []
    for n in range(60):
        try:
            receiver.unprotect(later.protect(packet(30_000 + n)), now)
            heard.append(n)
        except MalformedPacket:
            pass
        now += PTIME
    assert heard == list(range(REBUILD_AFTER, 60))


def test_a_replay_from_an_earlier_turn_is_never_taken() -> None:
    """It is authentic: only the context knows that it is old."""
    receiver = SrtpReceiver(keys())
    sender = rolled_over(keys(), 1, 200)
    captured = [sender.protect(packet(n)) for n in range(200, 300)]
    running = rolled_over(keys(), 3, 500)
    now = 0.0
    for n in range(500, 700):
        assert receiver.unprotect(running.protect(packet(n)), now) == packet(n)
        with pytest.raises(MalformedPacket):
            receiver.unprotect(captured[n % 100], now)
        now += PTIME
    for data in captured[: REBUILD_AFTER - 1]:  # nor at once in a pause
        with pytest.raises(MalformedPacket):
            receiver.unprotect(data, now + 5.0)
    assert receiver.rebuilds == 0


def test_junk_makes_nobody_search_for_long() -> None:
    receiver, junk = SrtpReceiver(keys()), SrtpSender(keys(seed=2)).protect(packet(1))

    def cost(n_packets: int, start: float) -> float:
        began = time.thread_time()
        for n in range(n_packets):
            with pytest.raises(MalformedPacket):
                receiver.unprotect(junk, start + n / n_packets)
        return time.thread_time() - began

    cost(100, 0.0)
    assert min(cost(1000, float(second)) for second in range(2, 8)) < 0.25  # s of CPU for 1000 packets a second


# -- other keys -------------------------------------------------------------------------------------------------------


def marked(data: bytes, mki: bytes, behind: int = 10) -> bytes:
    return data[: len(data) - behind] + mki + data[len(data) - behind :]


def test_a_peer_may_change_between_its_keys_at_any_packet() -> None:
    """RFC 4568 section 6.1. The sequence, and how often it wrapped, go on (RFC 3711 section 3.3.1)."""
    offered = f"{format_crypto(1, keys())}|2^20|1:4;{format_crypto(1, keys(seed=2)).split()[2]}|2^20|2:4"
    line = parse_crypto(offered)
    receiver = SrtpReceiver(line.keys)
    one = SrtpSender(keys())
    for n in range(65_500, 65_600):
        assert receiver.unprotect(marked(one.protect(packet(n)), b"\0\0\0\1"), n * PTIME) == packet(n)
    two = rolled_over(keys(seed=2), 1, 64)
    for n in range(65_600, 65_650):
        assert receiver.unprotect(marked(two.protect(packet(n)), b"\0\0\0\2"), n * PTIME) == packet(n)
    late = marked(one.protect(packet(65_601)), b"\0\0\0\1")  # reordered around the change: still good
    assert receiver.unprotect(late, 65_650 * PTIME) == packet(65_601)
    for wrong in (marked(one.protect(packet(65_602)), b"\0\0\0\2"), marked(two.protect(packet(65_651)), b"\0\0\0\3")):
        with pytest.raises(MalformedPacket):
            receiver.unprotect(wrong, 2000.0)
    assert receiver.rebuilds == 0


def test_packets_under_the_keys_before_are_taken_until_the_peer_has_changed() -> None:
    """It sends under the old key until it has our answer; some change it with every refresh of the session."""
    old, new = SrtpSender(keys()), SrtpSender(keys(seed=2))
    before = SrtpReceiver(keys())
    for n in range(10):
        before.unprotect(old.protect(packet(n)), n * PTIME)
    receiver = SrtpReceiver(keys(seed=2), before=before)
    for n in range(10, 30):
        assert receiver.unprotect(old.protect(packet(n)), n * PTIME) == packet(n)
    strayed = [old.protect(packet(n)) for n in (30, 31)]
    assert receiver.unprotect(new.protect(packet(32)), 32 * PTIME) == packet(32)
    assert receiver.unprotect(strayed[0], 32 * PTIME + OLD_KEYS_FOR / 2) == packet(30)
    with pytest.raises(MalformedPacket):
        receiver.unprotect(strayed[1], 32 * PTIME + OLD_KEYS_FOR)
    assert receiver.unprotect(new.protect(packet(33)), 40.0) == packet(33)
    assert (receiver.rebuilds, receiver.failures) == (0, 1)


@pytest.mark.parametrize(
    ("suite", "tag", "rtcp_tag"),
    [
        ("AES_CM_128_HMAC_SHA1_80", 10, 10),
        ("AES_CM_128_HMAC_SHA1_32", 4, 10),
        ("AEAD_AES_128_GCM", 0, 0),
        ("AEAD_AES_256_GCM", 0, 0),
    ],
)
def test_a_peers_mki_is_taken_out_of_its_packets(suite: str, tag: int, rtcp_tag: int) -> None:
    line = parse_crypto(format_crypto(1, keys(suite)) + "|2^20|1:4")
    one = b"\0\0\0\1"
    assert (line.keys.mki, line.lifetime) == (one, 1 << 20)
    sender, receiver = SrtpSender(keys(suite)), SrtpReceiver(line.keys)

    for n in range(65530, 65540):
        assert receiver.unprotect(marked(sender.protect(packet(n)), one, tag), n * PTIME) == packet(n)
    report = report_datagram(ReceiverReport(0xABCD), "x")
    assert receiver.unprotect_rtcp(marked(sender.protect_rtcp(report), one, rtcp_tag), 1.0) == report
    for wrong in (sender.protect(packet(65541)), marked(sender.protect(packet(65542)), b"\0\0\0\2", tag), b"", b"\x80"):
        with pytest.raises(MalformedPacket):
            receiver.unprotect(wrong, 2.0)
