"""The other side for the caller's tests: a real SIP endpoint on loopback that answers and keeps every RTP packet."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from types import TracebackType
from typing import Self

from bridge.clock import monotonic
from bridge.net.sip_transports import SipDriver
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Body, Ended, Event, IncomingCall, Reoffer


class AnsweringPhone:
    """Answers each m-line of each call on a port of its own."""

    def __init__(self, *, refuse: int = 0, reject_reoffers: int = 0, refuse_media: tuple[int, ...] = ()) -> None:
        self.endpoint = Endpoint(Identity(), make_token=lambda: secrets.token_hex(12))
        self.driver = SipDriver(self.endpoint, self._on_event)
        self.refuse, self.reject_reoffers, self.refuse_media = refuse, reject_reoffers, refuse_media
        self.offers: list[str] = []
        self.offer_times: list[float] = []
        self.requests: list[object] = []
        self.dialogs: list[str] = []
        self.ended: list[Ended] = []
        self.sockets: list[socket.socket] = []
        self.uri = self.tcp_uri = ""
        self.called, self.hung_up = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.driver.open(["udp:127.0.0.1:0", "tcp:127.0.0.1:0"])
        self.uri = f"sip:phone@127.0.0.1:{self.driver.bound[0].port}"
        self.tcp_uri = f"sip:phone@127.0.0.1:{self.driver.bound[1].port};transport=tcp"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.driver.close()
        for sock in self.sockets:
            sock.close()

    def hang_up(self) -> None:
        self.endpoint.hang_up(self.dialogs[-1], monotonic())
        self.driver.pump()

    def packets(self, leg: int) -> list[bytes]:
        """What has arrived on a leg's port."""
        packets: list[bytes] = []
        try:
            while True:
                packets.append(self.sockets[leg].recv(2048))
        except BlockingIOError:
            return packets

    def _on_event(self, event: Event, now: float) -> None:
        match event:
            case IncomingCall(dialog=dialog, request=request):
                self.requests.append(request)
                self.dialogs.append(dialog)
                self.called.set()
                if self.refuse:
                    self.endpoint.reject(dialog, self.refuse, now)
                else:
                    self._answer(dialog, request.body.decode(), now, is_new=True)
            case Reoffer(dialog=dialog, request=request):
                if self.reject_reoffers:
                    self.endpoint.reject(dialog, self.reject_reoffers, now)
                else:
                    self._answer(dialog, request.body.decode(), now, is_new=False)
            case Ended():
                self.ended.append(event)
                self.hung_up.set()

    def _answer(self, dialog: str, offer: str, now: float, *, is_new: bool) -> None:
        self.offers.append(offer)
        self.offer_times.append(now)
        media = re.findall(r"^m=audio \d+ RTP/AVP (\S+)", offer, re.MULTILINE)
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
        for n, payload_type in enumerate(media):
            if is_new:
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                sock.bind(("127.0.0.1", 0))
                sock.setblocking(False)
                self.sockets.append(sock)
            port = 0 if n in self.refuse_media else self.sockets[len(self.sockets) - len(media) + n].getsockname()[1]
            lines += [f"m=audio {port} RTP/AVP {payload_type}", "a=recvonly"]
        self.endpoint.accept(dialog, Body(("\r\n".join(lines) + "\r\n").encode()), now)
