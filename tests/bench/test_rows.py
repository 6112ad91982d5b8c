from __future__ import annotations

import pytest

from bridge.errors import ConfigError
from tests.bench.rows import MAKE_BENCH, Row, parse_row, parse_rows


def test_every_row_of_make_bench_has_a_name_that_leads_back_to_it() -> None:
    rows = parse_rows("all")
    assert [row.name for row in rows] == list(MAKE_BENCH)
    assert {row.legs for row in rows if row.codec == "PCMU"} >= {100, 300, 600, 1000, 1500}


def test_a_name_says_codec_transport_and_legs() -> None:
    assert parse_row("g722+srtp+wss-40") == Row("callbridge", 40, "G722", True, True)
    assert parse_rows("OPUS-7,start") == [Row("callbridge", 7, "OPUS"), Row("start")]


@pytest.mark.parametrize("name", ["pcmu", "pcmu-", "pcmu+tls-3", "livekit+wss-3", ""])
def test_what_is_no_row_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"row|only"):
        parse_row(name)


def test_an_unknown_codec_is_refused_with_the_names_of_those_there_are() -> None:
    with pytest.raises(ConfigError, match="PCMU"):
        parse_row("mp3-3")
