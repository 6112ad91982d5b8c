from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import PrivacySettings
from bridge.model import Word
from bridge.publish import events
from bridge.publish.events import Event
from bridge.publish.redact import MASK, Redactor, passes_luhn

CARDS = Redactor(PrivacySettings(redact_cards=True))
VISA = "4111 1111 1111 1111"  # a well-known test number


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"it is {VISA} thanks", f"it is {MASK} thanks"),
        ("it is 4111-1111-1111-1111, ok", f"it is {MASK} ok"),
        ("4111111111111111", MASK),
        ("amex 3782 822463 10005.", f"amex {MASK}"),
        ("four one one one one one one one one one one one one one one one ok", f"{MASK} ok"),
        ("Four, oh, 4 111 1111 1111 1111", f"Four, oh, {MASK}"),
        ("my number is 4111 1111 1111 1112", "my number is 4111 1111 1111 1112"),
        ("call +49 30 1234567 at 10 30", "call +49 30 1234567 at 10 30"),
        ("0000 0000 0000 0000", "0000 0000 0000 0000"),
        ("", ""),
    ],
)
def test_card_numbers_are_masked_however_they_are_spread(text: str, masked: str) -> None:
    assert CARDS.mask(text) == masked


def test_digits_around_a_card_number_do_not_hide_it() -> None:
    assert "4111" not in CARDS.mask(f"take 2 of {VISA} 12 27")
    assert "1111" not in CARDS.mask(f"7 3 {VISA} 12 27 123")


def test_text_and_words_are_masked_alike_and_times_stay() -> None:
    words = [Word(w, n, n + 0.5, 0.9) for n, w in enumerate(["pay", "4111", "1111", "1111", "1111.", "now"])]
    event = events.transcript_final(
        "c", 0, leg="a", role="caller", text="Pay 4111 1111 1111 1111. now", start=0, end=6, utterance="u", turn=1,
        language="en", confidence=1, provider="p", words=words,
    )  # fmt: skip
    got = CARDS(event)
    assert got.text == f"Pay {MASK} now"
    assert [word[0] for word in got.data["words"]] == ["pay", MASK, MASK, MASK, MASK, "now"]
    assert got.data["words"][2][1:] == [2, 2.5, 0.9]
    assert event.data["words"][1][0] == "4111"  # the one given is not changed


def test_patterns_of_the_configuration_are_masked_across_words() -> None:
    redactor = Redactor(PrivacySettings(redact=(r"customer number \d+", r"secret")))
    assert redactor.mask("my Customer number 99 is SECRET!") == f"my {MASK} is {MASK}!"
    assert redactor.mask(VISA) == VISA


def test_a_pattern_that_is_none_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"privacy\.redact"):
        Redactor(PrivacySettings(redact=("(",)))


def started() -> events.Event:
    legs = [{"leg": "a", "role": "caller", "participant": "sip:+4930123@x"}]
    return events.call_started("c", 0, ingress="sip", from_="+4930123", to="+1800", legs=legs)


def hide(**settings: Any) -> dict[str, Any]:
    return Redactor(PrivacySettings(**settings))(started()).data


def test_numbers_are_plain_hashed_or_gone() -> None:
    assert hide()["from"] == "+4930123"
    gone = hide(numbers="none")
    assert (gone["from"], gone["to"], gone["legs"][0]["participant"]) == ("", "", "")
    hashed = hide(numbers="hashed", hash_key="k")
    assert re.fullmatch(r"h:[0-9a-f]{32}", hashed["from"])
    assert hashed["from"] != hashed["to"]
    assert hashed["from"] == hide(numbers="hashed", hash_key="k")["from"]
    assert hashed["from"] != hide(numbers="hashed", hash_key="other")["from"]


def test_nothing_to_do_is_said() -> None:
    assert Redactor(PrivacySettings()).is_idle
    assert not CARDS.is_idle


def luhn_complete(digits: str) -> str:
    return next(digits + str(check) for check in range(10) if passes_luhn(digits + str(check)))


@given(
    st.text("0123456789", min_size=12, max_size=18).filter(lambda d: len(set(d)) > 1 and d[0] != "0"),
    st.lists(st.integers(1, 6), min_size=1),
    st.sampled_from([" ", "-", ". ", ", "]),
)
def test_every_card_number_is_found_whatever_its_grouping(digits: str, groups: list[int], separator: str) -> None:
    number = luhn_complete(digits)
    parts, at = [], 0
    for n in groups:
        parts.append(number[at : at + n])
        at += n
    spoken = separator.join(part for part in [*parts, number[at:]] if part)
    assert CARDS.mask(f"it is {spoken} ok") == f"it is {MASK} ok"


