"""The bench's child processes: JSON lines on their standard output, commands on their standard input, and a deadline
for every wait, so that a bench whose part has died or hangs ends with a sentence instead of never."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ANSWER_WITHIN = 30.0  # s, unless the question says otherwise
END_WITHIN = 15.0  # s from SIGTERM to SIGKILL
TAIL_BYTES = 2000  # of a log, in an error


class BenchError(Exception):
    """The bench cannot go on; the text says why."""


class Process:
    """A child on given CPUs. Standard error goes to `log`."""

    def __init__(
        self, command: Sequence[str], *, cpus: set[int], log: Path | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.name = " ".join(command[1:3])
        self.log = log
        self._stderr = log.open("wb") if log else None
        self.process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True, cwd=ROOT,
            env=env, preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )  # fmt: skip
        self.pid = self.process.pid
        self._lines: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):  # closed under our hands
            for line in self.process.stdout:
                self._lines.put(line)
        self._lines.put("")

    def hear(self, within: float = ANSWER_WITHIN) -> dict[str, Any]:
        """Its next line; one that is no JSON comes as `line`. Raises BenchError when it ended or says nothing."""
        try:
            line = self._lines.get(timeout=within)
        except queue.Empty:
            raise BenchError(f"{self.name}: no answer within {within:g} s{self.last_words()}") from None
        if not line:
            raise BenchError(f"{self.name}: ended with {self.process.wait(END_WITHIN)}{self.last_words()}")
        return json.loads(line) if line.startswith("{") else {"line": line}

    def ask(self, command: str, within: float = ANSWER_WITHIN) -> dict[str, Any]:
        """Its answer to one command. Raises BenchError."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it has ended, and `hear` says so
        return self.hear(within)

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def last_words(self) -> str:
        """The end of its log, for an error."""
        if self.log is None or not self.log.exists():
            return ""
        text = self.log.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace").strip()
        return f"; it had said:\n{text}" if text else ""

    def close(self) -> None:
        """SIGTERM, and SIGKILL for what does not obey."""
        self.process.terminate()
        try:
            self.process.wait(END_WITHIN)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(1.0)
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def running(*arguments: Any, **options: Any) -> Iterator[Process]:
    """A `Process` for the length of a block."""
    process = Process(*arguments, **options)
    try:
        yield process
    finally:
        process.close()


def get(url: str, within: float = ANSWER_WITHIN) -> str:
    """The body of an HTTP answer. Raises OSError."""
    with urllib.request.urlopen(url, timeout=within) as response:
        return str(response.read().decode())


def wait_for_http(url: str, process: Process, *, within: float, every: float = 0.1) -> None:
    """Until `url` answers with 200. Raises BenchError when `process` ends first, or in time."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError):
            get(url, 5.0)
            return
        if not process.is_running:
            raise BenchError(f"{process.name} ended with {process.process.returncode}{process.last_words()}")
        if time.monotonic() > deadline:
            raise BenchError(f"{url}: not within {within:g} s{process.last_words()}")
        time.sleep(every)
