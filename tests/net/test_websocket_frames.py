"""Against the library's own parser of what clients send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import Protocol, Side, State

from bridge.net.websocket_frames import masked_frame


@given(st.integers(0, 300) | st.sampled_from([125, 126, 65535, 65536]), st.sampled_from([Opcode.TEXT, Opcode.BINARY]))
def test_a_server_reads_what_was_said_at_every_length(length: int, opcode: Opcode) -> None:
    server, payload = Protocol(Side.SERVER, state=State.OPEN), b"a" * length
    server.receive_data(masked_frame(opcode, payload))
    (frame,) = server.events_received()
    assert (frame.opcode, bytes(frame.data), frame.fin) == (opcode, payload, True)


def test_no_two_frames_have_the_same_mask() -> None:
    frames = {masked_frame(Opcode.BINARY, b"\0\0\0\0") for _ in range(3000)}
    assert len(frames) > 2990  # by chance two in four thousand million
