"""What a leg's audio came to, counted in samples, told in seconds. Definitions: the contract's ledger of a leg."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SttLedger:
    """All in seconds but the counts. `received_s - sum(withheld_s) = sent_s - replayed_s - padded_s + unsent_s`
    holds at any moment; while the leg lives, audio that waits for a session counts as unsent and lost."""

    sent_s: float = 0.0
    replayed_s: float = 0.0
    padded_s: float = 0.0
    lost_s: float = 0.0
    unsent_s: float = 0.0
    unsettled_s: float = 0.0
    "Neither lost nor final yet: it would be lost should the process die now."
    connected_s: float = 0.0
    keepalives: int = 0
    sessions: int = 0
    provider_s: float = 0.0
    billable_s: float = 0.0
    finals: int = 0


class Account:
    """Samples of one leg. Positions are the tape's."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self.sent = 0
        self.padded = 0
        self.first_sent = 0
        "Samples that were sent for the first time."
        self.sent_to = 0
        "No position from here on was ever sent."
        self._lost: list[tuple[int, int]] = []
        self.connected_s = 0.0
        self.billable_s = 0.0
        self.provider_s = 0.0
        self.keepalives = 0
        self.sessions = 0

    def send(self, start: int, end: int) -> None:
        self.sent += end - start
        self.first_sent += max(end - max(start, self.sent_to), 0)
        self.sent_to = max(self.sent_to, end)

    def pad(self, samples: int) -> None:
        self.sent += samples
        self.padded += samples

    def lose(self, start: int, end: int) -> None:
        """No provider will finalise this stretch any more. Stretches may overlap what was lost before."""
        if start >= end:
            return
        merged: list[tuple[int, int]] = []
        for low, high in sorted([*self._lost, (start, end)]):
            if merged and low <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], high))
            else:
                merged.append((low, high))
        self._lost = merged

    @property
    def lost(self) -> int:
        return sum(end - start for start, end in self._lost)

    def ledger(self, handed: int, finals: int) -> SttLedger:
        """`handed`: samples ever handed over."""
        rate = self._rate_hz
        # Below `sent_to` what was never sent is lost already; above it, what is not lost still waits.
        waiting = handed - self.sent_to - sum(max(end - max(start, self.sent_to), 0) for start, end in self._lost)
        return SttLedger(
            sent_s=self.sent / rate,
            replayed_s=(self.sent - self.first_sent - self.padded) / rate,
            padded_s=self.padded / rate,
            lost_s=(self.lost + waiting) / rate,
            unsent_s=(handed - self.first_sent) / rate,
            connected_s=self.connected_s,
            keepalives=self.keepalives,
            sessions=self.sessions,
            provider_s=self.provider_s,
            billable_s=self.billable_s,
            finals=finals,
        )
