"""Did what must happen happen? Judges one demo call by three witnesses: Redis, the provider, the caller. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from bridge.caller.options import CallResult
from bridge.demo.scene import Scene, SpokenWord

WORD_TOLERANCE = 0.020  # s; the contract's spread of call times
WORD_SEARCH = 1.0  # s around its time in which a word is looked for
TICK = 0.021  # s: one tick, and the rounding of the ledger's figures
PROVIDER_TOLERANCE = 0.1  # s between our count of what was sent and the provider's
FLUSH = 0.6  # s after a hold begins in which what was said before it still leaves: jitter buffer and one chunk
LEAST_WITHHELD = (("caller", "hold", 0.9), ("agent", "hold", 0.9), ("caller", "mute", 0.5), ("agent", "music", 0.2))
"Shares of a stretch that must be withheld under its own cause: a mute and music are only known after a while."
PACE = {"deepgram": 5.0, "soniox": 20.0}  # s; the longest pause that the provider's documents advise


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the stream, fields decoded."""

    type: str
    seq: int
    leg: str = ""
    role: str = ""
    text: str = ""
    start: float = 0.0
    end: float = 0.0
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Session:
    """One connection as the provider logged it, times in call time."""

    seconds: float
    "Of audio received."
    frames: tuple[tuple[float, str, int], ...]
    "(call time, kind, bytes)"
    opened: float
    closed: float


@dataclass(frozen=True, slots=True)
class Heard:
    """How a leg's words compare with what was said."""

    n_expected: int
    n_heard: int
    worst: float
    "Greatest error of a word's start or end, seconds."
    missing: tuple[str, ...]
    surplus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so."""

    what: str
    ok: bool
    found: str


def judge(
    scene: Scene, call: CallResult, events: Sequence[Event], sessions: Sequence[Session], provider: str
) -> list[Check]:
    """Every check, in the order in which the call went."""
    ended = next((e for e in events if e.type == "call.ended"), None)
    ledgers = ledgers_by_role(ended)
    return [
        Check("the call was placed, held, taken back and hung up", call.ok, call.reason),
        *_words(scene, events),
        *_order(events, ended),
        *_hold(scene, call, sessions),
        _pace(sessions, PACE.get(provider, PACE["deepgram"])),
        *_causes(scene, ledgers),
        *_sums(ledgers, sessions),
    ]


def compare(expected: Sequence[SpokenWord], events: Iterable[Event]) -> Heard:
    """Words of one leg's finals against what was said: same word, nearest in time."""
    heard = [(_bare(str(w[0])), float(w[1]), float(w[2])) for e in events for w in e.data.get("words", [])]
    surplus, missing, worst = list(heard), [], 0.0
    for word in expected:
        same = [h for h in surplus if h[0] == _bare(word.text) and abs(h[1] - word.start) < WORD_SEARCH]
        if not same:
            missing.append(word.text)
            continue
        best = min(same, key=lambda h: abs(h[1] - word.start))
        surplus.remove(best)
        worst = max(worst, abs(best[1] - word.start), abs(best[2] - word.end))
    return Heard(len(expected), len(expected) - len(missing), worst, tuple(missing), tuple(h[0] for h in surplus))


def _bare(text: str) -> str:
    return text.lower().strip(".,;:!?")


def finals_of(events: Iterable[Event], role: str) -> list[Event]:
    """A role's final results."""
    return [e for e in events if e.type == "transcript.final" and e.role == role]


def ledgers_by_role(ended: Event | None) -> dict[str, dict[str, Any]]:
    """`call.ended`'s ledgers."""
    return {ledger.get("role", ""): ledger for ledger in (ended.data.get("legs", {}) if ended else {}).values()}


