"""The command `callbridge`. Exit status: 0 done, 1 failed, 2 configuration or usage."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from bridge import __version__
from bridge.config import LogSettings, Settings, parse, read_tables
from bridge.errors import BridgeError, ConfigError, SinkError

app = typer.Typer(
    help="Phone calls in, words in Redis Streams out - without paying for hold music.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; else ./callbridge.toml, /etc/callbridge/callbridge.toml."),
]
FAILED, WRONG_USAGE = 1, 2
Source = TypeVar("Source")
Parsed = TypeVar("Parsed")


def run() -> None:
    """Runs the command line; every expected error is one clear message, never a traceback."""
    try:
        app()
    except ConfigError as error:
        _tell_problems(error.problems)
        sys.exit(WRONG_USAGE)
    except BridgeError as error:
        typer.echo(f"callbridge: {error}", err=True)
        sys.exit(FAILED)


def _tell_problems(problems: list[str]) -> None:
    for problem in problems:
        typer.echo(f"callbridge: {problem}", err=True)


def _run_loop(main: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)
        return
    uvloop.run(main)


def collect(problems: list[str], parse: Callable[[Source], Parsed], sources: Iterable[Source]) -> list[Parsed]:
    """What `parse` makes of each source; of those with which it cannot, `problems` gets what is wrong."""
    found: list[Parsed] = []
    for source in sources:
        try:
            found.append(parse(source))
        except ConfigError as error:
            problems += error.problems
    return found


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Contact-centre calls to speech-to-text to Redis Streams."""
    if version:
        typer.echo(f"callbridge {__version__}")
        raise typer.Exit


@app.command()
def serve(config: ConfigFile = None) -> None:
    """Run the service until SIGTERM or SIGINT (drains; a second one does not wait)."""
    from bridge import log
    from bridge.app import Bridge
    from bridge.preflight import check_machine, check_settings

    tables, problems = read_tables(config, os.environ)
    settings = check_settings(tables, problems)
    log.configure(settings.log)

    async def main() -> None:
        found = await check_machine(settings)
        for finding in found:
            if not finding.is_fatal:
                typer.echo(f"callbridge: warning: {finding.text}", err=True)
        problems.extend(finding.text for finding in found if finding.is_fatal)
        if problems:
            raise ConfigError(problems)
        bridge = Bridge(settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, bridge.stop)
        loop.add_signal_handler(signal.SIGHUP, bridge.reload, config)
        await bridge.run()

    _run_loop(main())


@app.command()
def check(
    config: ConfigFile = None,
    online: Annotated[bool, typer.Option("--online", help="Also connect to the provider once, without audio.")] = False,
) -> None:
    """Validate the configuration, ports, Redis and keys; say every problem at once."""
    from bridge.preflight import check_machine, check_settings

    tables, problems = read_tables(config, os.environ)
    settings = check_settings(tables, problems)
    problems += [finding.text for finding in asyncio.run(check_machine(settings, online=online and not problems))]
    if problems:
        raise ConfigError(problems)
    typer.echo("callbridge: the configuration works")


@app.command()
def demo(
    provider: Annotated[str, typer.Option(help="deepgram or soniox: which stand-in to use.")] = "deepgram",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave everything running and print the console's address.")
    ] = False,
) -> None:
    """A real call on this machine: private Redis, provider stand-in, SIPREC call. Exit 0 only if all of it happened."""
    from bridge.demo import run_demo

    raise typer.Exit(run_demo(provider=provider, keep=keep))


