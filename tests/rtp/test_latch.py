"""Whose packets are taken."""

from __future__ import annotations

from bridge.rtp.latch import REBIND_AFTER, Latch

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
