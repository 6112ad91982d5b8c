"""What one leg keys: its telephone events (RFC 4733) and signalled key presses, made into `dtmf` events."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from bridge.media.outputs import TelephoneEvent
from bridge.publish import events
from bridge.rtp.key_presses import SILENT_AFTER, Key, KeyPresses
from bridge.speech import Publish, nobody
from bridge.timers import Timed


class Digits:
    """Of a leg that is to tell them: digits can be card numbers. `arm` as in `Wiring`."""

    def __init__(self, *, publish: Publish, arm: Callable[[Timed, float], None]) -> None:
        self._publish = publish
        self._arm = arm
        self._keys = KeyPresses()
        self._is_armed = False

    def received(self, event: TelephoneEvent, now: float, *, is_secret: bool = False) -> None:
        """One packet of a key press; there are several of each. `is_secret`: the press is card data, and is not told
        even if its other packets come before or after the pause."""
        if is_secret:
            self._keys.packet(event.payload, event.timestamp, clock_hz=event.clock_hz, now=now)
            self.forget()
            return
        self._tell(self._keys.packet(event.payload, event.timestamp, clock_hz=event.clock_hz, now=now))
        self._watch(now)

    def signalled(self, digit: str, duration_ms: int) -> None:
        """By INFO."""
        self._tell(self._keys.info(digit, duration_ms))

    def forget(self) -> None:
        """A press that has begun and is not told yet never will be."""
        self._keys.settle(inf)

    def handle_timer(self, now: float) -> None:
        """Nothing more may have come of a key press: the network lost its end."""
        self._is_armed = False
        self._tell(self._keys.settle(now))
        self._watch(now)

    def close(self) -> None:
        """Nothing more comes: a key that is still down is told as far as it was heard."""
        self._tell(self._keys.settle(inf))
        self._publish = nobody  # it holds the leg, which holds this object

    def _watch(self, now: float) -> None:
        if self._keys.is_pressed and not self._is_armed:
            self._is_armed = True
            self._arm(self, now + SILENT_AFTER)

    def _tell(self, keys: list[Key]) -> None:
        for key in keys:
            self._publish(events.dtmf, digit=key.digit, duration_ms=key.duration_ms)