@app.command()
def call(
    target: Annotated[str, typer.Argument(metavar="sip:HOST[:PORT]", help="Where to call.")],
    leg: Annotated[list[str], typer.Option("--leg", metavar="ROLE=FILE", help="One party's audio; repeat for SIPREC.")],
    siprec: Annotated[bool, typer.Option("--siprec", help="A recording session with a stream per leg.")] = False,
    calls: Annotated[int, typer.Option(min=1, help="So many calls.")] = 1,
    rate: Annotated[float, typer.Option(min=0.1, help="Calls per second.")] = 10.0,
    hold: Annotated[list[str] | None, typer.Option(metavar="FROM-TO", help="Seconds on hold; repeatable.")] = None,
    mute: Annotated[list[str] | None, typer.Option(metavar="LEG:FROM-TO", help="Seconds muted; repeatable.")] = None,
    codec: Annotated[str, typer.Option(help="PCMU, PCMA, G722, OPUS, ...")] = "PCMU",
    as_json: Annotated[bool, typer.Option("--json", help="The truth of each call as a JSON line.")] = False,
) -> None:
    """Place real calls from audio files (WAV, FLAC ...); also the load generator."""
    from bridge.caller.command import run_calls

    status = run_calls(
        target, leg, siprec=siprec, calls=calls, rate=rate, hold=hold, mute=mute, codec=codec, as_json=as_json
    )
    raise typer.Exit(status)


@app.command()
def emulate(
    provider: Annotated[str, typer.Argument(help="deepgram or soniox.")],
    port: Annotated[int, typer.Option(help="0: any free one.")] = 8765,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    recogniser: Annotated[
        str, typer.Option(help="match: finds known recordings; scripted, none; pocketsphinx: a toy.")
    ] = "match",
    library: Annotated[list[Path] | None, typer.Option(help="A folder of further known recordings.")] = None,
    key: Annotated[list[str] | None, typer.Option(help="An accepted API key; none given: any.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Timers as documented rather than as measured.")] = False,
    finalize: Annotated[str, typer.Option(help="Deepgram answers Finalize: always, buffered, never.")] = "always",
    throttle: Annotated[float, typer.Option(help="Deepgram reads so many times real time; 0: at once.")] = 1.25,
    concurrency: Annotated[int, typer.Option(help="More connections than this get 429; 0: no limit.")] = 0,
    cadence: Annotated[float, typer.Option(help="Soniox: seconds of audio between messages.")] = 0.2,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME[=VALUE][@CONNECTIONS]", help="drop=5, refuse=429, late=2, half_open=3 ..."),
    ] = None,
    log_file: Annotated[Path | None, typer.Option("--log", help="Append a JSON line per connection.")] = None,
    ends_with_input: Annotated[bool, typer.Option("--ends-with-input", hidden=True)] = False,
) -> None:
    """A stand-in for a provider: speaks its real wire protocol on this machine."""
    from bridge import log
    from bridge.emulator.options import EmulatorOptions, Fault
    from bridge.emulator.run import run_emulator

    log.configure(LogSettings())  # to stderr: stdout is for the address alone

    problems: list[str] = []
    if provider not in ("deepgram", "soniox"):
        problems.append(f"emulate: there is no stand-in for {provider}; known: deepgram, soniox")
    if recogniser not in ("match", "scripted", "none", "pocketsphinx"):
        problems.append(f"--recogniser {recogniser}: must be match, scripted, none or pocketsphinx")
    if finalize not in ("always", "buffered", "never"):
        problems.append(f"--finalize {finalize}: must be always, buffered or never")
    if not 0 <= port <= 65535:
        problems.append(f"--port {port}: must be 0 to 65535")
    faults = collect(problems, Fault.parse, fault or ())
    problems += [f"--library {folder}: no such folder" for folder in library or () if not folder.is_dir()]
    if problems:
        raise ConfigError(problems)
    options = EmulatorOptions(
        provider=provider,  # type: ignore[arg-type]  # all checked above
        host=host,
        port=port,
        recogniser=recogniser,  # type: ignore[arg-type]
        libraries=tuple(library or ()),
        keys=tuple(key or ()),
        strict=strict,
        finalize=finalize,  # type: ignore[arg-type]
        throttle=throttle,
        concurrency=concurrency,
        cadence=cadence,
        faults=tuple(faults),
        log=log_file,
    )
    try:
        run_emulator(options, started=lambda server: typer.echo(server.url), ends_with_input=ends_with_input)
    except OSError as error:
        raise ConfigError([f"--port {port}: {os.strerror(error.errno or 0)}"]) from None


