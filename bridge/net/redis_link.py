"""Where Redis is, and one connection to it that hides nothing: no pool, no silent retry, no silent reconnect.

What was confirmed on one connection may be gone on the next (failover), so whoever writes must see every reconnect.

URLs: `redis://`, `rediss://` (TLS), `unix://` as redis-py takes them, and with several nodes
`redis+sentinel://[user:password@]host[:26379][,host...]/name[/db]` (query `sentinel_username`, `sentinel_password`) and
`redis+cluster://[user:password@]host[:6379][,host...]`; `rediss+sentinel`, `rediss+cluster` for TLS. The query takes
redis-py's connection options (`ssl_ca_certs=...`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis.asyncio as aredis
from redis.asyncio.connection import parse_url
from redis.crc import key_slot
from redis.exceptions import (
    ClusterCrossSlotError,
    ClusterError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bridge.errors import ConfigError, SinkError

MANY_NODES = re.compile(r"[a-z]+\+[a-z]+://(?P<netloc>[^/?#]*)(?P<path>/[^?#]*)?(\?(?P<query>[^#]*))?")
"""Split here: urlsplit of some Pythons refuses several hosts of which one is an IPv6 address."""
CONNECT_S = 3.0
SILENT_S = 30.0  # for so long a node that did not answer is asked after the others
REPLY_S = 5.0  # a Redis that takes longer for one script is treated as gone
FAULTS = (RedisError, RedisClusterException, OSError)
"""All that redis-py's clients raise; the cluster's has errors that are no `RedisError`."""
_PASSING = (
    *(RedisConnectionError, RedisTimeoutError, RedisClusterException, ClusterError, OSError),
    *(ReadOnlyError, OutOfMemoryError, TryAgainError),
)
_PASSING_CODES = ("UNBLOCKED", "NOREPLICAS", "MISCONF", "BUSY ")
"""Of errors that redis-py has no class for: demoted while we waited; too few replicas; disk full; in a long script."""


def is_passing(error: BaseException) -> bool:
    """Redis is away, or cannot do it for now (failing over, full, loading): asked again later, it will."""
    return isinstance(error, _PASSING) or (isinstance(error, ResponseError) and str(error).startswith(_PASSING_CODES))


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URL."""

    kind: str
    "single, sentinel or cluster."
    url: str
    "For single; for the others the one of the first node, whose options hold for all."
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ConfigError."""
        try:
            scheme, _, kind = url.partition("://")[0].partition("+")
            if not kind:
                parse_url(url)
                return cls("single", url)
            found = MANY_NODES.fullmatch(url)
            if found is None or scheme not in ("redis", "rediss") or kind not in ("sentinel", "cluster"):
                raise ValueError(f"{url.partition('://')[0]!r} is none of ours")
            return cls._parse_nodes(found, scheme, kind)
        except ValueError as error:
            raise ConfigError([f"redis.url: {error}"]) from error

    @classmethod
    def _parse_nodes(cls, parts: re.Match[str], scheme: str, kind: str) -> Address:
        credentials, _, hosts = parts["netloc"].rpartition("@")
        nodes = tuple(_node(host, 26379 if kind == "sentinel" else 6379) for host in hosts.split(",") if host)
        if not nodes:
            raise ValueError("no host")
        path = [unquote(part) for part in (parts["path"] or "").split("/") if part]
        query = dict(parse_qsl(parts["query"] or ""))
        options = {
            name.removeprefix("sentinel_"): query.pop(name)
            for name in ("sentinel_username", "sentinel_password")
            if name in query
        }
        service = ""
        if kind == "sentinel":
            if not path:
                raise ValueError("the name of the master is missing: redis+sentinel://host/name")
            service = path.pop(0)
        database = "/" + path[0] if path else ""
        host, port = nodes[0]
        literal = f"[{host}]" if ":" in host else host
        netloc = f"{credentials}@{literal}:{port}" if credentials else f"{literal}:{port}"
        first = urlunsplit((scheme, netloc, database, urlencode(query), ""))
        parse_url(first)
        return cls(kind, first, nodes, service, options)

    @property
    def shown(self) -> str:
        """Where it is, for people: without user, password and options."""
        if self.kind != "single":
            nodes = ", ".join(f"{host}:{port}" for host, port in self.nodes)
            return f"Redis {self.kind} {nodes}" + (f", master {self.service}" if self.service else "")
        options = self.options()
        if path := options.get("path"):
            return f"Redis at {path}"
        scheme = self.url.partition("://")[0]
        host = options.get("host", "localhost")
        host = f"[{host}]" if ":" in host else host
        return f"{scheme}://{host}:{options.get('port', 6379)}/{options.get('db', 0)}"

    def options(self, **more: Any) -> dict[str, Any]:
        """redis-py's connection options, `connection_class` among them."""
        found: dict[str, Any] = dict(parse_url(self.url))
        return found | more

    def client(self, **more: Any) -> Any:
        """A redis-py client for reading: `Redis` (Sentinel: of the master) or `RedisCluster`. For `close_client`."""
        library: Any = aredis  # its constructors are only half typed
        if self.kind == "cluster":
            nodes = [library.cluster.ClusterNode(host, port) for host, port in self.nodes]
            return library.RedisCluster.from_url(self.url, startup_nodes=nodes, **more)
        if self.kind == "sentinel":
            options = self.options(**more)
            for name in ("host", "port", "connection_class"):
                options.pop(name, None)
            tls = {"ssl": True} if self.url.startswith("rediss") else {}
            sentinel = library.Sentinel(list(self.nodes), sentinel_kwargs=dict(self.sentinel_options) | tls)
            return sentinel.master_for(self.service, **options, **tls)
        return library.Redis.from_url(self.url, **more)


