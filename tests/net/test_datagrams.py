"""Media sockets: ports in pairs, one datagram per socket and pass, arrival by the kernel's clock."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from math import inf
from pathlib import Path

import pytest

from bridge.clock import unix_offset
from bridge.errors import CapacityError
from bridge.media.arrivals import DATAGRAM_BYTES, address_of
from bridge.net.datagrams import MediaSockets, target_of
from bridge.net.receive import LIBRARY, NativeReceiver, PythonReceiver
from bridge.net.receive import receiver as choose

FIRST = 45600
SOURCE = LIBRARY.with_name("receive.c")
Receiver = type[NativeReceiver] | type[PythonReceiver]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the source as it is now."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here")
    made = tmp_path_factory.mktemp("native") / LIBRARY.name
    command = [compiler, "-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-o", str(made), str(SOURCE)]
    subprocess.run(command, check=True)
    return made


@pytest.fixture(params=[NativeReceiver, PythonReceiver])
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    if request.param is NativeReceiver:
        monkeypatch.setattr("bridge.net.receive.LIBRARY", request.getfixturevalue("library"))
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def sockets(receiver: Receiver) -> MediaSockets:
    return MediaSockets(bind="127.0.0.1", first=FIRST, last=FIRST + 39, capacity=64, receiver=receiver)


def send(port: int, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, ("127.0.0.1", port))


@pytest.mark.parametrize(("begin", "at"), [(0.0, 0), (0.5, 10), (0.999, 19)])
def test_ports_are_given_in_turn_from_where_it_was_told_to_begin(begin: float, at: int) -> None:
    sockets = MediaSockets(bind="127.0.0.1", first=FIRST, last=FIRST + 39, capacity=64, begin=begin)
    ports = [sockets.open_pair().port for _ in range(20)]
    assert ports == [FIRST + 2 * ((at + n) % 20) for n in range(20)]
    sockets.close()


def test_a_pass_holds_one_datagram_of_each_socket_and_the_next_pass_the_rest(sockets: MediaSockets) -> None:
    a, b = sockets.open_pair(), sockets.open_pair()
    sockets.attach(a, 5)
    sockets.attach(b, 6)
    send(a.port, b"a1", b"a2", b"a3")
    send(b.port, b"b1")
    send(b.port + 1, b"rtcp")
    passes = []
    for batch in sockets.read():
        found = [(int(row), batch.datagram(n), bool(batch.is_rtcp[n])) for n, row in enumerate(batch.rows)]
        passes.append(sorted(found))
    assert passes == [
        [(5, b"a1", False), (6, b"b1", False), (6, b"rtcp", True)],
        [(5, b"a2", False)],
        [(5, b"a3", False)],
    ]
    sockets.close()


def test_a_read_that_leaves_something_behind_tells_up_to_when_it_has_read(sockets: MediaSockets) -> None:
    pair = sockets.open_pair()
    sockets.attach(pair, 0)
    send(pair.port, b"1", b"2")
    time.sleep(0.05)
    between = time.monotonic()
    send(pair.port, b"3")
    assert [len(batch.rows) for batch in sockets.read(passes=2)] == [1, 1]
    assert sockets.read_to < between
    assert [len(batch.rows) for batch in sockets.read(passes=2)] == [1]
    assert sockets.read_to == inf
    sockets.close()


def test_reading_late_does_not_change_when_a_datagram_arrived(sockets: MediaSockets) -> None:
    pair = sockets.open_pair()
    sockets.attach(pair, 0)
    before = time.monotonic()
    send(pair.port, b"x" * 172)
    after = time.monotonic()
    time.sleep(0.05)
    (batch,) = list(sockets.read())
    assert before - 0.002 <= batch.times[0] <= after + 0.002
    sockets.close()


@pytest.mark.parametrize("step", [30.0, 0.4, -0.4])
def test_a_step_of_the_wall_clock_moves_no_datagram_that_waited(step: float, receiver: Receiver) -> None:
    stepped = 0.0
    sockets = MediaSockets(
        bind="127.0.0.1",
        first=FIRST,
        last=FIRST + 39,
        capacity=4,
        offset=lambda: unix_offset() + stepped,
        receiver=receiver,
    )
    pair = sockets.open_pair()
    sockets.attach(pair, 0)
    assert list(sockets.read()) == []
    send(pair.port, b"1", b"2")
    sent = time.monotonic()
    stepped = step
    assert [batch.times[0] for batch in sockets.read()] == pytest.approx([sent, sent], abs=0.05)
    sockets.close()


def test_ports_are_even_handed_out_in_turn_and_come_back(sockets: MediaSockets) -> None:
    for _ in range(3):
        pairs = [sockets.open_pair() for _ in range(18)]
        assert all(pair.port % 2 == 0 for pair in pairs)
        assert len({pair.port for pair in pairs}) == 18
        for pair in pairs:
            sockets.release(pair)
            sockets.release(pair)
    assert sockets.in_use == 0
    sockets.close()


def test_a_range_that_is_used_up_is_a_matter_of_capacity(sockets: MediaSockets) -> None:
    while sockets.in_use < 20:
        try:
            sockets.open_pair()
        except CapacityError:  # somebody else on this machine holds some of them
            break
    assert 15 <= sockets.in_use <= 20
    with pytest.raises(CapacityError):
        sockets.open_pair()
    sockets.close()


def test_ports_that_somebody_else_holds_are_passed_over(sockets: MediaSockets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", FIRST + 1))
        assert sockets.open_pair().port != FIRST
    sockets.close()


def test_an_ipv4_peer_of_an_ipv6_socket_is_known_by_its_own_address_and_can_be_answered(receiver: Receiver) -> None:
    sockets = MediaSockets(bind="::", first=FIRST + 40, last=FIRST + 49, capacity=4, receiver=receiver)
    try:
        pair = sockets.open_pair()
    except CapacityError:
        pytest.skip("no IPv6 on this machine")
    sockets.attach(pair, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(2)
        peer.sendto(b"rtp", ("127.0.0.1", pair.port))
        (batch,) = list(sockets.read())
        source = address_of(batch.sources[0])
        assert source == peer.getsockname()
        pair.rtcp.sendto(b"report", target_of(pair.rtcp, source))
        assert peer.recv(100) == b"report"
    sockets.close()


def test_what_came_before_a_leg_was_answered_is_not_heard_but_all_that_came_since(sockets: MediaSockets) -> None:
    pair = sockets.open_pair()
    for n in range(400):
        send(pair.port, b"early" * 30)
        send(pair.port + 1, b"%d" % n)
    time.sleep(0.02)
    answered = time.monotonic()
    send(pair.port, b"first")  # the 200 is on its way, and the leg is still being made
    time.sleep(0.02)
    sockets.attach(pair, 1, answered)
    send(pair.port, b"now")
    time.sleep(0.02)
    assert [batch.datagram(0) for batch in sockets.read()] == [b"first", b"now"]
    sockets.close()


def test_a_pass_has_room_for_no_more_than_it_was_made_for_and_no_socket_is_forgotten(receiver: Receiver) -> None:
    sockets = MediaSockets(bind="127.0.0.1", first=FIRST, last=FIRST + 39, capacity=3, receiver=receiver)
    pairs = [sockets.open_pair() for _ in range(7)]
    for row, pair in enumerate(pairs):
        sockets.attach(pair, row)
        send(pair.port, b"%d" % row)
    sizes, found = [], []
    for batch in sockets.read():
        sizes.append(len(batch))
        found += [(int(row), batch.datagram(n)) for n, row in enumerate(batch.rows)]
    assert sizes == [3, 3, 1]
    assert sorted(found) == [(row, b"%d" % row) for row in range(7)]
    sockets.close()


def test_a_datagram_of_any_length_is_read_and_one_that_is_too_long_is_cut(sockets: MediaSockets) -> None:
    pair = sockets.open_pair()
    sockets.attach(pair, 0)
    send(pair.port, b"", b"x" * DATAGRAM_BYTES, b"y" * 9000, b"z")
    assert [batch.datagram(0) for batch in sockets.read()] == [b"", b"x" * DATAGRAM_BYTES, b"y" * DATAGRAM_BYTES, b"z"]
    sockets.close()


def test_a_socket_with_an_error_to_report_is_passed_over_and_goes_on(sockets: MediaSockets) -> None:
    pair, other = sockets.open_pair(), sockets.open_pair()
    sockets.attach(pair, 0)
    sockets.attach(other, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        gone = peer.getsockname()
    pair.rtp.connect(gone)
    pair.rtp.send(b"nobody is there")  # the answer is an ICMP error
    send(other.port, b"heard")
    assert [batch.datagram(0) for batch in sockets.read()] == [b"heard"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(gone)
        peer.sendto(b"back", ("127.0.0.1", pair.port))
    assert [batch.datagram(0) for batch in sockets.read()] == [b"back"]
    sockets.close()


def test_where_the_library_is_missing_or_of_another_version_python_reads(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.net.receive.LIBRARY", library)
    assert isinstance(choose(4), NativeReceiver)
    monkeypatch.setattr("bridge.net.receive.FUNCTION", "callbridge_receive_0")
    assert isinstance(choose(4), PythonReceiver)
    monkeypatch.setattr("bridge.net.receive.LIBRARY", tmp_path / "libreceive.so")
    assert isinstance(choose(4), PythonReceiver)
    (tmp_path / "libreceive.so").write_bytes(b"no library")
    assert isinstance(choose(4), PythonReceiver)
