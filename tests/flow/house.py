"""A whole house for the flow tests: real Redis, `callbridge serve` as a process, a provider stand-in."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from bridge.caller.options import CallResult
from bridge.demo.stage import free_rtp_range
from bridge.demo.verdict import Event, Session
from bridge.demo.watch import decode
from tests.redis_server import RedisServer, free_port

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 30.0  # s; a loaded machine
STREAM = "callbridge:events"


@dataclass
class Running:
    """`callbridge serve` and what it talks to."""

    uri: str
    http: str
    redis_url: str
    process: subprocess.Popen[bytes]
    log: Path
    events: dict[str, list[Event]] = field(default_factory=dict)
    "By call id, as far as read."

    def collect(self, n_calls: int, timeout: float = 30.0) -> dict[str, list[Event]]:
        """Every event by SIP Call-ID, once `n_calls` calls have ended."""
        deadline = time.monotonic() + timeout
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
            while True:
                found: dict[str, list[Event]] = {}
                for _, fields in client.xrange(STREAM):
                    found.setdefault(fields["call"], []).append(decode(fields))
                ended = sum(events[-1].type == "call.ended" for events in found.values())
                if ended >= n_calls or time.monotonic() > deadline:
                    self.events = found
                    return {sip_call_id(events): events for events in found.values()}
                time.sleep(0.1)

    def call_stream(self, call: str) -> list[Event]:
        """The call's own stream."""
        with redis.Redis.from_url(self.redis_url, decode_responses=True) as client:
            return [decode(fields) for _, fields in client.xrange(f"callbridge:call:{call}")]

    def log_lines(self) -> list[dict[str, Any]]:
        """The service's log, JSON lines only."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def sip_call_id(events: list[Event]) -> str:
    """The SIP Call-ID that `call.started` tells."""
    started = next((e for e in events if e.type == "call.started"), None)
    return str(started.data["correlation"]["sip_call_id"]) if started else ""


@contextlib.contextmanager
def service(
    folder: Path, redis_server: RedisServer, provider_url: str, **sections: dict[str, object]
) -> Iterator[Running]:
    """Ready to take calls; ended by SIGTERM. `sections` are added to the configuration: `gate={"mode": "off"}`."""
    sip, http, rtp = free_udp_port(), free_port(), free_rtp_range()
    tables: dict[str, dict[str, object]] = {
        "sip": {"listen": [f"udp:127.0.0.1:{sip}", f"tcp:127.0.0.1:{sip}"]},
        "rtp": {"bind": "127.0.0.1", "ports": [rtp, rtp + 199]},
        "http": {"listen": f"127.0.0.1:{http}"},
        "stt": {"provider": "deepgram"},
        "stt.deepgram": {"url": provider_url, "api_key": "flow"},
        "redis": {"url": redis_server.url},
        "spool": {"path": str(folder / "spool")},
        "log": {"format": "json"},
    }
    for name, keys in sections.items():
        tables.setdefault(name.replace("__", "."), {}).update(keys)
    config = folder / "callbridge.toml"
    config.write_text("".join(f"[{name}]\n{toml_lines(keys)}\n" for name, keys in tables.items()))
    log = folder / "service.log"
    env = {k: v for k, v in os.environ.items() if not k.startswith("CALLBRIDGE_") and k not in USUAL}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge", "serve", "--config", str(config)],
            cwd=ROOT, env=env, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    running = Running(f"sip:flow@127.0.0.1:{sip}", f"http://127.0.0.1:{http}", redis_server.url, process, log)
    try:
        wait_until_ready(running)
        yield running
    finally:
        process = running.process  # a test may have put another in its place
        process.terminate()
        try:
            process.wait(START_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def toml_lines(keys: dict[str, object]) -> str:
    """JSON's texts, numbers and lists are TOML's too."""
    return "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())


USUAL = ("DEEPGRAM_API_KEY", "SONIOX_API_KEY", "REDIS_URL")


def wait_until_ready(running: Running) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{running.http}/readyz", timeout=5):
            return
        if running.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("callbridge serve did not start: " + running.log.read_text()[-3000:])
        time.sleep(0.05)


def free_udp_port() -> int:
    """Free for UDP and TCP."""
    while True:
        port = free_port()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass(frozen=True)
class Provider:
    """A stand-in as a process of its own, so that its recogniser cannot delay the caller's packets."""

    url: str
    port: int
    clock: float

    def sessions(self, call: CallResult) -> list[Session]:
        """Its log of every connection, in that call's time."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/emulator/connections?frames=1") as response:
            told = json.loads(response.read())
        shift = self.clock - call.answered_at
        return [
            Session(
                seconds=c["seconds"],
                frames=tuple((t + shift, kind, size) for t, kind, size in c["frames"]),
                opened=c["opened_at"] + shift,
                closed=(c["closed_at"] or 0.0) + shift,
            )
            for c in told["connections"]
        ]


@contextlib.contextmanager
def provider(folder: Path, name: str = "deepgram") -> Iterator[Provider]:
    """Running until the block ends."""
    with (folder / "provider.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bridge.demo.provider", name], cwd=ROOT, stdout=subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the provider stand-in did not start: " + (folder / "provider.log").read_text()[-2000:])
        told = json.loads(line)
        yield Provider(told["url"], told["port"], told["clock"])
    finally:
        process.terminate()
        process.wait(START_TIMEOUT)
        process.stdout.close()
