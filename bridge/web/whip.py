"""WHIP over HTTP (RFC 9725). What WebRTC is belongs to the ingress; here are the statuses and headers.

PATCH adds candidates (204). An ICE restart is answered 422, as the RFC asks of a session that supports only one of the
two; entity tags are then optional and none is sent.
"""

from __future__ import annotations

import structlog
from aiohttp import web

from bridge.web.connection import body
from bridge.web.contract import Whip
from bridge.web.problems import problem

log = structlog.get_logger()

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
MAX_SDP_BYTES = 64 * 1024  # browsers' audio offers have 2 to 6 KiB


class WhipApi:
    """`/whip`, `/whip/{call}` to join a call, `/whip/sessions/{session}` for what was opened."""

    def __init__(self, whip: Whip) -> None:
        self._whip = whip

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/whip", self.offer),
            web.get("/whip", self.nothing_to_show),
            web.patch("/whip/sessions/{session}", self.trickle),
            web.delete("/whip/sessions/{session}", self.end),
            web.get("/whip/sessions/{session}", self.nothing_to_show),
            web.post("/whip/{call}", self.offer),
            web.get("/whip/{call}", self.nothing_to_show),
        ]

    async def nothing_to_show(self, request: web.Request) -> web.Response:
        """Section 4.1: endpoints and sessions have no representation, yet GET succeeds."""
        session = request.match_info.get("session")
        return web.Response(status=204) if session is None or self._whip.has(session) else problem(404)

    async def offer(self, request: web.Request) -> web.Response:
        if request.content_type != SDP:
            return problem(415, f"An offer is {SDP}.", headers={"Accept-Post": SDP})
        role = request.query.get("role", "")
        if (request.content_length or 0) > MAX_SDP_BYTES:
            return problem(413, "That is too long for an offer.")
        call = request.match_info.get("call", "")
        try:
            answer = await self._whip.offer(await _text(request), call=call, role=role, source=request.remote or "")
        except LookupError:
            return problem(404, "No such call is going on.")
        headers = {
            "Location": f"/whip/sessions/{answer.session}",
            "Link": f'</v1/calls/{answer.call}/events>; rel="urn:ietf:params:whip:ext:callbridge:events"',
            "Callbridge-Call": answer.call,
            "Callbridge-Leg": answer.leg,
        }
        body = answer.sdp.encode()  # not text: application/sdp has no charset parameter, and clients compare it whole
        return web.Response(status=201, body=body, content_type=SDP, headers=headers)

    async def trickle(self, request: web.Request) -> web.Response:
        if request.content_type != FRAGMENT:
            return problem(415, f"Candidates are {FRAGMENT}.", headers={"Accept-Patch": FRAGMENT})
        if request.headers.get("If-Match", "*") != "*" and self._whip.has(request.match_info["session"]):
            return problem(412, "No session here has an entity tag.")  # RFC 9110 section 13.1.1
        try:
            await self._whip.trickle(request.match_info["session"], await _text(request))
        except LookupError:
            return problem(404, "No such session.")
        return web.Response(status=204)

    async def end(self, request: web.Request) -> web.Response:
        if not await self._whip.end(request.match_info["session"]):
            return problem(404, "No such session.")
        return web.Response(status=200)


async def _text(request: web.Request) -> str:
    """SDP is UTF-8 (RFC 8866 section 4); what is not shows as a parse error, not as ours."""
    return (await body(request)).decode("utf-8", "replace")
