from __future__ import annotations

from bridge.net.own_address import Advertised, facing_address


def test_the_address_that_faces_a_peer_on_this_machine_is_its_own() -> None:
    assert facing_address("127.0.0.1") == "127.0.0.1"


def test_where_there_is_no_route_there_is_no_such_address() -> None:
    assert facing_address("255.255.255.255") is None  # a broadcast address: the kernel refuses to connect to it


def test_the_configured_address_is_told_before_the_bound_one_and_that_before_the_facing_one() -> None:
    assert Advertised("203.0.113.5", "192.0.2.1")("127.0.0.1") == "203.0.113.5"
    assert Advertised("", "192.0.2.1")("127.0.0.1") == "192.0.2.1"
    assert Advertised("", "0.0.0.0")("127.0.0.1") == "127.0.0.1"
