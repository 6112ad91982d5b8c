"""A reader of Redis as a process of its own: when do finals and ends of turns arrive at a subscriber?

    python -m tests.bench.reader redis://127.0.0.1:6379/0 --turn-end-ms 800

Speaks JSON lines: `ready` once it reads; answers `reset` (forgets) and `stats` on its standard input; ends with it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import threading
import time

import redis

from tests.bench.sink_provider import percentiles
from tests.bench.turn_ends import TurnEnds

BLOCK_MS = 200
MOST_ENTRIES = 5000  # per answer
SOCKET_TIMEOUT = 10.0  # s; Redis is on the same machine


class Reader:
    """Reads in a thread of its own."""

    def __init__(self, url: str, turn_end_ms: float) -> None:
        self.client = redis.Redis.from_url(url, socket_timeout=SOCKET_TIMEOUT)
        self.turn_end_ms = turn_end_ms
        self.ends = TurnEnds(turn_end_ms)
        self.entries = 0
        found = self.client.xrevrange("callbridge:events", count=1)
        self.last = found[0][0] if found else b"0"

    def read(self) -> None:
        """For ever: what came after this reader was made."""
        last = self.last
        while True:
            answer = self.client.xread({"callbridge:events": last}, count=MOST_ENTRIES, block=BLOCK_MS)
            received, ends = time.monotonic(), self.ends
            for _, entries in answer or ():
                self.entries += len(entries)
                for last, fields in entries:  # noqa: B007 - the place to go on from
                    ends.take(fields, received)

    def obey(self) -> None:
        """Until the input ends."""
        for line in sys.stdin:
            if line.strip() == "reset":
                self.ends, self.entries = TurnEnds(self.turn_end_ms), 0
            self.tell(line.strip())

    def tell(self, what: str) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "told": what, "entries": self.entries, "cpu_s": usage.ru_utime + usage.ru_stime,
            "final_s": percentiles(self.ends.finals), "turn_s": percentiles(self.ends.turns),
        }  # fmt: skip
        print(json.dumps(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--turn-end-ms", type=float, default=800.0)
    options = parser.parse_args()
    reader = Reader(options.url, options.turn_end_ms)
    threading.Thread(target=reader.read, daemon=True).start()
    reader.tell("ready")
    reader.obey()


if __name__ == "__main__":
    main()
