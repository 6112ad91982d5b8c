"""A small `Host` that keeps what it is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bridge.clock import monotonic
from bridge.config import TrunkSettings
from bridge.errors import CapacityError, InvalidState
from bridge.ingress.contract import CallControl, CallOffer, LegOffer, MediaOffer


class FakeLeg:
    def __init__(self, number: int, offer: LegOffer) -> None:
        self.id = f"leg{number}"
        self.role = offer.role or ("caller" if number == 1 else "agent")
        self.offer = offer
        self.pieces: list[tuple[float, NDArray[np.int16]]] = []
        self.ended_at: float | None = None

    @property
    def local(self) -> tuple[str, int]:
        if self.offer.media is None:
            raise InvalidState("no media")
        return "127.0.0.1", 20000 + 2 * int(self.id[3:])

    def hold(self, on: bool, now: float) -> None: ...

    def media_changed(self, media: MediaOffer, now: float) -> None: ...

    def sends(self, on: bool) -> None: ...

    def speaker_changed(self, *, role: str, participant: str, now: float) -> None: ...

    def key_pressed(self, digit: str, *, duration_ms: int, now: float) -> None: ...

    def push_pcm(self, samples: NDArray[np.int16], *, start: float, now: float) -> None:
        assert samples.dtype == np.int16
        self.pieces.append((start, samples))

    def count_packets(self, packets: Mapping[str, int]) -> None:
        self.packets = dict(packets)

    def ended(self, now: float) -> None:
        self.ended_at = now

    @property
    def seconds(self) -> float:
        return sum(len(samples) for _, samples in self.pieces) / 16000

    @property
    def samples(self) -> NDArray[np.int16]:
        return np.concatenate([samples for _, samples in self.pieces]) if self.pieces else np.zeros(0, np.int16)


class FakeCall:
    def __init__(self, call_id: str, offer: CallOffer, control: CallControl) -> None:
        self.id = call_id
        self.offer = offer
        self.control = control
        self.seats = [FakeLeg(n, leg) for n, leg in enumerate(offer.legs, 1)]
        self.answered_at: float | None = None
        self.reason = ""

    @property
    def legs(self) -> Sequence[FakeLeg]:
        return self.seats

    def answered(self, now: float) -> None:
        self.answered_at = now if self.answered_at is None else self.answered_at

    def add_leg(self, offer: LegOffer, now: float) -> FakeLeg:
        self.seats.append(FakeLeg(len(self.seats) + 1, offer))
        return self.seats[-1]

    def ended(self, reason: str, now: float) -> None:
        self.reason = self.reason or reason


class FakeHost:
    """As many calls as `room`."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.trunk_settings = TrunkSettings()
        self.calls: list[FakeCall] = []
        self.stands_still = False

    @property
    def is_accepting(self) -> bool:
        return len(self.calls) < self.room

    def open_call(self, offer: CallOffer, control: CallControl, now: float) -> FakeCall:
        if not self.is_accepting:
            raise CapacityError("full")
        self.calls.append(FakeCall(f"call{len(self.calls) + 1}", offer, control))
        return self.calls[-1]

    def trunk(self, offer: CallOffer) -> TrunkSettings:
        return self.trunk_settings

    def each_tick(self, read: Callable[[float], None]) -> Callable[[], None]:
        loop = asyncio.get_running_loop()

        def tick() -> None:
            nonlocal timer
            timer = loop.call_later(0.02, tick)
            if not self.stands_still:
                read(monotonic())

        timer = loop.call_later(0.02, tick)
        return lambda: timer.cancel()

    def find_call(self, correlation: str, value: str) -> FakeCall | None:
        assert correlation == "call"
        return next((call for call in self.calls if call.id == value and not call.reason), None)
