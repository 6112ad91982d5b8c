"""Whose packets are taken."""

from __future__ import annotations

from bridge.rtp.latch import REBIND_AFTER, Latch, Stream

SIGNALLED, BEHIND_NAT, STRANGER = ("198.51.100.1", 4000), ("198.51.100.1", 61000), ("203.0.113.9", 4000)


def test_the_first_packet_gives_the_source_even_if_signalling_named_another_port() -> None:
    latch = Latch(SIGNALLED)
    assert latch.admits(BEHIND_NAT, 0.0)
    assert latch.admits(BEHIND_NAT, 0.02)
    assert not latch.admits(STRANGER, 0.03)
    assert latch.foreign == 1


def test_a_packet_from_the_signalled_host_replaces_a_stranger_that_came_first() -> None:
    latch = Latch(SIGNALLED)
    assert latch.admits(STRANGER, 0.0)
    assert latch.admits(SIGNALLED, 0.02)
    assert not latch.admits(STRANGER, 0.04)


def test_another_host_gets_in_only_after_signalling_said_so() -> None:
    latch = Latch(SIGNALLED)
    latch.admits(SIGNALLED, 0.0)
    assert not latch.admits(STRANGER, 100.0)
    latch.reopen(STRANGER)
    assert latch.admits(SIGNALLED, 100.02), "the old source may go on until the new one is there"
    assert latch.admits(STRANGER, 100.04)
    assert not latch.admits(SIGNALLED, 100.06)


def test_a_refresh_that_changes_nothing_does_not_open_the_latch() -> None:
    latch = Latch(SIGNALLED)
    latch.admits(SIGNALLED, 0.0)
    latch.reopen(SIGNALLED)
    assert not latch.admits(STRANGER, 0.02)


def test_another_port_of_the_same_host_is_believed_only_after_a_pause() -> None:
    latch = Latch(None)
    latch.admits(SIGNALLED, 0.0)
    assert not latch.admits(BEHIND_NAT, 0.02)
    assert latch.admits(BEHIND_NAT, 0.02 + REBIND_AFTER)


def test_the_pause_is_one_only_if_no_packet_came_by_another_way() -> None:
    latch = Latch(None)
    latch.admits(SIGNALLED, 0.0)
    latch.heard(5.0)
    assert not latch.admits(BEHIND_NAT, 5.02)
    latch.heard(4.0)
    assert not latch.admits(BEHIND_NAT, 4.99 + REBIND_AFTER)
    assert latch.admits(BEHIND_NAT, 5.0 + REBIND_AFTER + 0.01)


def test_the_very_address_that_was_signalled_replaces_another_port_of_its_host() -> None:
    latch = Latch(SIGNALLED)
    assert latch.admits(BEHIND_NAT, 0.0)  # what is left of another call of the same SBC
    assert latch.admits(SIGNALLED, 0.02)
    assert not latch.admits(BEHIND_NAT, 0.04)


def test_rtcp_is_believed_of_any_port_of_a_known_host_only() -> None:
    latch = Latch(SIGNALLED)
    assert latch.admits_rtcp(STRANGER), "nobody is known yet"
    latch.admits(("192.0.2.7", 9), 0.0)
    assert latch.admits_rtcp(("192.0.2.7", 10))
    assert latch.admits_rtcp(BEHIND_NAT)
    assert not latch.admits_rtcp(STRANGER)
    assert latch.foreign == 1


def test_a_stream_of_the_call_before_is_turned_away_unless_signalling_names_its_source() -> None:
    stray, other = ("192.0.2.1", 4000), ("192.0.2.2", 4000)
    left = [Stream(stray, 7, 65_000)]
    latch = Latch(other, left=left)
    assert latch.is_left_over(stray, 7, 65_000)
    assert latch.is_left_over(stray, 7, 1000)
    assert latch.foreign == 2
    assert not latch.is_left_over(stray, 8, 65_000)
    assert not latch.is_left_over(other, 7, 65_000)
    assert not Latch(stray, left=left).is_left_over(stray, 7, 65_000)


def test_a_sender_that_begins_anew_as_it_was_before_is_heard_and_stays_so() -> None:
    always = ("192.0.2.1", 4000)
    latch = Latch(None, left=[Stream(always, 7, 50)])
    for seq in range(100):
        assert not latch.is_left_over(always, 7, seq)
        assert latch.admits(always, 1.0 + seq / 50)
    assert latch.foreign == 0
