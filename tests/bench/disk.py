"""How long the disk takes to sync while a bench runs: an event is not published before it is on disk, so a final waits
for it, and on a disk that others use that can be most of what a final waits for."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PROBE_EVERY = 0.05  # s
PROBE_BYTES = 4096


class DiskProbe:
    """`with` it: writes and syncs a little, in a thread, into a file of its own in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.taken: list[float] = []
        "Seconds per sync."
        self._folder = folder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        with tempfile.TemporaryFile(dir=self._folder) as file:
            while not self._stopping.wait(PROBE_EVERY):
                os.pwrite(file.fileno(), bytes(PROBE_BYTES), 0)
                began = time.monotonic()
                os.fdatasync(file.fileno())
                self.taken.append(time.monotonic() - began)
