"""`callbridge call` on the terminal: from its texts to calls, and their truth in lines."""

from __future__ import annotations

import asyncio
import json

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bridge.caller.call import place_calls
from bridge.caller.options import CallOptions, CallResult, build

FAILED = 1


def run_calls(
    target: str,
    legs: list[str],
    *,
    siprec: bool = False,
    calls: int = 1,
    rate: float = 10.0,
    hold: list[str] | None = None,
    mute: list[str] | None = None,
    codec: str = "PCMU",
    ptime_ms: int = 20,
    as_json: bool = False,
) -> int:
    """Places the calls and tells how each went, as it ends. 0 only if every one ran to its end. Raises ConfigError."""
    options = build(
        target, legs, siprec=siprec, calls=calls, hold=hold, mute=mute, codec=codec, ptime_ms=ptime_ms, rate=rate
    )
    console = Console(soft_wrap=True, highlight=False)
    try:
        if as_json or not console.is_terminal:
            results = asyncio.run(place_calls(options, told=lambda result: _tell(console, result, as_json=as_json)))
        else:
            results = _with_progress(console, options)
    except KeyboardInterrupt:  # every call has said its BYE
        return FAILED
    ok = sum(result.ok for result in results)
    if not as_json and calls > 1:
        console.print(f"{ok} of {calls} calls done")
    return 0 if ok == calls else FAILED


def _with_progress(console: Console, options: CallOptions) -> list[CallResult]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        text = "{} of {} calls ended, each takes {:.0f} s"
        task = progress.add_task(text.format(0, options.calls, options.seconds), total=options.calls)
        ended = 0

        def told(result: CallResult) -> None:
            nonlocal ended
            ended += 1
            _tell(console, result, as_json=False)
            progress.update(task, completed=ended, description=text.format(ended, options.calls, options.seconds))

        return asyncio.run(place_calls(options, told=told))


def _tell(console: Console, result: CallResult, *, as_json: bool) -> None:
    if as_json:
        console.out(json.dumps(result.as_dict(), separators=(",", ":")), highlight=False)
        return
    mark = "[green]done[/]" if result.ok else f"[red]failed[/] ({result.reason})"
    legs = ", ".join(f"{leg.role} {leg.packets} packets to {leg.remote}" for leg in result.legs if leg.packets)
    held = "".join(f", held {start:.1f}-{end:.1f} s" for start, end in result.holds)
    length = f" after {result.ended_at - result.answered_at:.1f} s" if result.answered_at else ""
    console.print(f"{mark}{length}{': ' + legs if legs else ''}{held}")
