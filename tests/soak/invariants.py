"""What must be true of every call, whatever happened to it; read from Redis and from the provider alone.

`check` answers a line for each invariant: how often it was looked at, and every violation by name. Written from the
contract, not from the code.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeAlias

import redis

from tests.soak.stand_in import Heard

TICK = 0.021  # s: one tick, and the rounding of the ledger's figures
PROVIDER_TOLERANCE = 0.1  # s, the contract
LONGEST_PAUSE = {"deepgram": 5.0, "soniox": 20.0}  # s between two signs of life
TYPES = frozenset(
    (
        "call.started", "call.ended", "leg.started", "leg.ended", "leg.gate", "transcript.interim", "transcript.final",
        "turn.ended", "dtmf", "stt.lost", "stt.restored",
    )
)  # fmt: skip
CAUSES = frozenset(("paused", "hold", "mute", "music", "tone", "silence"))
REASONS = frozenset(("hangup", "cancelled", "timeout", "api", "drain", "refused", "crash"))
TURN_REASONS = frozenset(("silence", "hold", "mute", "music", "interrupted", "hangup"))
AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
BACK = 0.25  # s by which a word may begin before its predecessor in the list does: two finals on a border
ONCE = "an event stands exactly once, in order, in the shared stream and in its call's"
Client: TypeAlias = redis.Redis | redis.RedisCluster
PAGE = 5000  # entries read at once
SHOWN = 5  # violations of one invariant that are spelt out


@dataclass(frozen=True)
class Entry:
    """One entry of a stream, as it stands there."""

    id: str
    fields: dict[str, str]

    @property
    def type(self) -> str:
        return self.fields.get("type", "")

    @property
    def leg(self) -> str:
        return self.fields.get("leg", "")

    @property
    def seq(self) -> int:
        return int(self.fields["seq"])

    @property
    def ms(self) -> int:
        return int(self.id.partition("-")[0])

    @property
    def data(self) -> dict[str, Any]:
        return dict(json.loads(self.fields.get("data") or "{}"))


class Calls(Mapping[str, list[Entry]]):
    """Every call's own stream, read when it is asked for: a soak leaves more than fits into memory."""

    def __init__(self, client: Client, prefixes: Iterable[str]) -> None:
        self._client = client
        self.not_streams: list[str] = []
        found: dict[str, str] = {}
        for prefix in prefixes:
            for key in client.scan_iter(f"{prefix}:call:*", count=1000):
                call = key.rpartition(":")[2]
                if client.type(key) != "stream" or call in found:  # a call lives in one partition
                    self.not_streams.append(key)
                found[call] = key
        self._keys = dict(sorted(found.items()))

    def __getitem__(self, call: str) -> list[Entry]:
        return [Entry(id_, fields) for id_, fields in self._client.xrange(self._keys[call])]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@dataclass
class Streams:
    """Everything in one Redis."""

    shared: dict[str, list[str]]
    "By call id, in the order of the shared stream: `digest` of each entry."
    calls: Mapping[str, list[Entry]]
    "By call id: the call's own stream."
    index: frozenset[str]
    "The set of calls."
    not_streams: list[str]
    "Keys under `call:` that are something else."

    @classmethod
    def read(cls, url: str, prefix: str = "callbridge") -> Streams:
        return cls.read_from(redis.Redis.from_url(url, decode_responses=True), (prefix,))

    @classmethod
    def read_from(cls, client: Client, prefixes: Sequence[str]) -> Streams:
        """Of several partitions, whose keys begin with `prefixes`; `client` gives text."""
        shared: dict[str, list[str]] = defaultdict(list)
        for prefix in prefixes:
            last = "-"
            while page := client.xrange(f"{prefix}:events", last, count=PAGE):
                for id_, fields in page:
                    shared[fields.get("call", "")].append(digest(fields))
                    last = f"({id_}"
        calls = Calls(client, prefixes)
        index = frozenset(call for prefix in prefixes for call in client.zrange(f"{prefix}:calls", 0, -1))
        return cls(dict(shared), calls, index, calls.not_streams)

    @property
    def ended(self) -> int:
        """Calls that have their `call.ended`."""
        return sum(digests[-1].startswith("call.ended ") for digests in self.shared.values())


