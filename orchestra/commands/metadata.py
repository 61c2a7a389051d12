"""``runner orchestra metadata``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    job: Annotated[
        Path | None, typer.Argument(metavar="[JOB]", help="The job file; orchestra/jobs/metadata.yml by default.")
    ] = None,
    destination: Annotated[
        str | None,
        typer.Option("--destination", metavar="TYPE", help="Instead of the job's; credentials from the environment."),
    ] = None,
    tables: opt.Tables = None,
    since: opt.Since = None,
    until: opt.Until = None,
    full_refresh: opt.FullRefresh = False,
    verify: opt.Verify = "counts",
    run_key: opt.RunKey = None,
    env: opt.Env = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Load runs, tasks, operations and assets of a workspace into a destination."""
    from orchestra.metadata.job import settle_metadata, tables_with_times
    from runner.commands.assembly import run_job, state_folder
    from runner.commands.output import Output
    from runner.commands.summary import print_result
    from runner.contract import asked_range
    from runner.settling import Options

    here = Path.cwd()
    settled, environ = settle_metadata(job, destination, env, here)
    set_since, set_until, set_refresh = asked_range(environ)
    since, until = since or set_since, until or set_until
    asked = Options(
        only=tuple(tables or (tables_with_times() if since or until else ())),
        since=since,
        until=until,
        full_refresh=full_refresh or set_refresh,
        verify=verify,
        run_key=run_key,
    )
    output = Output(json, quiet, debug)
    result = run_job(settled, asked, output, state_folder(job or here, state_dir))
    print_result(result, output)
    return result.exit_code