@app.command()
def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="WAV, FLAC ... (a leg per channel), or pcap.")],
    labels: Annotated[Path | None, typer.Option(help="labels.json: scores what the gate did.")] = None,
    speed: Annotated[float, typer.Option(min=0.1, help="Times real time; Deepgram reads at most 1.25.")] = 1.25,
    as_json: Annotated[bool, typer.Option("--json", help="Every event as a JSON line.")] = False,
    config: ConfigFile = None,
) -> None:
    """Run recordings through the same media plane and provider as live calls; nothing is published."""
    from bridge import log
    from bridge.preflight import check_settings
    from bridge.replay.command import run_replay
    from bridge.replay.recordings import load
    from bridge.replay.score import labels_of

    tables, problems = read_tables(config, os.environ)
    settings = check_settings(tables, problems)
    recordings = collect(problems, load, files)
    known = collect(problems, labels_of, [labels] if labels is not None else [])
    if problems:
        raise ConfigError(problems)
    log.configure(dataclasses.replace(settings.log, level="warning"))  # words are what is asked for
    scored = known[0] if known else None
    _run_loop(run_replay(recordings, settings, labels=scored, speed=speed, as_json=as_json, tell=typer.echo))


@app.command()
def tail(
    call: Annotated[str, typer.Option("--call", help="Only this call.")] = "",
    from_start: Annotated[bool, typer.Option("--from-start", help="Everything that is stored first.")] = False,
    interim: Annotated[bool, typer.Option("--interim", help="Interim results too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One event a line, all types.")] = False,
    config: ConfigFile = None,
) -> None:
    """Follow transcripts from Redis, one line a turn."""
    from bridge import log, report
    from bridge.net.redis_link import Address
    from bridge.subscribe import follow, replay

    settings = _parsed(config)
    redis = settings.redis
    log.configure(settings.log)  # to stderr: stdout is for events alone
    where: dict[str, Any] = {"prefix": redis.prefix, "partitions": redis.partitions}

    if not as_json:
        which = f" for call {call}; waiting where there is none yet" if call else ""
        typer.echo(f"callbridge: following {Address.parse(redis.url).shown}{which}", err=True)

    async def main() -> None:
        found = replay(redis.url, call, **where) if call else follow(redis.url, from_start=from_start, **where)
        async for line in report.tail(found, interim=interim, as_json=as_json, colour=sys.stdout.isatty()):
            typer.echo(line)

    try:
        _run_loop(main())
    except KeyboardInterrupt:
        raise typer.Exit from None


@app.command("report")
def report_call(
    call: Annotated[str, typer.Argument(metavar="CALL_ID")],
    form: Annotated[str, typer.Option("--format", help="text, json or html.")] = "text",
    config: ConfigFile = None,
) -> None:
    """Ledger, lanes and transcript of one call, from Redis."""
    from bridge import report
    from bridge.net.redis_link import FAULTS, Address
    from bridge.web.report_html import as_html

    settings = _parsed(config)
    redis, price = settings.redis, settings.http.price_per_hour
    renderers: dict[str, Callable[[Any], str]] = {
        "text": report.as_text,
        "json": report.as_json,
        "html": lambda found: as_html(found, price_per_hour=price),
    }
    if form not in renderers:
        raise ConfigError([f"--format {form}: must be one of {', '.join(renderers)}"])

    async def main() -> None:
        try:
            found = await report.read(redis.url, call, prefix=redis.prefix, partitions=redis.partitions)
        except FAULTS as error:
            where = Address.parse(redis.url).shown
            raise SinkError(f"redis.url: {where} not reachable: {type(error).__name__}") from None
        if found is None:
            typer.echo(f"callbridge: no call {call} in Redis", err=True)
            raise typer.Exit(FAILED)
        typer.echo(renderers[form](found))

    _run_loop(main())


def _parsed(config: Path | None) -> Settings:
    """For the reading commands, which need no provider's key."""
    tables, problems = read_tables(config, os.environ)
    settings = parse(tables, problems)
    if problems:
        raise ConfigError(problems)
    return settings
