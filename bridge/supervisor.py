"""What systemd wants to hear (sd_notify(3), Type=notify): ready, stopping, how it goes, and that the tick still beats.

Without `NOTIFY_SOCKET` nothing is said.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

import structlog

STATUS_EVERY = 5.0  # s; what `systemctl status` shows is at most that old
BEATS_PER_WATCHDOG = 3  # signs of life within `WatchdogSec`; sd_watchdog_enabled(3) asks for two

log = structlog.get_logger()


class Supervisor:
    """systemd, or nobody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """`NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` as systemd sets them."""
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # abstract
        is_ours = environ.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        usec = environ.get("WATCHDOG_USEC", "")
        self._watchdog = int(usec) / 1e6 if is_ours and usec.isascii() and usec.isdigit() else 0.0
        self._is_deaf = False

    def say(self, *assignments: str) -> None:
        """`READY=1` and the like, as one message. Never waits, never raises."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto("\n".join(assignments).encode(), self._address)
            self._is_deaf = False
        except OSError as error:
            if not self._is_deaf:
                log.warning("supervisor not reached", reason=error.strerror or str(error))
            self._is_deaf = True

    async def watch(self, beats: Callable[[], int], status: Callable[[], str]) -> None:
        """Until cancelled: `status` when it has changed, and a sign of life while `beats` grows. A tick that stands
        still is not told alive, however well the rest of the process is."""
        if not self._address:
            return
        every = min(STATUS_EVERY, self._watchdog / BEATS_PER_WATCHDOG or STATUS_EVERY)
        seen, shown = -1, ""
        while True:
            said = []
            if (n := beats()) != seen and self._watchdog:
                said.append("WATCHDOG=1")
            if (text := status()) != shown:
                said.append(f"STATUS={text}")
            seen, shown = n, text
            if said:
                self.say(*said)
            await asyncio.sleep(every)