def digest(fields: Mapping[str, str]) -> str:
    """Short, and the same for the same entry."""
    return f"{fields.get('type')} {fields.get('seq')} {zlib.crc32(json.dumps(fields, sort_keys=True).encode()):x}"


@dataclass
class Held:
    """One invariant."""

    name: str
    looked: int = 0
    violations: list[str] = field(default_factory=list)

    def see(self, is_so: bool, otherwise: str) -> None:
        self.looked += 1
        if not is_so:
            self.violations.append(otherwise)


@dataclass
class Table:
    """All invariants and how they fared."""

    rows: dict[str, Held] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Held:
        return self.rows.setdefault(name, Held(name))

    @property
    def violations(self) -> list[str]:
        return [f"{row.name}: {text}" for row in self.rows.values() for text in row.violations]

    def text(self) -> str:
        """For people."""
        lines = []
        for row in self.rows.values():
            mark = f"FAIL ({len(row.violations)})" if row.violations else "held"
            lines.append(f"  {mark:<10} {row.looked:>8}  {row.name}")
            lines += [f"                          {text}" for text in row.violations[:SHOWN]]
        return "\n".join(lines)


def check(streams: Streams, connections: Sequence[Heard] = (), *, legs: Mapping[str, str] | None = None) -> Table:
    """Every invariant of every call. `legs` maps a connection's request id to `CALL/LEG` (the service's log tells
    it); with it what each leg says it sent is compared with what the provider got."""
    table = Table()
    _stored(streams, table)
    _wire(connections, table)
    by_leg: dict[str, list[Heard]] = defaultdict(list)
    for connection in connections:
        by_leg[(legs or {}).get(connection.request_id, "")].append(connection)
    for call, entries in streams.calls.items():
        _twice(call, entries, streams, table)
        for rule in RULES:
            rule(call, entries, table)
        _sent(call, entries, by_leg, table)
    return table


# -- both streams -----------------------------------------------------------------------------------------------------


def _stored(streams: Streams, table: Table) -> None:
    table["under call: there are only streams"].see(not streams.not_streams, ", ".join(streams.not_streams))
    for call in streams.shared.keys() - set(streams.calls):
        table[ONCE].see(False, f"{call}: {len(streams.shared[call])} in the shared stream, none of its own")


def _twice(call: str, entries: list[Entry], streams: Streams, table: Table) -> None:
    shared = streams.shared.get(call, [])
    is_same = [digest(entry.fields) for entry in entries] == shared
    table[ONCE].see(is_same, f"{call}: {len(entries)} in its own stream, {len(shared)} in the shared one")
    table["every call is in the set of calls"].see(call in streams.index, call)


# -- one call ---------------------------------------------------------------------------------------------------------


def _numbered(call: str, entries: list[Entry], table: Table) -> None:
    seqs = [entry.seq for entry in entries]
    doubled = [seq for seq, n in Counter(seqs).items() if n > 1]
    table["no event twice"].see(not doubled, f"{call}: {doubled}")
    missing = sorted(set(range(1, max(seqs, default=0) + 1)) - set(seqs))
    table["seq 1, 2, 3 ... without gaps"].see(not missing, f"{call}: {missing} of {max(seqs, default=0)} missing")
    table["in order of seq"].see(seqs == sorted(seqs), f"{call}: {seqs}")
    ids = table["entry ids are <ms>-<seq>, ms never decreases"]
    ids.see(all(entry.id == f"{entry.ms}-{entry.seq}" for entry in entries), call)
    ids.see(all(a.ms <= b.ms for a, b in pairwise(entries)), call)


def _formed(call: str, entries: list[Entry], table: Table) -> None:
    row = table["every entry has the contract's fields"]
    for entry in entries:
        problem = _problem(call, entry)
        row.see(not problem, f"{call} {entry.fields.get('seq')} {entry.type}: {problem}")


