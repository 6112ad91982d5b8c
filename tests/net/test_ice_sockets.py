from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from bridge.errors import CapacityError
from bridge.net.ice_sockets import IceSockets

FIRST, LAST = 27011, 27014  # below Linux's ephemeral ports


@pytest.fixture
def sockets() -> Iterator[IceSockets]:
    made = IceSockets(first=FIRST, last=LAST)
    yield made
    made.close()


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def test_every_address_gets_the_same_port_from_the_top_of_the_range(sockets: IceSockets) -> None:
    both = sockets.bind(["127.0.0.1", "127.0.0.2"])
    other = sockets.bind(["127.0.0.1"])
    assert [sock.getsockname() for sock in both] == [("127.0.0.1", LAST), ("127.0.0.2", LAST)]
    assert port_of(other[0]) == LAST - 1
    for sock in (*both, *other):
        sockets.release(sock)


def test_a_port_in_use_is_passed_over_and_none_left_is_no_capacity(sockets: IceSockets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("0.0.0.0", LAST))
        found = [sockets.bind(["127.0.0.1"])[0] for _ in range(3)]
        assert sorted(map(port_of, found)) == [FIRST, FIRST + 1, FIRST + 2]
        with pytest.raises(CapacityError):
            sockets.bind(["127.0.0.1"])
        sockets.release(found[0])
        again = sockets.bind(["127.0.0.1"])[0]
        assert port_of(again) not in [port_of(sock) for sock in found[1:]]
    for sock in (*found[1:], again):
        sockets.release(sock)


def test_an_address_that_is_not_ours_is_left_out(sockets: IceSockets) -> None:
    found = sockets.bind(["203.0.113.77", "127.0.0.1"])
    assert [sock.getsockname()[0] for sock in found] == ["127.0.0.1"]
    sockets.release(found[0])


def test_where_no_address_is_ours_not_every_port_is_tried(sockets: IceSockets) -> None:
    with pytest.raises(CapacityError, match="addresses"):
        sockets.bind(["203.0.113.77"])
    (sock,) = sockets.bind(["127.0.0.1"])
    assert port_of(sock) == LAST - 1, "one port was tried"
    sockets.release(sock)


def test_what_arrived_is_handed_over_with_its_source_and_time(sockets: IceSockets) -> None:
    (sock,) = sockets.bind(["127.0.0.1"])
    taken: list[tuple[bytes, tuple[str, int], float]] = []
    sockets.attach(sock, lambda data, source, at: taken.append((data, source, at)))
    sockets.read()
    assert taken == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        before = time.monotonic()
        for n in range(3):
            peer.sendto(bytes([n]), sock.getsockname())
        after = time.monotonic()
        time.sleep(0.05)
        sockets.read()
        assert [data for data, _, _ in taken] == [b"\x00", b"\x01", b"\x02"]
        assert {source for _, source, _ in taken} == {peer.getsockname()}
    assert all(before - 0.002 <= at <= after + 0.002 for _, _, at in taken), "when it came, not when it was read"


def test_whoever_is_closed_by_a_datagram_gets_no_further_one(sockets: IceSockets) -> None:
    (sock,) = sockets.bind(["127.0.0.1"])
    taken: list[bytes] = []

    def take(data: bytes, source: tuple[str, int], at: float) -> None:
        taken.append(data)
        sockets.release(sock)

    sockets.attach(sock, take)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        for data in (b"one", b"two"):
            peer.sendto(data, sock.getsockname())
    sockets.read()
    sockets.release(sock)
    sockets.read()
    assert taken == [b"one"]


def test_what_came_in_a_standstill_of_five_seconds_is_read_at_once(sockets: IceSockets) -> None:
    """A hold that is signalled meanwhile counts from behind it, and is heard of before the next tick."""
    (sock,) = sockets.bind(["127.0.0.1"])
    taken: list[bytes] = []
    sockets.attach(sock, lambda data, _source, _at: taken.append(data))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as browser:
        for n in range(250):
            browser.sendto(bytes([n]) * 160, sock.getsockname())
    sockets.read()
    assert [data[0] for data in taken] == list(range(250))
    sockets.release(sock)


def test_what_comes_while_it_is_read_is_left_for_the_next_tick(sockets: IceSockets) -> None:
    (sock,) = sockets.bind(["127.0.0.1"])
    taken = 0

    def take(data: bytes, _source: tuple[str, int], _at: float) -> None:
        nonlocal taken
        taken += 1
        time.sleep(0.001)
        browser.sendto(data, sock.getsockname())

    sockets.attach(sock, take)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as browser:
        browser.sendto(b"hold", sock.getsockname())
        time.sleep(0.01)
        sockets.read()
        assert taken == 2, "the one that shows that nothing older is left is taken too"
    sockets.release(sock)
