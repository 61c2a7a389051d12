"""``runner orchestra trigger``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.commands import options as opt

if TYPE_CHECKING:
    from datetime import timedelta

    from orchestra.launching.launch import Launch
    from orchestra.launching.launcher import Launcher, Manner
    from orchestra.launching.ranges import Part
    from runner.commands.output import Output

_WIDE = 240


def command(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="The trigger file: JSON or YAML.")] = None,
    pipeline: Annotated[
        list[str] | None,
        typer.Option("--pipeline", metavar="NAME", help="Instead of a file: an alias or id; may be given again."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="GLOB", help="Only these pipelines, or workspace/pipeline; may be given again."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A run input of all of them; KEY:=JSON for other than text."),
    ] = None,
    range_: Annotated[
        str | None, typer.Option("--range", metavar="START..END", help="Dates, cut into parts; END is not one of them.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="UNIT", help="Parts: day, week, month, quarter, year, or 10d.")
    ] = None,
    input_: Annotated[
        str, typer.Option("--input", metavar="NAME[,NAME]", help="The input that takes START..END, or two for each.")
    ] = "since,until",
    reverse: Annotated[bool, typer.Option("--reverse", help="The newest part first.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the runs to their end.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="2h", help="How long everything may take, with --wait.")
    ] = None,
    max_active: Annotated[
        int | None, typer.Option("--max-active", min=1, metavar="N", help="Runs under way at once; follows them.")
    ] = None,
    sequential: Annotated[
        bool, typer.Option("--sequential", help="One after another, until one does not end well; follows them.")
    ] = False,
    cancel_on_interrupt: Annotated[
        bool, typer.Option("--cancel-on-interrupt", help="Ctrl-C and the time-out cancel the runs that go on.")
    ] = False,
    at_once: Annotated[
        int, typer.Option("--at-once", min=1, max=100, metavar="N", help="Starts under way at one workspace.")
    ] = 8,
    max_retries: Annotated[
        int, typer.Option("--max-retries", min=0, metavar="N", help="Of a start that was not delivered.")
    ] = 5,
    retry_for: Annotated[
        str, typer.Option("--retry-for", metavar="10m", help="How long a start that was not delivered is retried.")
    ] = "10m",
    lookup_for: Annotated[
        str, typer.Option("--lookup-for", metavar="5m", help="How long a start of unknown fate is looked for.")
    ] = "5m",
    run_key_input: Annotated[
        str | None,
        typer.Option("--run-key-input", metavar="NAME", help="The input for a key of each start; run_key by default."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent, without values.")] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Start many pipelines, in many workspaces, over ranges too; follow them.

    Exit code 0: all were accepted; with --wait, all ended well. 1: one failed, was cancelled, skipped or not started,
    or nobody knows. 2: nothing was started. 3: stopped or timed out while runs go on.
    """
    from orchestra.launching.launch import plan_launches
    from orchestra.launching.launcher import Manner
    from orchestra.launching.triggerfile import load_triggers, named_pipelines
    from runner.commands.output import Output
    from runner.errors import UsageError
    from runner.secrets import environment

    if (config is None) == (not pipeline):
        raise UsageError("Name a trigger file, or pipelines with --pipeline.", guidance="One of both.")
    follows = wait or sequential or max_active is not None
    if not follows and (timeout or cancel_on_interrupt):
        raise UsageError("--timeout and --cancel-on-interrupt belong to --wait.")
    manner = Manner(
        wait=follows,
        at_once=at_once,
        max_active=max_active,
        sequential=sequential,
        retries=max_retries,
        retry_for=_duration("--retry-for", retry_for),
        lookup_for=_duration("--lookup-for", lookup_for),
        timeout=_duration("--timeout", timeout).total_seconds() if timeout else None,
        run_key_input=run_key_input,
    )
    into = _names(input_)
    parts = _parts(range_, by, reverse)
    environ = environment(config.resolve().parent if config else Path.cwd())
    if config is not None:
        trigger = load_triggers(config, environ, only=tuple(only or ()))
    else:
        trigger = named_pipelines(pipeline or [], environ, only=tuple(only or ()))
    launches = plan_launches(trigger, parts, into=into if parts else (), inputs=_inputs(set_ or []))
    output = Output(json, quiet, debug)
    if dry_run:
        _show(launches, manner, output)
        return 0
    return _run(launches, manner, output, cancel=cancel_on_interrupt)


def _duration(option: str, text: str) -> timedelta:
    from runner.errors import UsageError
    from runner.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}.") from None


def _names(text: str) -> tuple[str, ...]:
    from runner.errors import UsageError

    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(names) > 2 or len(set(names)) < len(names):
        raise UsageError(f"--input {text}: one input is meant, or two.", guidance="For example window, or since,until.")
    return names


def _parts(text: str | None, by: str | None, reverse: bool) -> list[Part]:
    import sys

    from orchestra.launching.ranges import cut, left_out, parse_range
    from runner.errors import UsageError

    if text is None:
        if by or reverse:
            raise UsageError("--by and --reverse belong to --range.")
        return []
    if by is None:
        raise UsageError("--range needs --by.", guidance="For example --by month.")
    whole = parse_range(text)
    parts = cut(whole, by)
    missing = left_out(whole, by)
    if missing is not None:
        sys.stderr.write(f"note: {missing} itself is not in this range: its end is not part of it.\n")
    return parts[::-1] if reverse else parts


