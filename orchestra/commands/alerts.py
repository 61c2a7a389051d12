"""``runner orchestra alerts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    task_run: Annotated[
        str | None,
        typer.Argument(metavar="[TASK_RUN]", help="Id of a run of a dbt task; with --run also the id of the task."),
    ] = None,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="The pipeline run that it is in.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the task run is over.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", metavar="2h", help="Follow for that long at most.")] = "2h",
    linger: Annotated[
        str, typer.Option("--linger", metavar="1m", help="After a failure, wait that long for another attempt.")
    ] = "1m",
    artifacts: Annotated[
        bool, typer.Option("--artifacts", help="Read the run_results.json that the task run left, not its log.")
    ] = False,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="FILE", help="A run_results.json or sources.json of dbt.")
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option("--manifest", metavar="FILE", help="Its manifest.json: channels, descriptions.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print what would be sent.")] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Tell about failures of dbt: live from a task's log, or from run_results.json."""
    from orchestra.commands.telling import Asked, tell_of_dbt
    from runner.commands.output import Output

    asked = Asked(task_run, run or "", follow, timeout, linger, artifacts, results, manifest, dry_run)
    return tell_of_dbt(asked, Output(json, quiet, debug))