def _problem(call: str, entry: Entry) -> str:
    fields = entry.fields
    if fields.get("v") != "1" or fields.get("call") != call or not fields.get("instance"):
        return "v, call or instance"
    if entry.type not in TYPES:
        return "unknown type"
    if not AT.fullmatch(fields.get("at", "")) or not datetime.fromisoformat(fields["at"]):
        return f"at {fields.get('at')}"
    try:
        data = entry.data
        times = [float(fields[key]) for key in ("start", "end") if key in fields]
    except (ValueError, TypeError) as error:
        return str(error)
    if entry.type in ("transcript.interim", "transcript.final", "turn.ended"):
        if len(times) != 2 or not 0 <= times[0] <= times[1]:
            return f"times {times}"
        if not entry.leg or "text" not in fields:
            return "leg or text"
    if entry.type == "leg.gate" and (data.get("state") == "closed") != (data.get("cause") in CAUSES):
        return f"gate {data}"
    if entry.type == "turn.ended" and data.get("reason") not in TURN_REASONS:
        return f"reason {data.get('reason')}"
    if entry.type == "call.ended" and data.get("reason") not in REASONS:
        return f"reason {data.get('reason')}"
    return ""


def _bounded(call: str, entries: list[Entry], table: Table) -> None:
    types = [entry.type for entry in entries]
    table["call.started is a call's first event, once"].see(
        types[:1] == ["call.started"] and types.count("call.started") == 1, f"{call}: {types[:2]}"
    )
    table["call.ended is a call's last event, once"].see(
        types[-1:] == ["call.ended"] and types.count("call.ended") == 1,
        f"{call}: ends with {types[-2:]}, {types.count('call.ended')} times call.ended",
    )


def _turns(call: str, entries: list[Entry], table: Table) -> None:
    finals: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    ended: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.type == "transcript.final":
            finals[entry.leg, str(entry.data.get("turn"))].append(entry)
        elif entry.type == "turn.ended":
            ended[entry.leg, str(entry.data.get("turn"))].append(entry)
    one = table["every final is in exactly one turn, which ends once and behind it"]
    text = table["a turn's text is that of its finals"]
    for key, parts in finals.items():
        ends = ended.get(key, [])
        one.see(len(ends) == 1, f"{call} {key}: {len(ends)} turn.ended for {len(parts)} finals")
        if ends:
            one.see(ends[0].seq > parts[-1].seq, f"{call} {key}: final {parts[-1].seq} behind turn.ended {ends[0].seq}")
            said = sorted(" ".join(part.fields["text"] for part in parts).split())
            text.see(sorted(ends[0].fields["text"].split()) == said, f"{call} {key}")
    for key in ended.keys() - finals.keys():
        one.see(False, f"{call} {key}: turn.ended without a final")


def _utterances(call: str, entries: list[Entry], table: Table) -> None:
    row = table["an utterance's revisions grow, and its one final is the last of it"]
    seen: dict[str, int] = {}
    for entry in entries:
        if entry.type not in ("transcript.interim", "transcript.final"):
            continue
        name = f"{entry.leg} {entry.data.get('utterance')}"
        revision = int(entry.data.get("revision", 1 << 30))
        row.see(revision > seen.get(name, -1), f"{call} {name}: {revision} after {seen.get(name)}")
        seen[name] = revision


def _words(call: str, entries: list[Entry], table: Table) -> None:
    row = table["a leg's final words follow one another and none stands twice"]
    last: dict[str, tuple[float, str]] = {}
    for entry in entries:
        if entry.type != "transcript.final":
            continue
        for word, start, end, *_ in entry.data.get("words", []):
            before, text = last.get(entry.leg, (-1.0, ""))
            follows = before - BACK <= start <= end and (start, word) != (before, text)
            row.see(follows, f"{call} {entry.leg}: {word} {start}-{end} behind {text} {before}")
            last[entry.leg] = (start, word)


def _gates(call: str, entries: list[Entry], table: Table) -> None:
    row = table["leg.gate tells the first state and then changes only"]
    states: dict[str, tuple[str, str]] = {}
    for entry in entries:
        if entry.type == "leg.gate":
            data = entry.data
            state = (str(data["state"]), str(data.get("cause", "")))
            row.see(states.get(entry.leg) != state, f"{call} {entry.leg}: {state} again")
            states[entry.leg] = state


def ledgers(entries: list[Entry]) -> dict[str, dict[str, Any]]:
    """By leg, of `call.ended`; empty for a call that has none."""
    last = entries[-1] if entries else None
    if last is None or last.type != "call.ended":
        return {}
    return dict(last.data["legs"])


