from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import CapacityError, PeerError
from bridge.ingress.external import ExternalMedia, media_offer
from rtpcodecs import CODECS
from tests.ingress.fake_host import FakeHost


@dataclass(frozen=True)
class Leg:
    codecs: tuple[str, ...] = ("PCMU",)
    role: str = ""
    participant: str = ""
    payload_type: int | None = None
    telephone_event: int | None = None
    remote: tuple[str, int] | None = None


@dataclass(frozen=True)
class Wish:
    legs: tuple[Leg, ...]
    from_: str = ""
    to: str = ""
    correlation: dict[str, str] = field(default_factory=dict)


def test_a_call_is_answered_at_once_and_told_where_each_leg_listens() -> None:
    host = FakeHost()
    wish = Wish((Leg(role="caller"), Leg(("OPUS", "PCMA"), role="agent")), from_="a", to="b", correlation={"ari": "7"})
    told = ExternalMedia(host).open(wish, source="10.0.0.9", now=5.0)
    assert told["id"] == "call1"
    assert [(leg["leg"], leg["role"], leg["port"]) for leg in told["legs"]] == [
        ("leg1", "caller", 20002),
        ("leg2", "agent", 20004),
    ]
    assert told["legs"][1]["codecs"] == [
        {"codec": "OPUS", "payload_type": 96, "clock_rate_hz": 48000},
        {"codec": "PCMA", "payload_type": 8, "clock_rate_hz": 8000},
    ]
    call = host.calls[0]
    assert (call.answered_at, call.offer.ingress, call.offer.source) == (5.0, "external", "10.0.0.9")
    assert (call.offer.from_, call.offer.to, call.offer.correlation) == ("a", "b", {"ari": "7"})
    call.control.hang_up()


def test_a_leg_may_name_its_own_payload_types_and_where_it_sends_from() -> None:
    offer = media_offer(Leg(("G722", "OPUS"), payload_type=118, telephone_event=96, remote=("10.0.0.1", 4000)))
    assert [known.payload_type for known in offer.formats] == [118, 97]
    assert (offer.telephone_events, offer.remote) == ({96: 8000}, ("10.0.0.1", 4000))
    assert media_offer(Leg(("OPUS",), telephone_event=101)).telephone_events == {101: 48000}


@pytest.mark.parametrize(
    "leg",
    [
        Leg(("MP3",)),
        Leg(payload_type=101, telephone_event=101),
        Leg(payload_type=72),
        Leg(("PCMA",), telephone_event=8),
    ],
)
def test_what_cannot_be_received_is_refused_before_a_call_is_opened(leg: Leg) -> None:
    host = FakeHost()
    with pytest.raises(PeerError):
        ExternalMedia(host).open(Wish((leg,)), source="", now=0.0)
    assert host.calls == []


def test_a_full_service_says_so() -> None:
    with pytest.raises(CapacityError):
        ExternalMedia(FakeHost(room=0)).open(Wish((Leg(),)), source="", now=0.0)


payload_types = st.none() | st.integers(0, 127)


@given(st.lists(st.sampled_from([*CODECS, "X"]), min_size=1, max_size=8), payload_types, payload_types)
def test_no_two_formats_ever_share_a_payload_type(names: list[str], first: int | None, event: int | None) -> None:
    try:
        offer = media_offer(Leg(tuple(names), payload_type=first, telephone_event=event))
    except PeerError:
        return
    numbers = [known.payload_type for known in offer.formats] + ([] if event is None else [event])
    assert len(numbers) == len(set(numbers))
