"""A hold is in force from when its message arrived, in whatever message it came and however late it is handled."""

from __future__ import annotations

import asyncio

from bridge.sip.events import Flow
from tests.sip.network import request, tag_of

from .sip_fakes import FakeHost, port_of, sdp, served
from .test_sip_ways import Datagrams

LATE = 4.0  # s
HELD = sdp("m=audio 4000 RTP/AVP 0\r\na=inactive")


async def test_a_hold_or_resume_in_the_answer_to_our_offer_counts_from_when_the_ack_arrived() -> None:
    host = FakeHost()
    async with served(host) as (ingress, _):
        port = port_of(ingress, "udp")
        _, pbx = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, remote_addr=("127.0.0.1", port))
        own = pbx.transport.get_extra_info("sockname")

        def message(method: str, tag: str = "", body: bytes = b"") -> bytes:
            return request(
                method, via=f"UDP 127.0.0.1:{own[1]};rport", peer="sip:pbx@127.0.0.1", uri="sip:q@127.0.0.1",
                contact=f"sip:pbx@127.0.0.1:{own[1]}", call_id="late", tag=tag, body=body,
            )  # fmt: skip

        pbx.transport.sendto(message("INVITE"))
        tag = tag_of(await pbx.final())
        at = asyncio.get_running_loop().time() - LATE
        ingress.driver.received(message("ACK", tag, HELD), Flow("udp", ("127.0.0.1", port), own), at)
        leg = host.calls[0].legs[0]
        assert (leg.on_hold, leg.held_at) == (True, at)
        pbx.transport.close()
