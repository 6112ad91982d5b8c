"""How fast a session is fed: never faster than providers read."""

from __future__ import annotations

FASTER = 1.25
"""times real time; Deepgram reads no faster, and Soniox may end a stream that is sent in bursts."""
BURST = 3.0
"""s of live audio that may go at once: the longest look-back (2.5 s), and what piled up while a session was opened.
Held back, it would only make the first words of every turn late."""
REPLAY_BURST = 0.5
"""s; the same in a session that replays: its backlog can be a minute long."""


class Pace:
    """A token bucket of samples. A replay starts with it empty."""

    def __init__(self, rate_hz: int, *, chunk: int, is_replay: bool, now: float) -> None:
        self._rate = FASTER * rate_hz
        self._most = max((REPLAY_BURST if is_replay else BURST) * rate_hz, chunk)
        self._credit = float(chunk) if is_replay else self._most
        self._at = now

    def ready_at(self, samples: int) -> float:
        """When so many may be sent; never later than it takes to fill the bucket."""
        missing = min(samples, self._most) - self._credit
        return self._at + missing / self._rate if missing > 0 else self._at

    def spend(self, samples: int, now: float) -> None:
        self._credit = min(self._credit + (now - self._at) * self._rate, self._most) - samples
        self._at = now
