"""Settings: every problem at once, and defaults that work."""

from __future__ import annotations

import socket
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import RedisSettings, RtpSettings, Settings, load, parse, read_tables
from bridge.environment import strays
from bridge.errors import ConfigError
from bridge.ingress.contract import CallOffer
from bridge.plans import plan_for
from bridge.preflight import check_machine, check_settings


def test_no_file_and_no_environment_is_a_working_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={}) == Settings()


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[redis]\nurl = "redis://a"\nprefix = "p"\n[stt.deepgram]\nmodel = "nova-2"\n')
    environ = {"CALLBRIDGE_REDIS__URL": "redis://b", "DEEPGRAM_API_KEY": "k", "CALLBRIDGE_GATE__MUSIC": "false"}
    settings = load(file, environ)
    assert (settings.redis.url, settings.redis.prefix, settings.gate.music) == ("redis://b", "p", False)
    assert settings.stt.providers["deepgram"] == {"model": "nova-2", "api_key": "k"}


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(
        '[gate]\nmode = "loud"\npreroll = 3\n[rtp]\nports = [5, 4]\n[service]\nmax_legs = "many"\n[nonsense]\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    told = "\n".join(caught.value.problems)
    for where in ("gate.mode", "gate.preroll", "rtp.ports", "service.max_legs", "nonsense"):
        assert where in told
    assert len(caught.value.problems) == 5


def test_a_file_that_is_no_toml_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "broken.toml"
    file.write_text("[gate\n")
    with pytest.raises(ConfigError, match=r"broken\.toml: not valid TOML"):
        load(file, {})


@given(
    st.dictionaries(
        st.text(max_size=12),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8),
            lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text(max_size=8), child, max_size=3),
        ),
        max_size=5,
    )
)
def test_no_table_makes_parsing_raise(tables: dict[str, Any]) -> None:
    problems: list[str] = []
    settings = parse(tables | {"gate": tables, "stt": tables}, problems)
    assert isinstance(settings, Settings)


def test_a_missing_key_an_unknown_provider_and_a_wrong_route_stand_in_one_list() -> None:
    problems: list[str] = []
    tables: dict[str, Any] = {
        "stt": {"provider": "deepgram", "fallback": ["acme"]},
        "route": [{"match": {"too": "x"}, "gate": {"mode": "loud"}}],
        "redis": {"url": "http://x"},
    }
    check_settings(tables, problems)
    told = "\n".join(problems)
    for part in ("stt.deepgram.api_key: missing", "'acme'", "route[0].match.too", "route[0].gate.mode", "redis.url"):
        assert part in told


ROUTES: dict[str, Any] = {
    "stt": {"deepgram": {"api_key": "k", "model": "nova-3"}},
    "route": [
        {"match": {"to": "+1800*", "header": {"x-queue": "bill*"}}, "labels": {"queue": "billing"}},
        {
            "match": {"to": "+1800*"},
            "stt": {"language": "es", "deepgram": {"model": "nova-2"}},
            "gate": {"mode": "hold"},
        },
        {"match": {"aor": "bob@*"}, "stt": {"language": "fr"}},
        {"match": {"source": "192.0.2.0/24"}, "stt": {"language": "de"}},
    ],
}


