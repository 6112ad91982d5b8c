"""Which provider next, and when: routes in order of choice, one circuit breaker each, backoff with jitter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge.stt.session import Cure, Provider

BACKOFF_FIRST = 0.25
"""s; ceiling of the first retry's random delay; doubles with every further one."""
BACKOFF_MAX = 15.0
"""s; the ring holds a minute, so several tries fit into it."""
FAILURES_TO_OPEN = 3
"""In a row, over all legs. One or two are a network's everyday."""
COOL_DOWN = 1.0
"""s; what a breaker that opened for retryable failures waits before its first probe; doubles up to the maximum."""
COOL_DOWN_MAX = 30.0
COOL_DOWN_HARD = 30.0
"""s; the same for a wrong key or an empty account: somebody must act first."""
COOL_DOWN_HARD_MAX = 300.0
FALLS_TO_AVOID = 3
"""Sessions of a route that one leg loses within `AVOIDED_FOR`, whatever they have delivered. What is replayed after
each may be sent a quarter faster than it was said at most: one that dies every few seconds is never caught up with."""
AVOIDED_FOR = 60.0
"""s"""
PROBE_TIMEOUT = 15.0
"""s; a probe that has told nothing by then is forgotten, its leg may have hung up."""


@dataclass(frozen=True, slots=True)
class Route:
    """A provider with its settings, as one call's configuration has them."""

    provider: Provider
    settings: Any
    key: str = field(default="", compare=False)
    "Legs with an equal key share a breaker. Empty: made from the provider and all its settings, hashed."

    def __post_init__(self) -> None:
        if not self.key:
            # repr hides keys, so fields are read one by one: two keys are two accounts, with their own limits.
            values = [(name, getattr(self.settings, name)) for name in self.settings.__dataclass_fields__]
            digest = hashlib.blake2b(repr(values).encode(), digest_size=8).hexdigest()
            object.__setattr__(self, "key", f"{self.provider.name}-{digest}")


@dataclass(slots=True)
class Breaker:
    """Of one route, for all legs of the process. Closed: used. Open: left alone until `retry_at`, then one leg
    probes it; its success closes it again."""

    failures: int = 0
    openings: int = 0
    retry_at: float | None = None
    "None: closed."
    probe_until: float | None = None


class Breakers:
    """Shared by every leg. `random` gives 0 to 1."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._breakers: dict[str, Breaker] = {}

    def allows(self, key: str, now: float) -> bool:
        breaker = self._breakers.get(key)
        if breaker is None or breaker.retry_at is None:
            return True
        if breaker.probe_until is not None and now < breaker.probe_until:
            return False
        return now >= breaker.retry_at

    def retry_at(self, key: str, now: float) -> float:
        """When asking again makes sense."""
        breaker = self._breakers.get(key)
        if breaker is None or breaker.retry_at is None:
            return now
        if breaker.probe_until is not None and now < breaker.probe_until:
            return min(now + COOL_DOWN, breaker.probe_until)
        return max(breaker.retry_at, now)

    def attempt(self, key: str, now: float) -> None:
        """A leg connects. If the breaker was open, it is the probe."""
        breaker = self._breakers.get(key)
        if breaker is not None and breaker.retry_at is not None:
            breaker.probe_until = now + PROBE_TIMEOUT

    def succeeded(self, key: str) -> None:
        self._breakers.pop(key, None)

    def failed(self, key: str, cure: Cure, now: float) -> None:
        breaker = self._breakers.setdefault(key, Breaker())
        breaker.failures += 1
        is_hard = cure is Cure.ELSEWHERE
        was_probe, breaker.probe_until = breaker.probe_until is not None, None
        if breaker.retry_at is not None and not was_probe:
            return  # a straggler of the same outage
        if is_hard or was_probe or breaker.failures >= FAILURES_TO_OPEN:
            first, most = (COOL_DOWN_HARD, COOL_DOWN_HARD_MAX) if is_hard else (COOL_DOWN, COOL_DOWN_MAX)
            wait = min(first * 2.0 ** min(breaker.openings, 16), most)
            breaker.openings += 1
            # Up to a fifth more, so that several processes do not probe in step.
            breaker.retry_at = now + wait * (1 + 0.2 * self._random())

    def states(self, now: float) -> dict[str, str]:
        """For metrics: key to `open` or `probing`; what is missing is closed."""
        return {
            key: "probing" if breaker.probe_until is not None and now < breaker.probe_until else "open"
            for key, breaker in self._breakers.items()
            if breaker.retry_at is not None
        }


class RouteChoice:
    """One leg's way along its routes."""

    def __init__(self, routes: Sequence[Route], breakers: Breakers, random: Callable[[], float]) -> None:
        self._routes = tuple(routes)
        self._breakers = breakers
        self._random = random
        self._attempts = 0
        self._falls: list[tuple[float, str]] = []
        "Lost sessions of the last `AVOIDED_FOR`: when, and the route's key."
        self.not_before = 0.0
        "Backoff of this leg."

    def choose(self, now: float) -> Route | None:
        """The first route that may be used now, those last that this leg had better avoid; None: ask again at
        `not_before`."""
        if now < self.not_before:
            return None
        self._falls = [fall for fall in self._falls if now - fall[0] < AVOIDED_FOR]
        for route in sorted(self._routes, key=self._is_avoided):
            if self._breakers.allows(route.key, now):
                self._breakers.attempt(route.key, now)
                return route
        soonest = min((self._breakers.retry_at(route.key, now) for route in self._routes), default=now)
        # Spread over a second: when a probe succeeds, every waiting leg wants to come at once.
        self.not_before = soonest + max(self._random(), 0.01)
        return None

    def _is_avoided(self, route: Route) -> bool:
        return sum(key == route.key for _, key in self._falls) >= FALLS_TO_AVOID

    def accepted(self, route: Route) -> None:
        self._breakers.succeeded(route.key)

    def proved(self) -> None:
        """A session has delivered something: the next failure starts the backoff anew. Being accepted is not
        enough, else a provider that takes sessions and drops them would be called in a tight loop."""
        self._attempts = 0

    def failed(self, route: Route, cure: Cure, now: float) -> None:
        """Full jitter (random between 0 and a doubling ceiling): a thousand legs do not come back as one."""
        self._breakers.failed(route.key, cure, now)
        self._falls.append((now, route.key))
        if cure is Cure.ELSEWHERE and any(self._breakers.allows(other.key, now) for other in self._routes):
            return  # the next route, at once
        ceiling = min(BACKOFF_FIRST * 2.0 ** min(self._attempts, 16), BACKOFF_MAX)
        self._attempts += 1
        self.not_before = now + ceiling * self._random()
