"""Calls that look like calls, for looking at the console: `python -m tests.web.stage [port] [calls]`."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from typing import Any

from bridge.clock import unix_ms
from bridge.config import HttpSettings
from bridge.model import Word
from bridge.publish import events
from bridge.publish.events import Event
from tests.web.conftest import FakeCalls, Site, published

SAID = {
    "caller": ["Hi, I am calling about my last invoice.", "It says forty two euros, and I think that is wrong.",
               "No, I have not changed my plan since March.", "Okay, I will wait.", "Great, thank you so much."],
    "agent": ["Thanks for calling, my name is Ruth. How can I help?", "Let me look that up for you.",
              "I am going to put you on hold for a moment.", "I see, there was a duplicate charge on the fourth.",
              "I have credited it back, you will see it in two days."],
}  # fmt: skip
PLOT = [(0, "agent", 0, ""), (5, "caller", 0, ""), (9, "caller", 1, ""), (14, "agent", 1, ""), (18, "caller", 2, ""),
        (22, "agent", 2, ""), (26, "", 0, "hold"), (48, "agent", 3, ""), (54, "caller", 3, ""), (57, "agent", 4, ""),
        (63, "", 0, "music"), (75, "", 0, "mute"), (84, "caller", 4, ""), (90, "", 0, "paused"),
        (100, "", 0, "end")]  # fmt: skip


class Actor:
    """One scripted call, told event by event."""

    def __init__(self, calls: FakeCalls, call: str, *, begun_s: float) -> None:
        self.calls, self.call, self.begun_s = calls, call, begun_s
        self.zero_ms = unix_ms() - int(begun_s * 1000)
        self.seq = 0
        self.at = 0.0
        self.ledgers: dict[str, dict[str, Any]] = {}

    def tell(self, make: Any, at: float, **more: Any) -> None:
        self.seq += 1
        event: Event = make(self.call, self.zero_ms + int(at * 1000), **more)
        self.calls.happen(published(event, self.seq))

    def start(self, from_: str, to: str) -> None:
        roles = {"leg1": "caller", "leg2": "agent"}
        names = {"leg1": from_, "leg2": "Ruth Adler"}
        self.legs = [
            {"leg": leg, "role": role, "codec": "PCMU", "participant": names[leg]} for leg, role in roles.items()
        ]
        self.tell(
            events.call_started, 0, ingress="siprec", from_=from_, to=to, legs=self.legs, labels={"queue": "billing"}
        )
        gates = {leg: {"state": "closed", "cause": "silence", "since": 0.0} for leg in roles}
        self.ledgers = {leg: {"role": role, "received_s": 0.0, "sent_s": 0.0, "withheld_s": {}, "billable_s": 0.0,
                              "lost_s": 0.0} for leg, role in roles.items()}  # fmt: skip
        self.live: dict[str, Any] = {
            "id": self.call, "ingress": "siprec", "since": events.rfc3339(self.zero_ms), "from": from_, "to": to,
            "labels": {"queue": "billing"}, "state": "running", "call_s": 0.0,
            "legs": [leg | {"gate": gates[leg["leg"]], "ledger": self.ledgers[leg["leg"]]} for leg in self.legs],
        }  # fmt: skip
        self.calls.live[self.call] = self.live
        for leg, role in roles.items():
            self.tell(events.leg_gate, 0, leg=leg, role=role, cause="silence", since=0.0)

    def gate(self, leg: str, cause: str | None, at: float) -> None:
        told = next(each for each in self.live["legs"] if each["leg"] == leg)
        told["gate"] = {"state": "open" if cause is None else "closed", "cause": cause, "since": at}
        self.tell(events.leg_gate, at, leg=leg, role=told["role"], cause=cause, since=at)

    def advance(self, to: float) -> None:
        for told in self.live["legs"]:
            ledger, passed = told["ledger"], to - self.at
            ledger["received_s"] += passed
            cause = told["gate"]["cause"]
            if told["gate"]["state"] == "open":
                ledger["sent_s"] += passed
                ledger["billable_s"] += passed
            else:
                ledger["withheld_s"][cause] = ledger["withheld_s"].get(cause, 0.0) + passed
        self.at = to
        self.live["call_s"] = to

    def speak(self, role: str, text: str, at: float, turn: int) -> Iterator[float]:
        leg = "leg1" if role == "caller" else "leg2"
        self.gate(leg, None, at)
        words: list[Word] = []
        for n, word in enumerate(text.split()):
            words.append(Word(word, at + 0.3 * n, at + 0.3 * n + 0.26, 0.97))
            yield words[-1].end
            said = " ".join(each.text for each in words)
            self.tell(events.transcript_interim, self.at, leg=leg, role=role, text=said, start=at, end=words[-1].end,
                      utterance=f"{leg}-{turn}", revision=n, words=words)  # fmt: skip
        end = words[-1].end
        self.tell(events.transcript_final, end, leg=leg, role=role, text=text, start=at, end=end, words=words,
                  turn=turn, utterance=f"{leg}-{turn}", language="en", confidence=0.97, provider="x")  # fmt: skip
        yield end + 0.65
        self.gate(leg, "silence", end + 0.65)
        self.tell(events.turn_ended, end + 0.8, leg=leg, role=role, text=text, start=at, end=end, turn=turn,
                  reason="silence", latency_ms=210)  # fmt: skip

    def play(self) -> Iterator[float]:
        """Yields the call time up to which the world must have come."""
        for turn, (at, role, line, cause) in enumerate(PLOT):
            yield max(float(at), self.at)
            if role:
                yield from self.speak(role, SAID[role][line], self.at, turn)
            elif cause == "end":
                break
            else:
                legs = ["leg1"] if cause == "music" else ["leg2"] if cause == "mute" else ["leg1", "leg2"]
                for leg in legs:
                    self.gate(leg, cause, self.at)
        ledgers = {told["leg"]: told["ledger"] for told in self.live["legs"]}
        self.tell(events.call_ended, self.at, reason="hangup", duration_s=self.at, legs=ledgers)
        self.calls.live.pop(self.call, None)

    async def run(self) -> None:
        for due in self.play():
            while unix_ms() - self.zero_ms < due * 1000:
                self.advance((unix_ms() - self.zero_ms) / 1000)
                await asyncio.sleep(min(0.25, max(0.01, due - (unix_ms() - self.zero_ms) / 1000)))
            self.advance(max(due, self.at))


async def main(port: int, n: int) -> None:
    site = Site(HttpSettings(listen=f"127.0.0.1:{port}"))
    site.calls.live.clear()
    site.calls.state |= {"max_legs": 1000, "legs": 2 * n}
    await site.server.open()
    chance = random.Random(1)
    async with asyncio.TaskGroup() as group:
        for k in range(n):
            actor = Actor(site.calls, f"c{k:04d}5f2e7a", begun_s=chance.uniform(3, 95) if k else 62.0)
            actor.start(f"+49 30 5550{k:03d}", "+49 800 1234567")
            group.create_task(actor.run())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8090, int(sys.argv[2]) if len(sys.argv) > 2 else 6))
