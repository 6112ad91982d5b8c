"""Follows a call in Redis as any subscriber would, and shows it: gates as they change, turns as they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Self

import redis.asyncio
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from bridge.demo.verdict import Event

STREAM = "callbridge:events"
BLOCK_MS = 500
BATCH = 100
COLOURS = {"caller": "cyan", "agent": "magenta"}
CAUSES = {
    "hold": "on hold: nothing is sent",
    "mute": "muted: nothing is sent",
    "music": "hold music heard: nothing is sent",
    "silence": "silent",
    "tone": "a tone: nothing is sent",
    "paused": "paused",
}


async def follow(url: str, shown: Callable[[Event], None]) -> list[Event]:
    """Reads the shared stream until `call.ended`; every event is `shown` as it comes, interims included. Returns them
    all. Ends early when cancelled."""
    events: list[Event] = []
    last = "0"
    async with redis.asyncio.from_url(url, decode_responses=True) as client:
        while not events or events[-1].type != "call.ended":
            answer: Any = await client.xread({STREAM: last}, count=BATCH, block=BLOCK_MS)
            for _, entries in answer or ():
                for last, fields in entries:  # noqa: B007 - the place to go on from
                    events.append(decode(fields))
                    shown(events[-1])
    return events


def decode(fields: dict[str, str]) -> Event:
    """One entry by the contract's field names."""
    return Event(
        type=fields["type"],
        seq=int(fields["seq"]),
        leg=fields.get("leg", ""),
        role=fields.get("role", ""),
        text=fields.get("text", ""),
        start=float(fields.get("start") or 0.0),
        end=float(fields.get("end") or 0.0),
        data=json.loads(fields.get("data") or "{}"),
    )


class Screen:
    """Turns as lines that stay; below them what each party is saying right now."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._now: dict[str, tuple[str, str]] = {}
        self._live = Live(console=console, refresh_per_second=12, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """One event."""
        colour = COLOURS.get(event.role, "white")
        match event.type:
            case "call.started":
                self._line(0.0, "", "[bold]the call is answered[/]")
            case "transcript.interim" | "transcript.final":
                self._now[event.role] = (colour, event.text)
            case "turn.ended":
                self._now.pop(event.role, None)
                reason = event.data.get("reason", "")
                cut = f" [dim]({reason})[/]" if reason not in ("silence", "") else ""
                self._line(event.start, event.role, f"{escape(event.text)}{cut}")
            case "leg.gate":
                self._gate(event)
            case "stt.lost":
                self._line(event.start, event.role, f"[red]provider lost: {escape(str(event.data.get('reason')))}[/]")
            case "call.ended":
                reason = event.data.get("reason", "")
                at = float(event.data.get("duration_s", 0.0))
                self._line(at, "", f"[bold]the call has ended[/] [dim]({reason})[/]")
        self._refresh()

    def _gate(self, event: Event) -> None:
        since, cause = float(event.data.get("since", 0.0)), str(event.data.get("cause", ""))
        if event.data.get("state") == "closed" and cause != "silence":
            self._now.pop(event.role, None)
            self._line(since, event.role, f"[dim]{CAUSES.get(cause, cause)}[/]")

    def _line(self, at: float, role: str, text: str) -> None:
        self._refresh()  # what is said now is not to stand below its own line
        colour = COLOURS.get(role, "white")
        self._console.print(f"[dim]{at:6.2f} s[/]  [{colour}]{role:<7}[/] {text}")

    def _refresh(self) -> None:
        if self._live is None:
            return
        start = "[dim]     ...  [/]"
        lines = [f"{start}[{c}]{role:<7}[/] [italic dim]{escape(text)}[/]" for role, (c, text) in self._now.items()]
        self._live.update(Text.from_markup("\n".join(lines)))
