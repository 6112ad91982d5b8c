from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import MalformedPacket, SdpError
from bridge.rtp.packet import RtpPacket, parse_rtp
from bridge.rtp.rtcp import ReceiverReport, report_datagram
from bridge.rtp.srtp import (
    REBUILD_AFTER,
    REBUILD_QUIET,
    SUITES,
    CryptoLine,
    SrtpKeys,
    SrtpReceiver,
    SrtpSender,
    choose_crypto,
    format_crypto,
    fresh_keys,
    parse_crypto,
)

PTIME = 0.02
EACH_SUITE = pytest.mark.parametrize("suite", SUITES)
KEY_30 = base64.b64encode(bytes(range(30))).decode()


def keys(suite: str = "AES_CM_128_HMAC_SHA1_80", seed: int = 1) -> SrtpKeys:
    return fresh_keys(suite, random.Random(seed).randbytes)


def packet(sequence: int, ssrc: int = 0xABCD) -> bytes:
    return RtpPacket(0, sequence & 0xFFFF, sequence * 160 & 0xFFFF_FFFF, ssrc, b"voice" * 32).build()


# -- a=crypto ---------------------------------------------------------------------------------------------------------


def test_a_line_of_rfc_4568_is_read() -> None:
    line = parse_crypto("1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj|2^20")

    assert (line.tag, line.keys.suite, line.lifetime) == (1, "AES_CM_128_HMAC_SHA1_80", 1 << 20)
    assert line.keys.key_and_salt == base64.b64decode("d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj")


@EACH_SUITE
def test_what_we_write_we_read(suite: str) -> None:
    line = parse_crypto(format_crypto(7, keys(suite)))

    assert line == CryptoLine(7, keys(suite))


def test_base64_without_its_padding_is_read() -> None:
    written = format_crypto(1, keys("AEAD_AES_128_GCM"))
    assert written.endswith("==")

    assert parse_crypto(written.rstrip("=")).keys == keys("AEAD_AES_128_GCM")


@pytest.mark.parametrize("parameters", ["KDR=0", "WSH=128", "-EXTRA=1", "WSH=64 -X"])
def test_harmless_session_parameters_are_passed_over(parameters: str) -> None:
    assert parse_crypto(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}|1000 {parameters}").lifetime == 1000


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not <tag>"),
        ("AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30, "not <tag>"),
        ("1 AES_256_CM_HMAC_SHA1_80 inline:" + KEY_30, "suite"),
        ("1 F8_128_HMAC_SHA1_80 inline:" + KEY_30, "suite"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|2^20|256:1", "MKI"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|1:0", "MKI"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|1:129", "MKI"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|2^20|2^20|1:4", "more than"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|1:4;inline:" + KEY_30 + "|2:4", "one inline key"),
        ("1 AES_CM_128_HMAC_SHA1_80 uri:" + KEY_30, "one inline key"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30[:-4], "length"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30[:-1] + "!", "base64"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|2^49", "lifetime"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|0", "lifetime"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " UNENCRYPTED_SRTP", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " UNAUTHENTICATED_SRTP", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " KDR=10", "parameter"),
    ],
)
def test_a_line_that_we_cannot_serve_is_refused_by_name_and_without_its_key(line: str, reason: str) -> None:
    with pytest.raises(SdpError, match=reason) as caught:
        parse_crypto(line)

    assert KEY_30[:8] not in str(caught.value)


def test_the_first_supported_line_is_chosen_not_the_first() -> None:
    longer = base64.b64encode(bytes(46)).decode()
    offered = [  # as PJSIP offers them
        f"1 AES_256_CM_HMAC_SHA1_80 inline:{longer}",
        f"2 AES_256_CM_HMAC_SHA1_32 inline:{longer}",
        f"3 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}",
        f"4 AES_CM_128_HMAC_SHA1_32 inline:{KEY_30}",
    ]

    chosen = choose_crypto(offered)

    assert chosen is not None
    assert (chosen.tag, chosen.keys.suite) == (3, "AES_CM_128_HMAC_SHA1_80")
    assert choose_crypto(offered[:2]) is None
    assert choose_crypto([]) is None


lines = st.builds(
    "{} {} inline:{}{}".format, st.integers(0), st.sampled_from([*SUITES]), st.text(max_size=50), st.text(max_size=9)
)


@settings(max_examples=300)
@given(st.text(max_size=80) | lines)
def test_any_text_is_a_crypto_line_or_refused(text: str) -> None:
    try:
        assert parse_crypto(text).keys.suite in SUITES
    except SdpError:
        assert choose_crypto([text]) is None


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
    assert (line.keys.mki, line.lifetime) == (b"\0\0\0\1", 1 << 20)
    sender, receiver = SrtpSender(keys(suite)), SrtpReceiver(line.keys)

    def marked(data: bytes, behind: int, mki: bytes = b"\0\0\0\1") -> bytes:
        return data[: len(data) - behind] + mki + data[len(data) - behind :]

    for n in range(65530, 65540):
        assert receiver.unprotect(marked(sender.protect(packet(n)), tag), n * PTIME) == packet(n)
    report = report_datagram(ReceiverReport(0xABCD), "x")
    assert receiver.unprotect_rtcp(marked(sender.protect_rtcp(report), rtcp_tag), 1.0) == report
    for wrong in (sender.protect(packet(65541)), marked(sender.protect(packet(65542)), tag, b"\0\0\0\2"), b"", b"\x80"):
        with pytest.raises(MalformedPacket):
            receiver.unprotect(wrong, 2.0)
