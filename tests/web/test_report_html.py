from __future__ import annotations

from html.parser import HTMLParser

from bridge.publish.report import Report, build
from bridge.web.report_html import as_html
from tests.web.conftest import FakeCalls
from tests.web.stage import Actor

EVIL = "<script>alert(1)</script>\" onload='x'"


class Reader(HTMLParser):
    """Tags, their attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def played(from_: str = "+1 555 0100") -> Report:
    calls = FakeCalls()
    actor = Actor(calls, "call-1", begun_s=200.0)
    actor.start(from_, "+1 800")
    for due in actor.play():
        actor.advance(max(due, actor.at))
    return build(calls.stored)


def test_the_file_has_lanes_ledger_transcript_and_what_was_not_spent() -> None:
    read = Reader(as_html(played(), price_per_hour=0.46))
    rects = [attributes for tag, attributes in read.tags if tag == "rect"]
    assert sum(attributes.get("fill") == "url(#hold)" for attributes in rects) == 2
    assert sum(attributes.get("class") == "f-words" for attributes in rects) == 10
    for text in (
        "+1 555 0100 → +1 800",
        "hold 22 s",
        "Withheld: paused",
        "Not spent",
        "1:40 long",
        "I have credited it back",
    ):
        assert text in read.text, text


def test_what_a_provider_bills_for_its_stream_is_not_told_as_saved() -> None:
    report = played()
    for leg in report.legs.values():
        leg.ledger.update({"received_s": 3600.0, "withheld_s": {"hold": 1800.0}, "billable_s": 1800.0})
    assert "1.000" in Reader(as_html(report, price_per_hour=1.0)).text, "Deepgram: what was withheld, of two legs"
    for leg in report.legs.values():
        leg.ledger["billable_s"] = 3240.0
    assert "0.200" in Reader(as_html(report, price_per_hour=1.0)).text, "Soniox: what its streams were shorter"
    for leg in report.legs.values():
        leg.ledger["billable_s"] = 4000.0
    assert "0.000" in Reader(as_html(report, price_per_hour=1.0)).text


def test_nothing_is_loaded_run_or_linked_to() -> None:
    page = as_html(played())
    tags = {tag for tag, _ in Reader(page).tags}
    assert not tags & {"script", "link", "img", "iframe", "a", "form"}
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page


def test_what_a_call_brings_along_stays_text() -> None:
    report = played(EVIL)
    report.transcript[0].text = report.legs["leg1"].role = report.reason = EVIL
    report.labels["queue"] = report.call = EVIL
    read = Reader(as_html(report))
    assert "script" not in {tag for tag, _ in read.tags}
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert EVIL in read.text


def test_a_call_that_still_runs_or_never_had_legs_is_drawn_too() -> None:
    for report in (Report("x"), Report("x", duration_s=0.0, legs=played().legs)):
        assert "still running" in Reader(as_html(report)).text


def test_a_long_call_has_a_readable_axis() -> None:
    report = played()
    report.duration_s = 4 * 3600.0
    ticks = [attributes for tag, attributes in Reader(as_html(report)).tags if attributes.get("class") == "tick"]
    assert 4 <= len(ticks) <= 13
