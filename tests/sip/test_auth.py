"""Digest: the RFC's own vectors, replay, expiry, and what must not be let in."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.sip.auth import NONCE_LIFE, DigestServer, Verdict, digest, digest_params
from bridge.sip.message import Request, parse

URI = "sip:srs@192.0.2.9"


def server() -> DigestServer:
    return DigestServer({"sbc": "s3cret", "naïve": "pässword"}, realm="callbridge", secret=b"0123456789abcdef")


def invite(authorization: str = "") -> Request:
    line = f"Authorization: {authorization}\r\n" if authorization else ""
    message = parse(
        f"INVITE {URI} SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n"
        f"Call-ID: 1\r\nCSeq: 1 INVITE\r\n{line}\r\n".encode()
    )
    assert isinstance(message, Request)
    return message


def credentials(
    challenge: tuple[str, str],
    *,
    user: str = "sbc",
    password: str = "s3cret",
    nc: str = "00000001",
    qop: str = "auth",
    uri: str = URI,
) -> str:
    params = digest_params(challenge[1])
    response = digest(
        params["algorithm"], username=user, realm=params["realm"], password=password, method="INVITE", uri=uri,
        nonce=params["nonce"], nc=nc if qop else "", cnonce="c" if qop else "", qop=qop,
    )  # fmt: skip
    counted = f', qop={qop}, nc={nc}, cnonce="c"' if qop else ""
    return (
        f'Digest username="{user}", realm="{params["realm"]}", nonce="{params["nonce"]}", uri="{uri}", '
        f'algorithm={params["algorithm"]}, response="{response}"{counted}'
    )


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_vectors_of_rfc_7616_section_3_9_1(algorithm: str, expected: str) -> None:
    assert expected == digest(
        algorithm, username="Mufasa", realm="http-auth@example.org", password="Circle of Life", method="GET",
        uri="/dir/index.html", nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc="00000001",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop="auth",
    )  # fmt: skip


def test_the_challenge_prefers_sha_256_and_offers_md5() -> None:
    algorithms = [digest_params(value)["algorithm"] for _, value in server().challenge(1.0)]
    assert algorithms == ["SHA-256", "MD5"]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("qop", ["auth", ""])
def test_the_right_password_is_good_in_each_algorithm_with_and_without_qop(which: int, qop: str) -> None:
    digests = server()
    answer = credentials(digests.challenge(100.0)[which], qop=qop)
    assert digests.check(invite(answer), 101.0) is Verdict.GOOD


def test_names_beyond_ascii_are_utf_8() -> None:
    digests = server()
    answer = credentials(digests.challenge(100.0)[0], user="naïve", password="pässword")
    assert digests.check(invite(answer), 101.0) is Verdict.GOOD


@pytest.mark.parametrize(
    "change", [{"password": "wrong"}, {"user": "nobody"}, {"uri": ""}, {"user": "nobody", "password": ""}]
)
def test_what_is_wrong_is_bad(change: dict[str, str]) -> None:
    digests = server()
    assert digests.check(invite(credentials(digests.challenge(100.0)[0], **change)), 101.0) is Verdict.BAD


def test_a_nonce_of_somebody_else_is_bad() -> None:
    other = DigestServer({"sbc": "s3cret"}, realm="callbridge", secret=b"another secret..")
    assert server().check(invite(credentials(other.challenge(100.0)[0])), 101.0) is Verdict.BAD


def test_an_old_nonce_is_stale_and_one_from_the_future_too() -> None:
    digests = server()
    answer = invite(credentials(digests.challenge(1000.0)[0]))
    assert digests.check(answer, 1000.0 + NONCE_LIFE + 1) is Verdict.STALE
    assert digests.check(answer, 900.0) is Verdict.STALE


def test_each_count_serves_once_in_any_order_within_the_window() -> None:
    digests = server()
    challenge = digests.challenge(100.0)[0]
    counts = ["00000003", "00000001", "00000002", "00000050"]
    for nc in counts:
        assert digests.check(invite(credentials(challenge, nc=nc)), 101.0) is Verdict.GOOD
    for nc in [*counts, "00000000"]:
        assert digests.check(invite(credentials(challenge, nc=nc)), 101.0) is Verdict.STALE
    assert digests.check(invite(credentials(challenge, nc="00000100")), 101.0) is Verdict.GOOD
    assert digests.check(invite(credentials(challenge, nc="00000004")), 101.0) is Verdict.STALE


@given(value=st.text(max_size=300))
def test_any_header_is_judged_bad(value: str) -> None:
    request = invite()
    request.headers._index["authorization"] = [f"Digest {value}"]
    assert server().check(request, 1.0) is Verdict.BAD


def test_four_hundred_parameters_take_no_time() -> None:
    request = invite()
    request.headers._index["authorization"] = ["Digest " + ",".join(f'a{n}="x"' for n in range(400))]
    start = time.process_time()
    assert server().check(request, 1.0) is Verdict.BAD
    assert time.process_time() - start < 0.01
