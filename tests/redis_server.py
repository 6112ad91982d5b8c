"""A private, real redis-server on a free port: started, killed, paused, restarted, as a test needs it.

with RedisServer() as server:             # or the fixture `redis_server`
    redis.Redis.from_url(server.url)
    server.kill(); server.start()         # same port, same data directory
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

START_S = 15.0  # a loaded machine; normally 30 ms


def free_port() -> int:
    """A TCP port below the cluster bus's limit that nobody listens on now."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 55000:
            return port


def is_installed() -> bool:
    """redis-server is on the PATH."""
    return shutil.which("redis-server") is not None


class RedisServer:
    """`options` are redis.conf directives: RedisServer(appendonly="yes", maxmemory="5mb")."""

    def __init__(self, port: int = 0, **options: str) -> None:
        self.port = port or free_port()
        self.options = options
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """What is run."""
        settings = {
            "save": "",
            "appendonly": "no",
            "bind": "127.0.0.1",
            "dir": str(self.directory),
            "logfile": "redis.log",
            "repl-diskless-sync-delay": "0",  # a replica need not wait 5 s for others
        }
        command = ["redis-server", "--port", str(self.port)]
        for name, value in (settings | self.options).items():
            command += [f"--{name.replace('_', '-')}", *(value.split() if name != "save" else [value])]
        return command

    def start(self) -> Self:
        """Starts it and waits until it takes connections. With `appendonly` it has the data of before."""
        self._process = subprocess.Popen(
            self.command(), cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
                return self
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{' '.join(self.command())} did not start")
            time.sleep(0.01)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def kill(self) -> None:
        """SIGKILL, and gone."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: takes connections (the kernel does), answers nothing."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def restart(self) -> None:
        self.kill()
        self.start()

    def client(self) -> redis.Redis:
        """A blocking client that gives str. To be closed: `with server.client() as client`."""
        return redis.Redis(port=self.port, decode_responses=True)

    def close(self) -> None:
        """Kills it and removes its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Sentinel(RedisServer):
    """One sentinel watching one master; alone it is its own quorum."""

    def __init__(self, master_port: int) -> None:
        super().__init__()
        self.options = {}
        self._configuration = self.directory / "sentinel.conf"
        self._configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"sentinel monitor mymaster 127.0.0.1 {master_port} 1\n"
            "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 3000\n"
        )

    def command(self) -> list[str]:
        return ["redis-server", str(self._configuration), "--sentinel"]


def wait_for_replicas(servers: list[RedisServer], deadline: float) -> None:
    """Until each has all that its master has. Raises RuntimeError at `deadline`."""
    for server in servers:
        with server.client() as client:
            while client.info("replication").get("master_link_status") != "up":
                if time.monotonic() > deadline:
                    raise RuntimeError(f"the replica on port {server.port} did not find its master")
                time.sleep(0.05)


class Pair:
    """A master, its replica, and a sentinel that swaps them: `with Pair(**options) as pair`."""

    def __init__(self, **options: str) -> None:
        self.servers = [RedisServer(**options), RedisServer(**options)]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            master, replica = (stack.enter_context(server) for server in self.servers)
            with replica.client() as client:
                client.replicaof("127.0.0.1", str(master.port))
            wait_for_replicas([replica], time.monotonic() + START_S)
            self._sentinel = stack.enter_context(Sentinel(master.port))
            self._stack = stack.pop_all()
        self.master  # noqa: B018  # the sentinel knows it
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """For whoever follows the master."""
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/mymaster"

    @property
    def master(self) -> RedisServer:
        """As the sentinel sees it now."""
        with self._sentinel.client() as client:
            port = int(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])
        return next(server for server in self.servers if server.port == port)

    def wait_for_failover(self, old: RedisServer) -> RedisServer:
        """The new master. Raises RuntimeError when there is none in time."""
        deadline = time.monotonic() + START_S
        while True:
            if (master := self.master) is not old:
                with contextlib.suppress(redis.RedisError), master.client() as client:
                    if client.info("replication")["role"] == "master":
                        return master
            if time.monotonic() > deadline:
                raise RuntimeError("nobody was promoted")
            time.sleep(0.05)

    def wait_for_replica(self) -> None:
        """Until whoever is not master follows whoever is. Raises RuntimeError."""
        deadline = time.monotonic() + 4 * START_S
        while True:
            master = self.master
            (replica,) = (server for server in self.servers if server is not master)
            with contextlib.suppress(redis.RedisError), replica.client() as client:
                told = client.info("replication")
                if told.get("master_link_status") == "up" and int(told["master_port"]) == master.port:
                    return
            if time.monotonic() > deadline:
                raise RuntimeError("the replica did not find its master")
            time.sleep(0.1)


@contextlib.contextmanager
def cluster(n: int = 3, *, replicas: int = 0) -> Iterator[list[RedisServer]]:
    """A Redis Cluster of `n` masters, all slots served, then `replicas` for each of them."""
    options = {"cluster_enabled": "yes", "cluster_node_timeout": "1000", "cluster_require_full_coverage": "no"}
    servers = [RedisServer(appendonly="yes", appendfsync="always", **options) for _ in range(n + n * replicas)]
    try:
        for server in servers:
            server.start()
        hosts = [f"127.0.0.1:{server.port}" for server in servers]
        subprocess.run(
            ["redis-cli", "--cluster", "create", *hosts, "--cluster-replicas", str(replicas), "--cluster-yes"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        deadline = time.monotonic() + START_S
        for server in servers:
            with server.client() as client:
                while client.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                    if time.monotonic() > deadline:
                        raise RuntimeError("cluster did not form")
                    time.sleep(0.05)
        wait_for_replicas(servers[n:], deadline)
        yield servers
    finally:
        for server in servers:
            server.close()