@given(st.text())
def test_any_text_can_be_masked(text: str) -> None:
    masked = CARDS.mask(text)
    assert masked == text or MASK in masked


def said(text: str, turn: int, *, leg: str = "a", call: str = "c") -> Event:
    words = [Word(word, n, n + 0.5, 0.9) for n, word in enumerate(text.split())]
    return events.transcript_final(
        call, 0, leg=leg, role="caller", text=text, start=0, end=6, utterance="u", turn=turn,
        language="en", confidence=1, provider="p", words=words,
    )  # fmt: skip


def interim(text: str) -> Event:
    return events.transcript_interim(
        "c", 0, leg="a", role="caller", text=text, start=0, end=1, utterance="v", revision=1, words=[]
    )


def ended(text: str, turn: int) -> Event:
    return events.turn_ended(
        "c", 0, leg="a", role="caller", text=text, start=0, end=6, turn=turn, reason="silence", latency_ms=1
    )


def test_a_number_read_out_in_groups_is_known_by_the_final_that_completes_it() -> None:
    """Each pause is a final, and often a turn: nothing of the number but what had left before is told."""
    redactor = Redactor(PrivacySettings(redact_cards=True))
    assert redactor(said("it is 4111 1111", 1)).text == "it is 4111 1111"
    assert redactor(interim("1111 11")).text == "1111 11"
    assert redactor(said("1111", 1)).text == "1111"
    assert redactor(interim("1111 thanks")).text == f"{MASK} thanks"
    assert redactor(ended("it is 4111 1111 1111", 1)).text == "it is 4111 1111 1111", "nobody can know yet"
    last = redactor(said("1111 thanks", 2))
    assert last.text == f"{MASK} thanks"
    assert [word[0] for word in last.data["words"]] == [MASK, "thanks"]
    assert redactor(said("1234", 2)).text == "1234"
    assert redactor(ended("1111 thanks 1234", 2)).text == f"{MASK} thanks 1234"


def test_what_another_leg_says_or_what_other_words_part_is_no_number() -> None:
    redactor = Redactor(PrivacySettings(redact_cards=True))
    redactor(said("4111 1111 1111", 1))
    assert redactor(said("1111", 1, leg="b")).text == "1111"
    assert redactor(said("1111", 1, call="d")).text == "1111"
    redactor(said("no wait", 1))
    assert redactor(said("1111", 1)).text == "1111"


def test_what_a_leg_said_is_forgotten_with_its_call() -> None:
    redactor = Redactor(PrivacySettings(redact_cards=True))
    redactor(said("4111 1111 1111", 1))
    redactor(events.call_ended("c", 0, reason="hangup", duration_s=1.0, legs={}))
    assert not redactor._digits


@given(
    st.lists(st.sampled_from(["4111", "1111", "1", "one", "ok", "4111-1111-1111-1111", "22", "x."]), max_size=14),
    st.data(),
)
def test_however_a_number_is_cut_into_finals_no_more_is_told_than_was_before_its_end(
    tokens: list[str], data: st.DataObject
) -> None:
    redactor = Redactor(PrivacySettings(redact_cards=True))
    whole = Redactor(PrivacySettings(redact_cards=True)).mask(" ".join(tokens))
    at, told = 0, []
    while at < len(tokens):
        n = data.draw(st.integers(1, len(tokens) - at))
        told.append(redactor(said(" ".join(tokens[at : at + n]), 1)).text or "")
        at += n
    if tokens:
        assert redactor(ended(" ".join(tokens), 1)).text == whole
        assert (MASK in whole) == any(MASK in text for text in told)


@given(st.lists(st.sampled_from([*"0123456789", "4111", "1111", "ok"]), min_size=13, max_size=30), st.data())
def test_however_a_number_is_cut_into_finals_each_masks_what_the_whole_would_mask_of_it(
    tokens: list[str], data: st.DataObject
) -> None:
    """Of a number's beginning every tenth passes the check by chance: its end is masked all the same."""
    redactor = Redactor(PrivacySettings(redact_cards=True))
    at = 0
    while at < len(tokens):
        n = data.draw(st.integers(1, len(tokens) - at))
        told = redactor(said(" ".join(tokens[at : at + n]), 1)).data["words"]
        at += n
        whole = Redactor(PrivacySettings(redact_cards=True))(said(" ".join(tokens[:at]), 1)).data["words"]
        assert [word[0] for word in told] == [word[0] for word in whole[-n:]]


def test_a_number_whose_beginning_passes_the_check_is_masked_to_its_end() -> None:
    redactor = Redactor(PrivacySettings(redact_cards=True))
    assert redactor(said("4 1 1 1 1 1 1 1 1 1 1 1 9", 1)).text == MASK, "thirteen digits that pass"
    assert redactor(said("0 0 7", 1)).text == MASK