@pytest.mark.parametrize(
    ("offer", "language", "mode", "labels"),
    [
        (CallOffer("sip", (), to="sip:+18005551234@host;x=1"), "es", "hold", {}),
        (
            CallOffer("sip", (), to="sip:+18005551234@host", headers={"x-queue": "billing"}),
            "en",
            "speech",
            {"queue": "billing"},
        ),
        (CallOffer("siprec", (), to="sip:1@h", aors=("sip:bob@biloxi.com",)), "en", "speech", {}),
        (CallOffer("siprec", (), to="sip:1@h", aors=("bob@biloxi.com",)), "fr", "speech", {}),
        (CallOffer("sip", ()), "en", "speech", {}),
        (CallOffer("sip", (), source="192.0.2.7"), "de", "speech", {}),
        (CallOffer("sip", (), source="192.0.3.7"), "en", "speech", {}),
    ],
)
def test_the_first_route_that_matches_changes_the_settings(
    offer: CallOffer, language: str, mode: str, labels: dict[str, str]
) -> None:
    problems: list[str] = []
    settings = check_settings(ROUTES, problems)
    assert problems == []
    plan = plan_for(offer, settings)
    assert (plan.stt.language, plan.gate.mode, plan.labels) == (language, mode, labels)
    assert plan.stt.providers["deepgram"]["api_key"] == "k"


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("[sip]\nusers = { bob = 1234 }", "sip.users.bob: must be text"),
        ("[[route]]\nlabels = { queue = 5 }", "route[0].labels.queue: must be text"),
        ("[[route]]\nsip = { answer = 'sendonly' }", "route[0].sip.answer: must be one of sendrecv, recvonly"),
        ("[[route]]\nsip = { users = {} }", "route[0].sip.users: no such setting"),
        ("[[route]]\nmatch = { to = 5 }", "route[0].match.to: must be text"),
        ("[[route]]\nmatch = { header = 'x' }", "route[0].match.header: must be text"),
        ("[[route]]\nmatch = { header = { a = 1 } }", "route[0].match.header.a: must be text"),
        ("[[route]]\nstt = { chunk_ms = 40 }", "route[0].stt.chunk_ms: is the same for all calls"),
        ("[stt]\nchunk_ms = 5000", "stt.chunk_ms: must be at most 1000"),
        ("[service]\nmax_legs = inf", "service.max_legs: must be a number"),
        ("[service]\ndrain_s = nan", "service.drain_s: must be a number"),
        ("stt = 'deepgram'", "stt: must be a table"),
        ("[sip]\nallow = ['office']", "sip.allow: office is not an address or network"),
        ("[sip]\nclient_ca = 'nowhere.pem'", "sip.client_ca: no such file"),
        ("[[route]]\nmatch = { source = '10.0.0.0/33' }", "route[0].match.source: 10.0.0.0/33 is no network"),
    ],
)
def test_what_would_only_fail_at_a_call_is_told_at_the_start(table: str, problem: str) -> None:
    problems: list[str] = []
    check_settings(tomllib.loads(table), problems)
    assert problem in problems


def test_a_certificate_that_serve_could_not_load_is_told_by_the_check(tmp_path: Path) -> None:
    certificate = tmp_path / "http.pem"
    certificate.write_text("no certificate")
    problems: list[str] = []
    check_settings({"http": {"certificate": str(certificate)}}, problems)
    assert any(problem.startswith("http.certificate: ") for problem in problems), problems


def test_the_default_stands_in_for_a_value_out_of_range_so_that_all_problems_can_be_told() -> None:
    problems: list[str] = []
    settings = parse({"log": {"level": "loud"}, "gate": {"mode": "loud", "preroll_ms": -1}}, problems)
    assert (settings.log, settings.gate) == (Settings().log, Settings().gate)
    assert len(problems) == 3


@pytest.mark.parametrize(
    "written", ['["udp:127.0.0.1:5060", "tcp:127.0.0.1:5060"]', "udp:127.0.0.1:5060, tcp:127.0.0.1:5060"]
)
def test_a_list_in_the_environment_is_written_as_in_the_file_or_with_commas(written: str) -> None:
    settings = load(environ={"CALLBRIDGE_SIP__LISTEN": written, "CALLBRIDGE_RTP__PORTS": "[4000, 4999]"})
    assert settings.sip.listen == ("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")
    assert settings.rtp.ports == (4000, 4999)