def _inputs(given: list[str]) -> dict[str, Any]:
    import json

    from runner.errors import UsageError

    inputs: dict[str, Any] = {}
    for one in given:
        name, sign, value = one.partition("=")
        plain = not name.endswith(":")
        name = name.removesuffix(":")
        # What stands behind the sign is never repeated: it may be a secret.
        if not sign or not name:
            raise UsageError("--set: KEY=VALUE is meant.", guidance="For example --set region=eu, or --set rows:=5.")
        if name in inputs:
            raise UsageError(f"--set {name}: this input is set twice.")
        try:
            inputs[name] = value if plain else json.loads(value)
        except ValueError:
            raise UsageError(f"--set {name}: what follows := is not JSON.") from None
    return inputs


def _show(launches: list[Launch], manner: Manner, output: Output) -> None:
    """Print what would be sent: values of inputs only where they are dates of the range."""
    import json

    from rich.table import Table

    from runner.commands.screen import screen

    shown: list[dict[str, Any]] = []
    for launch in launches:
        body = launch.start.body()
        body["runInputs"] = {
            name: value if name in launch.into else "***" for name, value in (body.get("runInputs") or {}).items()
        }
        if not body["runInputs"]:
            del body["runInputs"]
        part = str(launch.part) if launch.part else None
        shown.append({"workspace": launch.label, "pipeline": launch.pipeline, "part": part, "body": body})
    if output.json:
        print(json.dumps({"dry_run": True, "starts": shown}, indent=2, ensure_ascii=False))
        return
    grid = Table("workspace", "pipeline", "part", "body", box=None, pad_edge=False)
    for one in shown:
        grid.add_row(one["workspace"], one["pipeline"], one["part"] or "", json.dumps(one["body"], ensure_ascii=False))
    screen().print(grid, markup=False)
    print(f"{len(shown)} {'start' if len(shown) == 1 else 'starts'}; nothing was sent.")


def _run(launches: list[Launch], manner: Manner, output: Output, *, cancel: bool) -> int:
    import contextlib
    import signal
    import sys

    import anyio

    from orchestra.client import open_client
    from orchestra.launching.launcher import Launcher
    from orchestra.launching.launchtable import LaunchLines, LaunchTable
    from orchestra.launching.silence import Silence
    from runner.clock import SystemClock
    from runner.commands.output import run_async
    from runner.job import Limits
    from runner.tasks import task_group

    clock = SystemClock()

    async def work() -> tuple[Launcher, list[str]]:
        async with contextlib.AsyncExitStack() as stack:
            limits = Limits(connections=max(8, manner.at_once))
            clients = {
                workspace: await stack.enter_async_context(open_client(workspace, clock, limits))
                for workspace in dict.fromkeys(launch.workspace for launch in launches)
            }
            live = sys.stderr.isatty() and not (output.json or output.quiet or output.debug)
            changed = (lambda _: None) if live else LaunchLines(clock, quiet=output.quiet)
            launcher = Launcher(launches, clients, clock, manner, changed=changed)
            silence = Silence(clients.values(), clock)
            shown = LaunchTable(launches, clock, warnings=lambda: silence.lines().values()) if live else None

            async def listen() -> None:
                with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                    async for _ in signals:
                        launcher.stop()

            async with task_group() as group:
                group.start_soon(listen)
                if shown is None:
                    group.start_soon(silence.watch)
                with shown or contextlib.nullcontext():
                    await launcher.run()
                problems = await launcher.cancel() if cancel and launcher.stopped else []
                group.cancel_scope.cancel()
            return launcher, problems

    launcher, problems = run_async(work)
    for problem in problems:
        sys.stderr.write(f"warning: {problem}\n")
    return _report(launcher, output, clock.monotonic())


def _report(launcher: Launcher, output: Output, now: float) -> int:
    """Print how it went, and return the exit code."""
    import json
    import sys

    from orchestra.launching.launchtable import counts, table
    from runner.clock import SystemClock
    from runner.commands.screen import screen

    launches, follows = launcher.launches, launcher.manner.wait
    unfinished = [launch for launch in launches if launch.unfinished]
    code = 1 if any(launch.bad for launch in launches) else 3 if unfinished else 0
    if output.json:
        starts = [launch.record(now) for launch in launches]
        found = {"waited": follows, "timed_out": launcher.timed_out, "exit_code": code, "starts": starts}
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        console = screen()
        # A narrow terminal wraps lines itself: the address of a run stays whole.
        console.width = max(console.width, _WIDE)
        console.print(table(launches, SystemClock()))
        accepted = not follows and any(launch.status == "started" for launch in launches)
        print(counts(launches) + "." + (" Started means accepted: nobody waited for the end." if accepted else ""))
    why = "Time is up" if launcher.timed_out else "Stopped"
    begun = [launch for launch in unfinished if launch.run]
    if len(begun) < len(unfinished):
        sys.stderr.write(f"{why}: {len(unfinished) - len(begun)} not started.\n")
    for silent in (False, True):
        going = [launch for launch in begun if launch.silent is silent]
        if not going:
            continue
        one = len(going) == 1
        ends = ("goes" if one else "go") + " on in Orchestra"
        if any(launch.detail == "cancelling" for launch in going):
            ends = ("is" if one else "are") + " being cancelled"
        elif silent:
            ends = "may go on: Orchestra no longer answered"
        sys.stderr.write(f"{why}: {len(going)} {'run' if one else 'runs'} {ends}. To start again begins new runs.\n")
        sys.stderr.writelines(f"  {launch.name}: {launch.url}\n" for launch in going)
    if any(launch.status == "skipped" for launch in launches):
        sys.stderr.write("Orchestra skipped runs, which did nothing: start them again, with a lower --max-active.\n")
    if any(launch.status == "unknown" and launch.run is None for launch in launches):
        sys.stderr.write("Of some nobody knows whether they were started: look at them before you start them again.\n")
    return code
