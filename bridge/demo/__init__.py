"""`callbridge demo`: the main job for real on this machine, with no account and no key, and a verdict on it.

A private Redis, a provider stand-in that finds the known recordings in the audio it really receives, the service, and a
SIPREC call over loopback with two legs of human speech, a hold with music, a muted stretch and music that nobody
announces. Exit status 0 only if everything happened that must happen.
"""

from __future__ import annotations

import asyncio

import aiohttp
from rich.console import Console

from bridge.caller.call import place_calls
from bridge.caller.options import CallOptions, CallResult
from bridge.demo import scene as scenes
from bridge.demo import summary
from bridge.demo.stage import Stage, StageError, log_of, stage
from bridge.demo.verdict import PACE, Event, Session, judge
from bridge.demo.watch import Screen, follow
from bridge.emulator import recordings
from bridge.errors import ConfigError

FAILED = 1
PIPE_WIDTH = 160  # columns where there is no terminal to ask
LAST_EVENT_TIMEOUT = 15.0  # s from the hang-up to call.ended
FROM = "sip:demo@callbridge.invalid"


def run_demo(provider: str = "deepgram", keep: bool = False) -> int:
    """Runs it on the terminal. 0: all checks passed. Raises ConfigError for an unknown provider."""
    if provider not in PACE:
        raise ConfigError([f"--provider {provider}: must be one of {', '.join(PACE)}"])
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PIPE_WIDTH)
    try:
        return asyncio.run(_demo(console, provider, keep=keep))
    except StageError as error:
        console.print(f"[bold red]The demo could not start:[/] {error}", markup=True)
        return FAILED
    except KeyboardInterrupt:
        return FAILED


async def _demo(console: Console, provider: str, *, keep: bool) -> int:
    scene = scenes.build(recordings.load())
    console.print(f"[dim]starting redis-server, a stand-in for {provider}, and callbridge serve ...[/]")
    async with stage(provider) as running:
        _introduce(console, running, scene)
        call, events = await _play(console, running, scene)
        sessions = await _sessions(running, call)
        checks = judge(scene, call, events, sessions, provider)
        summary.show(console, scene, events, checks)
        is_passed = all(check.ok for check in checks)
        if not is_passed:
            console.print("\n[dim]The service's log ends with:[/]\n" + log_of(running.folder, "service"), markup=False)
        if keep:
            await _wait(console, running)
    return 0 if is_passed else FAILED


def _introduce(console: Console, running: Stage, scene: scenes.Scene) -> None:
    hold, mute, music = scene.hold, scene.mute, scene.inline_music
    console.print(
        f"A SIPREC call of {scene.seconds:.0f} s to {running.sip_uri}, two legs of RTP over loopback. "
        f"On hold {hold[0]:.0f}-{hold[1]:.0f} s (signalled),\ncaller muted {mute[0]:.0f}-{mute[1]:.0f} s, "
        f"hold music that nobody signals {music[0]:.0f}-{music[1]:.0f} s. Console: {running.console_url}\n"
    )


async def _play(console: Console, running: Stage, scene: scenes.Scene) -> tuple[CallResult, list[Event]]:
    options = CallOptions(running.sip_uri, scene.legs, siprec=True, holds=(scene.hold,), from_=FROM)
    events: list[Event] = []
    with Screen(console) as screen:

        def shown(event: Event) -> None:
            events.append(event)
            screen.show(event)

        async with asyncio.TaskGroup() as group:
            following = group.create_task(follow(running.redis_url, shown))
            (call,) = await place_calls(options)
            await asyncio.wait({following}, timeout=LAST_EVENT_TIMEOUT if call.answered_at else 0.0)
            following.cancel()
    return call, events


async def _sessions(running: Stage, call: CallResult) -> list[Session]:
    """The provider's own log, in call time."""
    async with aiohttp.ClientSession() as http, http.get(running.provider_log_url) as response:
        told = await response.json()
    shift = running.provider_clock - call.answered_at
    return [
        Session(
            seconds=c["seconds"],
            frames=tuple((t + shift, kind, size) for t, kind, size in c["frames"]),
            opened=c["opened_at"] + shift,
            closed=(c["frames"][-1][0] if c["closed_at"] is None and c["frames"] else c["closed_at"] or 0.0) + shift,
        )
        for c in told["connections"]
    ]


async def _wait(console: Console, running: Stage) -> None:
    console.print(
        f"\nEverything is still running: console [bold]{running.console_url}[/], SIP {running.sip_uri}, "
        f"Redis {running.redis_url}.\nCtrl-C ends it."
    )
    await asyncio.Event().wait()
