"""``runner sense``: run the sensors of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The sensor file.", show_default=False)],
    once: Annotated[bool, typer.Option("--once", help="Look once at each sensor, deliver, and end.")] = False,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="30m", help="Wait that long for an event, and end.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="GLOB", help="Only these sensors; may be given again.")
    ] = None,
    any_: Annotated[bool, typer.Option("--any", help="The first event is enough; else each sensor must fire.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Exit with 0 when no event has come.")] = False,
    serve: Annotated[
        str | None, typer.Option("--serve", metavar="[HOST:]PORT", help="Show a live page, /healthz and /metrics.")
    ] = None,
    env: opt.Env = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Run the sensors of a file: each event fires exactly once. With --once or --for it is a task that ends."""
    from runner.commands.output import Output
    from sensors.commands.service import Asked, run_sensors

    asked = Asked(
        once=once, seconds=for_, only=tuple(only or ()), any=any_, soft=soft, serve=serve, env=env, state_dir=state_dir
    )
    return run_sensors(file, asked, Output(json, quiet, debug))