async def close_client(client: Any) -> None:
    """Closes what `Address.client` gave, with its connections to sentinels, which redis-py leaves open."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    await client.aclose()
    for sentinel in manager.sentinels if manager is not None else ():
        await sentinel.aclose()


def _node(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"{text!r} is no host")
    return parts.hostname, parts.port or default_port


class Link:
    """One connection to the master that serves `key`. Every failure is a SinkError and closes it."""

    def __init__(self, address: Address, key: str) -> None:
        self._address = address
        self._key = key
        self._connection: Any = None
        self._turn = 0
        self._silent: dict[tuple[str, int], float] = {}
        "Nodes that did not answer, and until when the others are asked first."
        self._master: tuple[str, int] | None = None
        self.generation = 0

    @property
    def is_open(self) -> bool:
        """Connected, as far as anybody knows."""
        return self._connection is not None

    async def open(self) -> None:
        """Connects, to whoever is master now."""
        if self._connection is not None:
            return
        deadline = asyncio.get_running_loop().time() + CONNECT_S
        try:
            async with asyncio.timeout_at(deadline):
                host_port = await self._find_master()
                connection = self._make(host_port, self._address.options())
                await connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            raise SinkError(_reason(error)) from error
        self._connection, self._master = connection, host_port
        self.generation += 1

    async def follow_master(self) -> None:
        """To be asked about once a second where sentinels say who is master. One that was replaced while it stood still
        goes on taking writes until they demote it, some ten seconds later, and loses them all. Raises SinkError, and
        closes, when there is another now."""
        if self._connection is None or self._address.kind != "sentinel" or self._is_silent(self._in_turn()[0]):
            return
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + CONNECT_S):
                told = await self._find_master()
                if told is None or told == self._master:
                    return
                role = await self._ask_once(told, self._address.options(), "ROLE")
        except (RedisError, OSError, SinkError):
            return  # a sentinel that lives in the past, or none: whoever we have is as good as any
        if role[0] == b"master":
            await self.close()
            raise SinkError("the sentinels have another master now")

    async def ask(self, *commands: Sequence[Any], timeout: float = REPLY_S) -> list[Any]:
        """Sends the commands as one pipeline; their answers. An error answer to any of them is a SinkError too, and
        what the others did is unknown then."""
        await self.open()
        connection = self._connection
        deadline = asyncio.get_running_loop().time() + timeout
        is_done = False
        try:
            async with asyncio.timeout_at(deadline):
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                answers = [await connection.read_response() for _ in commands]
            is_done = True
        except (RedisError, OSError, TimeoutError) as error:
            raise SinkError(_reason(error)) from error
        finally:
            if not is_done:  # cancelled too: an answer may still come, and must not be taken for another's
                await self.close()
        return answers

    async def close(self) -> None:
        """Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    def _make(self, host_port: tuple[str, int] | None, options: dict[str, Any]) -> Any:
        kind = options.pop("connection_class", aredis.Connection)
        if host_port is not None:
            options |= {"host": host_port[0], "port": host_port[1]}
        options |= {"protocol": 2, "driver_info": None, "socket_timeout": None, "socket_connect_timeout": CONNECT_S}
        return kind(**options)

    async def _find_master(self) -> tuple[str, int] | None:
        if self._address.kind == "single":
            return None
        problem: Exception = SinkError("no node answers")
        nodes = self._in_turn()
        for node in nodes:
            self._turn = self._address.nodes.index(node) + 1  # another one the next time: this one may live in the past
            self._silent[node] = asyncio.get_running_loop().time() + SILENT_S  # until it answers, which may be never
            try:
                ask = self._ask_sentinel if self._address.kind == "sentinel" else self._ask_cluster
                found = await ask(node)
            except (RedisError, OSError, SinkError) as error:
                problem = error
            else:
                del self._silent[node]
                return found
        raise SinkError(_reason(problem)) from problem

    def _in_turn(self) -> list[tuple[str, int]]:
        """All nodes, in the order in which they are to be asked: one that is dead takes a second to be found so, and
        nothing is written meanwhile."""
        nodes, first = self._address.nodes, self._turn % len(self._address.nodes)
        return sorted((*nodes[first:], *nodes[:first]), key=self._is_silent)

    def _is_silent(self, node: tuple[str, int]) -> bool:
        return asyncio.get_running_loop().time() < self._silent.get(node, 0.0)

    async def _ask_sentinel(self, node: tuple[str, int]) -> tuple[str, int]:
        options = self._address.options()
        for name in ("username", "password", "db"):
            options.pop(name, None)
        answer = await self._ask_once(
            node, options | self._address.sentinel_options, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._address.service
        )
        if not answer:
            raise SinkError(f"sentinel knows no master {self._address.service!r}")
        return answer[0].decode(), int(answer[1])

    async def _ask_cluster(self, node: tuple[str, int]) -> tuple[str, int]:
        slot = key_slot(self._key.encode())
        for first, last, master, *_ in await self._ask_once(node, self._address.options(), "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return master[0].decode() or node[0], int(master[1])
        raise SinkError(f"no node serves slot {slot}")

    async def _ask_once(self, node: tuple[str, int], options: dict[str, Any], *command: str) -> Any:
        connection = self._make(node, options)
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + CONNECT_S / 3):
                await connection.connect()
                await connection.send_command(*command, check_health=False)
                return await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def _reason(error: BaseException) -> str:
    """Short, and without the URL: it may hold a password."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    if isinstance(error, MovedError | ClusterCrossSlotError):
        return "this Redis is a node of a cluster: name it as redis+cluster://"
    return f"{type(error).__name__}: {error}" if isinstance(error, RedisError) else str(error)