@pytest.mark.parametrize("written", ['{ bob = "secret" }', '{"bob": "secret"}'])
def test_a_table_in_the_environment_is_written_as_in_the_file_or_as_json(written: str) -> None:
    assert load(environ={"CALLBRIDGE_SIP__USERS": written}).sip.users == {"bob": "secret"}


def test_a_list_of_one_text_that_only_looks_like_the_files_notation_stays_text() -> None:
    assert load(environ={"CALLBRIDGE_PRIVACY__REDACT": "[0-9]{4}"}).privacy.redact == ("[0-9]{4}",)


async def test_an_address_for_media_that_is_not_ours_is_told_before_the_first_call() -> None:
    settings = Settings(rtp=RtpSettings(bind="203.0.113.9"), redis=RedisSettings(url="redis://127.0.0.1:1/0"))
    found = [finding.text for finding in await check_machine(settings)]
    assert any(text.startswith("rtp.bind: 203.0.113.9: ") for text in found)


async def test_a_provider_that_nobody_reaches_is_told_with_its_address_and_no_secret(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        url = f"ws://us:secret@127.0.0.1:{port}/v1/listen"
        problems: list[str] = []
        tables = {
            "stt": {"deepgram": {"url": url, "api_key": "hidden"}},
            "sip": {"listen": []},
            "http": {"listen": "127.0.0.1:0"},
            "spool": {"path": str(tmp_path)},
            "redis": {"url": "redis://127.0.0.1:1"},
        }
        settings = check_settings(tables, problems)
        found = [finding.text for finding in await check_machine(settings, online=True)]
    assert problems == []
    assert f"stt.deepgram: cannot connect to 127.0.0.1:{port}: ConnectionRefusedError" in found
    assert not any("secret" in text or "hidden" in text for text in found)


def test_a_setting_in_the_environment_with_one_underscore_for_two_is_refused_with_its_name(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.toml").write_text("")
    environ = {"CALLBRIDGE_REDIS_URL": "x", "CALLBRIDGE_HTTP_LISTEN": "y"}
    _, problems = read_tables(tmp_path / "a.toml", environ)
    assert problems == [
        "CALLBRIDGE_REDIS_URL: write CALLBRIDGE_REDIS__URL",
        "CALLBRIDGE_HTTP_LISTEN: write CALLBRIDGE_HTTP__LISTEN",
    ]


def test_a_variable_below_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('log.level = "info"')
    _, problems = read_tables(tmp_path / "a.toml", {"CALLBRIDGE_LOG__LEVEL__X": "debug"})
    assert problems == ["CALLBRIDGE_LOG__LEVEL__X: log.level is no table"]


async def test_a_variable_that_sets_nothing_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBRIDGE_VERBOSE", "1")
    settings = parse({"http": {"listen": "127.0.0.1:0"}, "sip": {"listen": []}}, [])
    found = [(finding.text, finding.is_fatal) for finding in await check_machine(settings)]
    assert ("CALLBRIDGE_VERBOSE: sets nothing; a setting is CALLBRIDGE_SECTION__KEY", False) in found


def test_what_kubernetes_tells_a_pod_of_our_service_is_no_setting() -> None:
    told = """CALLBRIDGE_SERVICE_HOST CALLBRIDGE_SERVICE_PORT CALLBRIDGE_SERVICE_PORT_HTTP CALLBRIDGE_PORT
        CALLBRIDGE_PORT_8080_TCP CALLBRIDGE_PORT_8080_TCP_ADDR CALLBRIDGE_PORT_5060_UDP_PROTO
        CALLBRIDGE_HTTP_SERVICE_HOST CALLBRIDGE_HTTP_PORT_8080_TCP_PORT CALLBRIDGE_SIP_PORT"""
    environ = dict.fromkeys(told.split(), "tcp://10.0.0.1:8080")
    assert strays(environ) == []
    assert read_tables(None, environ)[1] == []
    assert strays({"CALLBRIDGE_HTTP_PORT": "8081"}) == ["CALLBRIDGE_HTTP_PORT"]
