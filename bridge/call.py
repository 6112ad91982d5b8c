"""One call, from the first ring to its last event. The file to read first.

ingress   -> Call(offer)          ports are reserved, nothing is heard yet
answered  -> call.started         call time 0; each leg gets its row in the plane and its transcription
...          leg.gate, transcript.*, turn.ended     (see `bridge.leg`)
ended     -> legs close after the tick that reads what had arrived; last audio, Finalize/CloseStream, last words
all done  -> call.ended           with every leg's ledger; the call's last event
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from bridge.ingress.contract import CallControl, CallOffer, LegOffer
from bridge.leg import Leg
from bridge.model import Cause
from bridge.plans import CallPlan
from bridge.publish import events
from bridge.wiring import Wiring

CLOSING = 60.0
"""s; with `stt.replay_s` the longest that last words can take: a backlog that is replayed, and two closing sessions.
The transcriber keeps its own, shorter deadline; this one is for a leg that never says it is done."""
ROLES = ("caller", "agent")
log = structlog.get_logger()


@dataclass(slots=True)
class Backstop:
    """The last timer of a call. It outlives most calls by far: once the call is over it holds nothing of it."""

    call: Call | None

    def handle_timer(self, now: float) -> None:
        if self.call is not None:
            self.call.give_up(now)


class Gone:
    """The `CallControl` of a call that is over."""

    def hang_up(self) -> None: ...


class Call:
    """See the module. Synchronous; `now` is monotonic seconds."""

    def __init__(
        self,
        offer: CallOffer,
        *,
        plan: CallPlan,
        control: CallControl,
        wiring: Wiring,
        admit: Callable[[int], None],
        on_over: Callable[[Call], None],
        now: float,
    ) -> None:
        """Raises CapacityError; nothing is left behind then."""
        self.id = uuid.uuid4().hex
        self.offer = replace(offer, legs=(), headers={})  # those are for routes, and the route is chosen
        self._plan = plan
        self._control = control
        self._wiring = wiring
        self._admit = admit
        self._on_over = on_over
        self._legs: list[Leg] = []
        self._opened_at = now
        self._opened_unix_ms = wiring.unix_ms()
        self._zero: float | None = None
        self._ended_at: float | None = None
        self._reason = ""
        self._backstop = Backstop(None)
        self.is_over = False
        try:
            for leg in offer.legs:
                self._open_leg(leg)
        except BaseException:
            for opened in self._legs:
                opened.close(now)
            raise

    # -- what an ingress says -------------------------------------------------------------------------------------

    @property
    def legs(self) -> Sequence[Leg]:
        """Every leg that ever was, in order of appearance."""
        return self._legs

    @property
    def source(self) -> str:
        """IP address of whoever brought the call."""
        return self.offer.source

    def _open_leg(self, offer: LegOffer) -> Leg:
        self._admit(1)
        n = len(self._legs)
        role = offer.role or (ROLES[n] if n < len(ROLES) else f"party{n + 1}")
        leg = Leg(
            f"leg{n + 1}",
            replace(offer, role=role),
            party=self,
            wiring=self._wiring,
            gate=self._plan.gate,
            stt=self._plan.stt,
            dtmf_events=self._plan.sip.dtmf_events,
        )
        self._legs.append(leg)
        return leg

    def answered(self, now: float) -> None:
        """See `IngressCall`."""
        if self._zero is not None or self._ended_at is not None:
            return
        self._zero = now
        offer, wiring = self.offer, self._wiring
        present = [leg for leg in self._legs if not leg.is_closed]  # one may have left while it rang
        wiring.publish(
            events.call_started(
                self.id,
                wiring.unix_ms(),
                ingress=offer.ingress,
                from_=offer.from_,
                to=offer.to,
                legs=[leg.describe() for leg in present],
                correlation=offer.correlation,
                labels=self._plan.labels,
            )
        )
        log.info("call started", call=self.id, ingress=offer.ingress, n=len(present))
        for leg in present:
            leg.start(now, now)

    def add_leg(self, offer: LegOffer, now: float) -> Leg:
        """See `IngressCall`."""
        leg = self._open_leg(offer)
        if self._zero is not None and self._ended_at is None:
            leg.start(self._zero, now)
            leg.announce(events.leg_started)
        return leg

    def ended(self, reason: str, now: float) -> None:
        """See `IngressCall`. The legs are closed by the next tick, behind the audio that had arrived by `now`."""
        if self._ended_at is not None:
            return
        self._ended_at = now
        self._reason = reason
        log.info("call ending", call=self.id, reason=reason)
        self._backstop.call = self
        self._wiring.arm(self._backstop, self._wiring.now() + self._plan.stt.replay_s + CLOSING)
        for leg in self._legs:
            leg.close_behind(now)

    def end_leg(self, leg: Leg, now: float, *, at: float) -> None:
        """See `bridge.leg.Party`."""
        if self._is_last(leg):
            self.ended("hangup", at)
        leg.close(now, at=at)

    def fail_leg(self, leg: Leg, now: float) -> None:
        """See `bridge.leg.Party`. The peer is told when nobody listens to it any more."""
        if self._is_last(leg):
            self.hang_up("crash", now)
        leg.close(now)

    def _is_last(self, leg: Leg) -> bool:
        return self._ended_at is None and all(other is leg or other.is_closed for other in self._legs)

    def give_up(self, now: float) -> None:
        """Last words are waited for no longer: whatever turns are open end, and `call.ended` follows."""
        for leg in self._legs:
            leg.give_up(now)

    # -- what its own legs say --------------------------------------------------------------------------------------

    def spoke(self, leg: Leg, now: float) -> None:
        """See `bridge.leg.Party`."""
        for other in self._legs:
            if other is not leg and not other.is_done:
                other.other_speaks(now)

    def leg_done(self, leg: Leg, now: float) -> None:
        """See `bridge.leg.Party`."""
        if self._ended_at is None:
            if self._zero is None:
                return  # nobody was told that it is there
            leg.announce(events.leg_ended)
        elif all(other.is_done for other in self._legs):
            self._finish(now)

    def _finish(self, now: float) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._backstop.call = None
        if self._zero is not None:
            assert self._ended_at is not None
            duration = self._ended_at - self._zero
            wiring = self._wiring
            wiring.publish(
                events.call_ended(
                    self.id, wiring.unix_ms(), reason=self._reason, duration_s=duration, legs=self.ledgers(now)
                )
            )
            log.info("call ended", call=self.id, reason=self._reason, ms=round(duration * 1000))
        self._on_over(self)
        self._control, self._legs = Gone(), []  # they hold this object: it shall not wait for the garbage collector

    # -- what the API says ------------------------------------------------------------------------------------------

    @property
    def reason(self) -> str:
        """Why it ended; empty while it runs."""
        return self._reason

    @property
    def is_answered(self) -> bool:
        return self._zero is not None

    @property
    def is_ending(self) -> bool:
        return self._ended_at is not None

    def ledgers(self, now: float, *, is_last: bool = False) -> dict[str, dict[str, Any]]:
        """The books of every leg that was received, so far. `is_last`: should the process die now."""
        return {leg.id: leg.ledger(now, is_last=is_last) for leg in self._legs if leg.row >= 0}

    def hang_up(self, reason: str, now: float) -> None:
        """Ends it from our side: api, drain or timeout."""
        if self._ended_at is None:
            self.ended(reason, now)
            self._control.hang_up()

    def idle_for(self, now: float) -> float:
        """Seconds since the last RTP packet of any leg; 0 before the answer."""
        return min((leg.idle_for(now) for leg in self._legs if not leg.is_closed), default=0.0)

    def act(self, leg: str, verb: str, now: float) -> bool:
        """An API verb on one leg. False: no such leg."""
        found = next((each for each in self._legs if each.id == leg and not each.is_closed), None)
        if found is None:
            return False
        if verb == "resume":
            found.signal(Cause.PAUSED, "api", False, now)
            found.signal(Cause.HOLD, "api", False, now)
        else:
            cause = {"hold": Cause.HOLD, "mute": Cause.MUTE, "unmute": Cause.MUTE, "pause": Cause.PAUSED}[verb]
            found.signal(cause, "api", verb != "unmute", now)
        return True

    def adjust(self, leg: str, changes: Mapping[str, Any], now: float) -> bool:
        """Gate settings of one leg. False: no such leg. Raises PeerError for wrong ones."""
        found = next((each for each in self._legs if each.id == leg and not each.is_closed), None)
        if found is not None:
            found.adjust(changes, now)
        return found is not None

    def snapshot(self, now: float) -> dict[str, Any]:
        """JSON-ready, for `GET /v1/calls`."""
        return {
            "id": self.id,
            "ingress": self.offer.ingress,
            "since": events.rfc3339(self._opened_unix_ms),
            "from": self.offer.from_,
            "to": self.offer.to,
            "labels": self._plan.labels,
            "state": "ending" if self.is_ending else "running" if self._zero is not None else "ringing",
            "call_s": round(now - self._zero, 3) if self._zero is not None else None,
            "legs": [leg.snapshot(now) for leg in self._legs],
        }