def _words(scene: Scene, events: Sequence[Event]) -> Iterable[Check]:
    for role, expected in scene.expected.items():
        heard = compare(expected, finals_of(events, role))
        found = f"{heard.n_heard} of {heard.n_expected}"
        yield Check(
            f"every word of the {role} is in Redis",
            not heard.missing,
            found + (f", not: {' '.join(heard.missing)}" if heard.missing else ""),
        )
        yield Check(
            f"the {role}'s words stand within {WORD_TOLERANCE * 1000:.0f} ms of when they were said",
            heard.n_heard > 0 and heard.worst <= WORD_TOLERANCE,
            f"worst {heard.worst * 1000:.1f} ms",
        )
        withheld = len(scene.forbidden[role])
        what = f"none of the {withheld} words that the {role} said into hold and mute" if withheld else "nothing else"
        found = f"surplus: {' '.join(heard.surplus)}" if heard.surplus else "nothing more"
        yield Check(f"{what} came out on the {role}'s leg", not heard.surplus, found)


def _order(events: Sequence[Event], ended: Event | None) -> Iterable[Check]:
    numbers = [e.seq for e in events]
    yield Check(
        "events are numbered 1, 2, 3 ... and each is there once",
        numbers == list(range(1, len(numbers) + 1)) and bool(numbers),
        f"{len(numbers)} events",
    )
    finals = [e.seq for e in events if e.type == "transcript.final"]
    is_last = ended is not None and ended.seq == max(numbers)
    yield Check(
        "the last words came before call.ended, which is the last event",
        is_last and bool(finals) and ended is not None and max(finals) < ended.seq,
        f"last final {max(finals, default=0)}, call.ended {ended.seq if ended else 'missing'}",
    )
    turns = {e.data.get("turn") for e in events if e.type == "turn.ended"}
    open_turns = {e.data.get("turn") for e in events if e.type == "transcript.final"} - turns
    yield Check("every turn ended", bool(turns) and not open_turns, f"{len(turns)} turns")


def _hold(scene: Scene, call: CallResult, sessions: Sequence[Session]) -> Iterable[Check]:
    for start, end in call.holds:
        sizes = [size for s in sessions for t, kind, size in s.frames if kind == "audio" and start + FLUSH < t < end]
        yield Check(
            f"no audio reached the provider during the {end - start:.1f} s on hold",
            not sum(sizes),
            f"{sum(sizes)} bytes",
        )
    if not call.holds:
        yield Check("the hold took place", False, f"{len(scene.hold)} times planned")


def _pace(sessions: Sequence[Session], longest: float) -> Check:
    gaps = [0.0]
    for session in sessions:
        times = [session.opened, *(t for t, _, _ in session.frames), session.closed]
        gaps += [b - a for a, b in pairwise(times)]
    return Check(
        f"the provider never waited longer than {longest:g} s for a sign of life",
        bool(sessions) and max(gaps) <= longest,
        f"longest {max(gaps):.1f} s, {len(sessions)} sessions",
    )


def _causes(scene: Scene, ledgers: dict[str, dict[str, Any]]) -> Iterable[Check]:
    lengths = {"hold": scene.hold, "mute": scene.mute, "music": scene.inline_music}
    for role, cause, share in LEAST_WITHHELD:
        withheld = float(ledgers.get(role, {}).get("withheld_s", {}).get(cause, 0.0))
        length = lengths[cause][1] - lengths[cause][0]
        found = f"{withheld:.1f} of {length:.1f} s"
        yield Check(f"the {role}'s {cause} was withheld as such", withheld >= share * length, found)


def _sums(ledgers: dict[str, dict[str, Any]], sessions: Sequence[Session]) -> Iterable[Check]:
    for role, ledger in ledgers.items():
        used = ledger["sent_s"] - ledger["replayed_s"] - ledger["padded_s"]
        rest = ledger["received_s"] - used - sum(ledger["withheld_s"].values()) - ledger["unsent_s"]
        yield Check(
            f"the {role}'s ledger adds up: received = sent + withheld + unsent",
            abs(rest) <= TICK,
            f"{ledger['received_s']:.2f} s received, {rest * 1000:+.0f} ms unexplained",
        )
    sent, counted = sum(ledger["sent_s"] for ledger in ledgers.values()), sum(s.seconds for s in sessions)
    yield Check(
        "the provider counted what the ledgers say was sent",
        bool(ledgers) and abs(sent - counted) <= PROVIDER_TOLERANCE * max(len(sessions), 1),
        f"{sent:.2f} s sent, {counted:.2f} s counted",
    )