def _books(call: str, entries: list[Entry], table: Table) -> None:
    row = table["received = sent - replayed - padded + withheld + unsent"]
    counted = table["the ledger's finals are those that were published"]
    sane = table["no figure of a ledger is negative"]
    for leg, told in ledgers(entries).items():
        given = told["sent_s"] - told["replayed_s"] - told["padded_s"]
        explained = given + sum(told["withheld_s"].values()) + told["unsent_s"]
        row.see(abs(told["received_s"] - explained) <= TICK, f"{call} {leg}: {told['received_s']} and {explained:.3f}")
        n = sum(entry.type == "transcript.final" and entry.leg == leg for entry in entries)
        counted.see(told["finals"] == n, f"{call} {leg}: {told['finals']} and {n}")
        figures = [*told.values(), *told["withheld_s"].values(), *told["packets"].values()]
        sane.see(min(v for v in figures if isinstance(v, int | float)) >= 0, f"{call} {leg}: {told}")


RULES: tuple[Callable[[str, list[Entry], Table], None], ...] = (
    _numbered, _formed, _bounded, _turns, _utterances, _words, _gates, _books,
)  # fmt: skip


# -- the provider -----------------------------------------------------------------------------------------------------


def _wire(connections: Sequence[Heard], table: Table) -> None:
    for n, connection in enumerate(connections, 1):
        if connection.refused:
            continue
        provider = "soniox" if "transcribe" in connection.path else "deepgram"
        empty = any(kind == "audio" and not size for _, kind, size in connection.frames)
        table["no empty audio frame"].see(not empty, f"connection {n}")
        times = [t for t, _, _ in connection.frames]
        longest = max((b - a for a, b in pairwise(times)), default=0.0)
        table["the provider never waits too long for a sign of life"].see(
            longest <= LONGEST_PAUSE[provider] + 0.5, f"connection {n}: {longest:.1f} s"
        )
        table["the provider never closes for want of audio or for an error"].see(
            connection.close_code in (0, 1000, 1001, 1005, 1006) or connection.is_open,
            f"connection {n}: {connection.close_code} {connection.close_reason}",
        )
        if connection.close_code == 1000 and provider == "deepgram" and connection.audio_bytes:
            kinds = [kind for _, kind, _ in connection.frames]
            table["CloseStream is the last that a provider hears"].see(
                kinds[-1:] == ["CloseStream"], f"connection {n}: {kinds[-3:]}"
            )


def _sent(call: str, entries: list[Entry], by_leg: Mapping[str, list[Heard]], table: Table) -> None:
    if entries and entries[-1].data.get("reason") == "crash":
        return  # its books are some seconds older than its death
    for leg, told in ledgers(entries).items():
        mine = by_leg.get(f"{call}/{leg}", [])
        if not mine or "sent_s" not in told:
            continue
        was_clean = all(connection.close_code == 1000 for connection in mine)
        over = told["sent_s"] - sum(connection.seconds for connection in mine)
        # what was under way when a connection broke was sent and never counted
        is_right = over >= -PROVIDER_TOLERANCE and (over <= PROVIDER_TOLERANCE or not was_clean)
        table["sent_s is what the provider counted"].see(
            is_right, f"{call} {leg}: {told['sent_s']}, {over:+.3f} s more than counted"
        )
        if len(mine) == 1 and was_clean:
            given = Counter(_bare(word) for word, _, _ in mine[0].words)
            heard = Counter(_bare(word) for word in published_words(entries, leg))
            table["every word that the provider gave is published"].see(
                given == heard, f"{call} {leg}: {given - heard} not published, {heard - given} not given"
            )


def published_words(entries: Iterable[Entry], leg: str = "") -> Iterator[str]:
    """Of the finals, in order."""
    for entry in entries:
        if entry.type == "transcript.final" and (not leg or entry.leg == leg):
            yield from (str(word[0]) for word in entry.data.get("words", []))


def _bare(text: str) -> str:
    return text.lower().strip(".,;:!?")


def legs_of(log_lines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """A connection's request id to `CALL/LEG`, from the service's log."""
    return {
        str(line["request_id"]): f"{line['call']}/{line['leg']}"
        for line in log_lines
        if line.get("event") == "stt opened" and line.get("request_id")
    }
