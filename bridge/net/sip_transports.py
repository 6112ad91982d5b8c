"""The one skin of the SIP endpoint: UDP, TCP and TLS sockets, and one timer. Nothing is decided here.

Everything runs in callbacks of the loop: no task, no queue. After any call of an endpoint's method from outside,
`pump` must be called.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import structlog

from bridge.errors import ConfigError
from bridge.net.own_address import facing_address
from bridge.net.sip_listen import ListenAddress, parse_listen
from bridge.net.sip_names import UNKNOWN, Address, SipNames
from bridge.net.sip_sockets import Datagrams, Stream
from bridge.sip.dialog import is_address
from bridge.sip.endpoint import Endpoint
from bridge.sip.events import Event, Flow, Outgoing

log = structlog.get_logger()
MAX_CONNECTIONS = 1024
RECEIVE_BUFFER_BYTES = 1024 * 1024
"SIP arrives in bursts; the default 208 KiB hold some hundred INVITEs."

MAX_DIALS = 32
"Connections being opened at once."
DIAL_TIMEOUT = 4.0  # s; a request is given up after 32

OnEvent = Callable[[Event, float], None]
Admit = Callable[[str], bool]


class SipDriver:
    """Sockets around one endpoint. Opened and closed once."""

    def __init__(
        self, endpoint: Endpoint, on_event: OnEvent, *, admit: Admit = lambda host: True, advertise: str = "",
        server_tls: ssl.SSLContext | None = None, client_tls: ssl.SSLContext | None = None,
        names: SipNames | None = None, on_unresolved: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`on_event` is called for every event, in order; it may call the endpoint, but not `pump`. `admit` judges a
        source address before its bytes are looked at. `advertise`: our address towards peers, if not the socket's."""
        self._endpoint = endpoint
        self._on_event = on_event
        self._admit = admit
        self._advertise = advertise
        self._server_tls, self._client_tls = server_tls, client_tls
        self._names = names or SipNames()
        self._on_unresolved = on_unresolved
        self._looking: dict[tuple[Flow, Address], dict[bytes, None]] = {}
        "Datagrams that wait for a host name's address; a request that is repeated meanwhile waits once."
        self._udp: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._streams: dict[Flow, Stream] = {}
        self._servers: list[asyncio.Server] = []
        self._local_for: dict[str, str] = {}
        self._stack = AsyncExitStack()
        self._dials: asyncio.TaskGroup | None = None
        "Connections being opened; only between `open` and `close`."
        self._n_dials = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_pumping = False
        self._arrived_at: float | None = None
        "Of the message that is being dealt with."
        endpoint.speak_from(self.own_address)
        self.bound: list[ListenAddress] = []
        "What is listened on, with the real port where 0 was asked for."

    # -- opening and closing -------------------------------------------------------------------------------------

    async def open(self, listen: Sequence[str]) -> None:
        """Binds every address. Raises ConfigError naming each one that cannot be bound; then nothing stays open."""
        self._dials = await self._stack.enter_async_context(asyncio.TaskGroup())
        problems: list[str] = []
        for text in listen:
            try:
                await self._listen(parse_listen(text))
            except ValueError as error:
                problems.append(f"sip.listen: {error}")
            except OSError as error:
                problems.append(f"sip.listen: {text}: {error.strerror or error}")
        if problems:
            await self.close()
            raise ConfigError(problems)

    async def _listen(self, address: ListenAddress) -> None:
        if address.transport == "udp":
            await self._listen_udp(address)
            return
        if address.transport == "tls" and self._server_tls is None:
            raise ValueError(f"{address}: needs sip.certificate and sip.private_key")
        server = await asyncio.get_running_loop().create_server(
            lambda: Stream(self, address.transport),
            address.host,
            address.port,
            ssl=self._server_tls if address.transport == "tls" else None,
            ssl_handshake_timeout=10.0 if address.transport == "tls" else None,
        )
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        self.bound.append(ListenAddress(address.transport, address.host, port))

    async def _listen_udp(self, address: ListenAddress) -> None:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Datagrams(self), (address.host, address.port), family=family
        )

    async def close(self) -> None:
        """Stops listening and closes every connection; what was written is still sent."""
        if self._timer is not None:
            self._timer.cancel()
        self._dials = None
        await self._stack.aclose()  # at most DIAL_TIMEOUT
        for server in self._servers:
            server.close()
        for stream in list(self._streams.values()):
            stream.close()
        for transport in self._udp.values():
            transport.close()
        self._servers.clear()
        self._udp.clear()
        self.bound.clear()
        await asyncio.sleep(0)  # the transports' closing callbacks

    async def connect(self, transport: str, host: str, port: int, *, name: str = "") -> Flow:
        """A flow towards an address, for `Endpoint.invite`. UDP uses the first socket of the family (one is bound if
        there is none), TCP and TLS connect. `name`: the host's, for its certificate. Raises OSError."""
        if transport == "udp":
            return await self._udp_flow(host, port)
        if transport == "tls" and self._client_tls is None:
            raise OSError("no TLS of our own to connect with")  # rather than in the clear
        is_tls = transport == "tls"
        _, stream = await asyncio.get_running_loop().create_connection(
            lambda: Stream(self, transport),
            host,
            port,
            ssl=self._client_tls if is_tls else None,
            server_hostname=(name or host) if is_tls else None,
        )
        assert stream.flow is not None
        return stream.flow

    async def _udp_flow(self, host: str, port: int) -> Flow:
        is_v6 = ":" in host
        bound = next((own for own in self._udp if (":" in own[0]) == is_v6), None)
        if bound is None:
            await self._listen_udp(ListenAddress("udp", "::" if is_v6 else "0.0.0.0", 0))
            bound = next(own for own in self._udp if (":" in own[0]) == is_v6)
        return Flow("udp", self.local_address(bound, host), (host, port))

    # -- moving bytes --------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Delivers events, sends what is due and re-arms the timer. To be called after using the endpoint."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            self._drain()
        finally:
            self._is_pumping = False
        self._arm()

    def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while True:
            # events first: an answer made on the spot then leaves in the same round
            events = self._endpoint.take_events()
            for event in events:
                self._on_event(event, now)
            outgoing = self._endpoint.take_outgoing()
            # Before they leave: whom they wake may run first, and a call's time 0 is the moment of its 200
            now = loop.time()
            for message in outgoing:
                self._send(message)
            if not events and not outgoing:
                return

    def _send(self, message: Outgoing) -> None:
        flow = message.flow
        if flow.transport == "udp":
            if message.target is None or is_address(message.target[0]):
                self._send_datagram(message.data, flow)
            else:
                self._send_to_name(message.data, flow, message.target)
            return
        stream = self._streams.get(flow) or next(self._streams_to(flow), None)
        if stream is not None:
            stream.send(message.data)
        elif message.target is not None and self._dials is not None and self._n_dials < MAX_DIALS:
            self._n_dials += 1
            self._dials.create_task(self._dial(message.data, flow, message.target), name="sip dial")
        else:
            self._lost(message.data, "connection is gone")

    def _lost(self, data: bytes, reason: str) -> None:
        log.info("sip message lost", reason=reason, n=len(data))
        self._endpoint.lost(data, asyncio.get_running_loop().time())

    def _send_datagram(self, data: bytes, flow: Flow) -> None:
        transport = self._udp_socket(flow)
        if transport is not None:
            transport.sendto(data, flow.remote)
        else:
            self._lost(data, "no socket")

    def _send_to_name(self, data: bytes, flow: Flow, name: Address) -> None:
        """To the name's address once that is known. Where it has none, the way the last message came."""
        found = self._names.known("udp", *name, is_v6=":" in flow.remote[0]) if self._dials is not None else None
        if found is not UNKNOWN or self._dials is None:
            self._send_datagram(data, flow._replace(remote=found or flow.remote))
            return
        waiting = self._looking.setdefault((flow, name), {})
        waiting[data] = None
        if len(waiting) == 1:
            self._dials.create_task(self._send_once_known(flow, name), name="sip name")

    async def _send_once_known(self, flow: Flow, name: Address) -> None:
        found = await self._resolve("udp", name, is_v6=":" in flow.remote[0])
        for data in self._looking.pop((flow, name)):
            self._send_datagram(data, flow._replace(remote=found or flow.remote))

    async def _resolve(self, transport: str, name: Address, *, is_v6: bool) -> Address | None:
        found = await self._names.look_up(transport, *name, is_v6=is_v6)
        if found is None:
            self._on_unresolved()
            log.info("sip name has no address", reason="resolved to nothing")
        return found

    async def _dial(self, data: bytes, flow: Flow, target: Address) -> None:
        """Opens a connection for a request whose own was closed (RFC 3261 18.1.1): peers drop idle ones in mid-call."""
        transport, name = flow.transport, target[0]
        try:
            if not is_address(name):
                target = await self._resolve(transport, target, is_v6=":" in flow.remote[0]) or target
            async with asyncio.timeout(DIAL_TIMEOUT):
                flow = await self.connect(transport, *target, name=name)
            self._streams[flow].send(data)
        except (OSError, KeyError, TimeoutError) as error:  # ssl.SSLError is an OSError; KeyError: closed at once
            self._lost(data, f"no connection: {type(error).__name__}")
            self.pump()
        finally:
            self._n_dials -= 1

    def _udp_socket(self, flow: Flow) -> asyncio.DatagramTransport | None:
        """The socket of that address, or, where another is advertised, of that port and family."""
        exact = self._udp.get(flow.local)
        if exact is not None:
            return exact
        is_v6 = ":" in flow.remote[0]
        for (host, port), transport in self._udp.items():
            if port == flow.local[1] and (":" in host) == is_v6:
                return transport
        return None

    def _streams_to(self, flow: Flow) -> Iterator[Stream]:
        """Other connections with the same peer: SBCs reopen theirs in the middle of calls."""
        return (
            stream
            for known, stream in self._streams.items()
            if known.transport == flow.transport and known.remote[0] == flow.remote[0]
        )

    def received(self, data: bytes, flow: Flow, at: float) -> None:
        """Bytes of one message that arrived at `at`."""
        self._arrived_at = at
        try:
            self._endpoint.receive(data, flow, asyncio.get_running_loop().time())
        except Exception:  # the boundary of one message: a bug of ours must not close the others' connection
            log.exception("sip message failed", n=len(data))
        self.pump()
        self._arrived_at = None

    def arrived_at(self, now: float) -> float:
        """For `on_event`: when the message arrived that the event comes from; `now` for one that comes from none. After
        a standstill of the process it has waited in the kernel, and so has the audio before it."""
        return now if self._arrived_at is None else min(self._arrived_at, now)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._endpoint.deadline()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._endpoint.handle_timer(asyncio.get_running_loop().time())
        except Exception:  # without this one bad timer would be the last of all
            log.exception("sip timer failed")
        self.pump()

    def local_address(self, bound: tuple[str, int], remote_host: str) -> tuple[str, int]:
        """Our address as `remote_host` sees it: advertised, bound, or the one the kernel would route from."""
        if self._advertise:
            return self._advertise, bound[1]
        if not ipaddress.ip_address(bound[0]).is_unspecified:
            return bound
        if remote_host not in self._local_for:
            if len(self._local_for) > 10_000:
                self._local_for.clear()
            self._local_for[remote_host] = facing_address(remote_host) or ("::1" if ":" in remote_host else "127.0.0.1")
        return self._local_for[remote_host], bound[1]

    def own_address(self, transport: str, host: str) -> Address | None:
        """For `Endpoint.speak_from`: what we listen on is what we speak; TLS only where certificates can be checked."""
        if transport == "tls" and self._client_tls is None:
            return None
        for own in self.bound:
            if own.transport == transport and (":" in own.host) == (":" in host):
                return self.local_address((own.host, own.port), host)
        return None

    # -- connections ---------------------------------------------------------------------------------------------

    def admit(self, host: str) -> bool:
        return self._admit(host)

    def has_room(self) -> bool:
        return len(self._streams) < MAX_CONNECTIONS

    def opened(self, transport: asyncio.DatagramTransport, bound: tuple[str, int]) -> None:
        """A UDP socket listens."""
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._udp[bound] = transport
        self.bound.append(ListenAddress("udp", *bound))

    def connected(self, stream: Stream, flow: Flow) -> None:
        self._streams[flow] = stream

    def disconnected(self, flow: Flow) -> None:
        self._streams.pop(flow, None)
