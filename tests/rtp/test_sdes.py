from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import SdpError
from bridge.rtp.sdes import CryptoLine, choose_crypto, format_crypto, parse_crypto
from bridge.rtp.srtp import SUITES, SrtpKeys, fresh_keys

EACH_SUITE = pytest.mark.parametrize("suite", SUITES)
KEY_30 = base64.b64encode(bytes(range(30))).decode()


def keys(suite: str = "AES_CM_128_HMAC_SHA1_80", seed: int = 1) -> SrtpKeys:
    return fresh_keys(suite, random.Random(seed).randbytes)


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


@pytest.mark.parametrize("parameters", ["KDR=0", "WSH=128", "-EXTRA=1", "WSH=64 -X", "wsh=64"])
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
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|1:4;inline:" + KEY_30 + "|1:4", "told apart|MKI"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|1:4;inline:" + KEY_30 + "|2:2", "one length"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + ";inline:" + KEY_30, "MKI"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|1:4;", "inline"),
        ("1 AES_CM_128_HMAC_SHA1_80 " + ";".join(f"inline:{KEY_30}|{n}:4" for n in range(17)), "too many"),
        ("1 AES_CM_128_HMAC_SHA1_80 uri:" + KEY_30, "only inline"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30[:-4], "length"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30[:-1] + "!", "base64"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|2^49", "lifetime"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + "|0", "lifetime"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " UNENCRYPTED_SRTP", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " UNAUTHENTICATED_SRTP", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " KDR=10", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " UNENCRYPTED_SRTCP", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " FEC_ORDER=SRTP_FEC", "parameter"),
        ("1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY_30 + " WSH=64 FEC_KEY=inline:" + KEY_30, "parameter"),
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


def test_a_line_with_what_we_do_not_serve_is_passed_over_for_the_next() -> None:
    """RFC 4568 section 6.3.10: a parameter that is not served is a reason to refuse that line, not the stream."""
    key = f"AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}"
    offered = [f"1 {key} KDR=4", f"2 {key} UNENCRYPTED_SRTP", f"3 {key} FEC_ORDER=FEC_SRTP", f"4 {key};inline:{KEY_30}"]
    assert choose_crypto(offered) is None
    chosen = choose_crypto([*offered, f"5 {key}|2^31 WSH=1024"])
    assert chosen is not None
    assert chosen.tag == 5


def test_several_keys_of_one_line_are_read_with_their_mkis() -> None:
    other = base64.b64encode(bytes(range(1, 31))).decode()
    line = parse_crypto(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_30}|2^20|1:4;inline:{other}|2^19|66051:4")
    assert (line.keys.mki, line.lifetime) == (b"\0\0\0\1", 1 << 20)
    assert [(key.mki, key.key_and_salt) for key in line.keys.further] == [(b"\0\1\2\3", bytes(range(1, 31)))]


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
