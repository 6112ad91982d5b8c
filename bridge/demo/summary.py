"""The demo's last page: what each leg cost and did not cost, and what was checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from bridge.config import HttpSettings
from bridge.demo.scene import Scene
from bridge.demo.verdict import Check, Event, compare, finals_of, ledgers_by_role

PRICE_PER_HOUR = HttpSettings().price_per_hour
"Dollars for an hour of audio; the console's own default, an assumption and not a quotation."
ROWS = ("hold", "music", "mute", "tone", "paused", "silence")


def show(console: Console, scene: Scene, events: Sequence[Event], checks: Sequence[Check]) -> None:
    """Table of both legs, money, checks."""
    ended = next((e for e in events if e.type == "call.ended"), None)
    ledgers = ledgers_by_role(ended)
    console.print()
    if ledgers:
        console.print(_table(scene, events, ledgers))
        console.print(_money(ledgers))
        console.print()
    for check in checks:
        mark = "[green]ok  [/]" if check.ok else "[bold red]FAIL[/]"
        console.print(f"  {mark} {check.what} [dim]({check.found})[/]")
    failed = [check for check in checks if not check.ok]
    console.print()
    if failed:
        names = "; ".join(check.what for check in failed)
        console.print(f"[bold red]{len(failed)} of {len(checks)} checks failed[/]: {names}")
    else:
        console.print(f"[bold green]All {len(checks)} checks passed.[/]")


def _table(scene: Scene, events: Sequence[Event], ledgers: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="The call's ledger, seconds", title_justify="left", title_style="bold", box=None)
    table.add_column("", min_width=22)
    for role in ledgers:
        table.add_column(role, justify="right", min_width=10)
    used = [cause for cause in ROWS if any(ledger["withheld_s"].get(cause) for ledger in ledgers.values())]

    def row(title: str, *cells: str, style: str = "") -> None:
        table.add_row(title, *cells, style=style)

    row("received", *(f"{ledger['received_s']:.2f}" for ledger in ledgers.values()))
    row("sent to the provider", *(f"{ledger['sent_s']:.2f}" for ledger in ledgers.values()), style="bold")
    for cause in used:
        row(f"withheld: {cause}", *(f"{ledger['withheld_s'].get(cause, 0.0):.2f}" for ledger in ledgers.values()))
    row("KeepAlives", *(str(ledger["keepalives"]) for ledger in ledgers.values()))
    heard = [compare(scene.expected.get(role, ()), finals_of(events, role)) for role in ledgers]
    row("words heard", *(f"{h.n_heard} of {h.n_expected}" for h in heard))
    row("worst word time", *(f"{h.worst * 1000:.1f} ms" for h in heard))
    return table


def _money(ledgers: dict[str, dict[str, Any]]) -> str:
    received = sum(ledger["received_s"] for ledger in ledgers.values())
    billable = sum(ledger["billable_s"] for ledger in ledgers.values())
    share = 1 - billable / received if received else 0.0
    full, paid = 1000 * PRICE_PER_HOUR, 1000 * PRICE_PER_HOUR * (1 - share)
    return (
        f"\n[bold]{share:.0%} of the audio cost nothing[/]: {received:.1f} s came in, {billable:.1f} s are billable. "
        f"At an assumed ${PRICE_PER_HOUR:.2f} an hour\n1000 hours of such legs cost ${paid:.0f} instead of ${full:.0f}."
    )
