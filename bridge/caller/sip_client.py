"""The SIP of all calls that we place, over one socket or connection. Each call has its own queue of events."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bridge.clock import monotonic
from bridge.errors import ConfigError
from bridge.net.sip_transports import SipDriver
from bridge.sip.endpoint import Endpoint, Identity
from bridge.sip.events import Body, Event, Flow, IncomingCall

DEFAULT_PORT = 5060  # RFC 3261 section 19.1.2
BUSY_HERE = 486
ADDRESS = re.compile(
    r"(?:sip:)?(?P<where>(?:[^@\s;]+@)?(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:;@\[\]]+)(?::(?P<port>\d{1,5}))?)"
    r"(?:;transport=(?P<transport>udp|tcp))?",
    re.IGNORECASE,
)
Events = asyncio.Queue[Event | None]
"What happened to a call; a call may put None to itself."


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to call: `sip:[USER@]HOST[:PORT][;transport=tcp]`, IPv6 in brackets."""

    uri: str
    host: str
    port: int
    transport: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Raises ConfigError for what is not such an address. `sip:` may be left out."""
        found = ADDRESS.fullmatch(text.strip())
        port = int(found["port"] or DEFAULT_PORT) if found else 0
        if found is None or not 0 < port < 65536:
            raise ConfigError([f"{text}: not an address of the form sip:HOST[:PORT]"])
        transport = (found["transport"] or "udp").lower()
        uri = f"sip:{found['where']}" + (";transport=tcp" if transport == "tcp" else "")
        return cls(uri, found["host"].strip("[]"), port, transport)


class SipClient:
    """An endpoint and its driver, as a caller needs them. `async with` opens and closes it."""

    def __init__(self, target: Target, *, user_agent: str = "callbridge-caller") -> None:
        self.target = target
        self._endpoint = Endpoint(Identity(user_agent=user_agent), make_token=lambda: secrets.token_hex(12))
        self._driver = SipDriver(self._endpoint, self._deliver)
        self._calls: dict[str, Events] = {}
        self.flow = Flow("udp", ("", 0), ("", 0))

    async def __aenter__(self) -> Self:
        """Resolves the target and connects. Raises ConfigError where that cannot work."""
        target = self.target
        try:
            found = await asyncio.get_running_loop().getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
            self.flow = await self._driver.connect(target.transport, str(found[0][4][0]), target.port)
        except OSError as error:
            raise ConfigError([f"{target.uri}: {error.strerror or error}"]) from None
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._driver.close()

    @property
    def address(self) -> str:
        """Our address as the target sees it; RTP is bound to it too."""
        return self.flow.local[0]

    def invite(
        self, body: Body, *, from_: str, headers: Sequence[tuple[str, str]] = (), contact_params: str = ""
    ) -> tuple[str, Events]:
        """Places a call: its dialog and the queue of its events. `forget` it in the end."""
        dialog = self._endpoint.invite(
            self.target.uri, self.flow, monotonic(),
            from_=from_, body=body, headers=headers, contact_params=contact_params,
        )  # fmt: skip
        queue = self._calls[dialog] = Events()
        self._driver.pump()
        return dialog, queue

    def reinvite(self, dialog: str, body: Body) -> None:
        """A new offer. Raises InvalidState while one is pending or when the call is over."""
        self._endpoint.reinvite(dialog, body, monotonic())
        self._driver.pump()

    def accept(self, dialog: str, body: Body) -> None:
        """Answers the peer's own offer within the call."""
        self._endpoint.accept(dialog, body, monotonic())
        self._driver.pump()

    def hang_up(self, dialog: str) -> None:
        """BYE or CANCEL; `Ended` follows."""
        self._endpoint.hang_up(dialog, monotonic())
        self._driver.pump()

    def forget(self, dialog: str) -> None:
        """Nobody waits for this call's events any more."""
        self._calls.pop(dialog, None)

    def _deliver(self, event: Event, now: float) -> None:
        if isinstance(event, IncomingCall):
            self._endpoint.reject(event.dialog, BUSY_HERE, now)
        elif event.dialog in self._calls:
            self._calls[event.dialog].put_nowait(event)
