"""The demo's provider stand-in as a process of its own: `python -m bridge.demo.provider deepgram`.

Its first line of output is JSON: the port, and what our shared monotonic clock said when its log's clock was 0.
"""

from __future__ import annotations

import json
import sys
from typing import cast

import structlog

from bridge.clock import monotonic
from bridge.emulator.options import EmulatorOptions, Provider
from bridge.emulator.run import run_emulator
from bridge.emulator.server import EmulatorServer


def _tell(server: EmulatorServer) -> None:
    # the log's clock starts when the server object is made, a few milliseconds before its port is open
    sys.stdout.write(json.dumps({"url": server.url, "port": server.port, "clock": monotonic()}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    run_emulator(EmulatorOptions(provider=cast("Provider", sys.argv[1])), started=_tell)
