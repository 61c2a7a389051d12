"""``runner task``: exactly one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    job: Annotated[Path | None, typer.Argument(metavar="[JOB]", help="The job file; RUNNER_JOB by default.")] = None,
    table: Annotated[str | None, typer.Option("--table", metavar="T", help="The table; OBJECT by default.")] = None,
    since: opt.Since = None,
    until: opt.Until = None,
    full_refresh: opt.FullRefresh = False,
    verify: opt.Verify = "counts",
    yes: opt.Yes = False,
    profile: opt.Profile = False,
    run_key: opt.RunKey = None,
    timeout: opt.Timeout = None,
    env: opt.Env = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Move exactly one table: of a job file, or as SOURCE, OBJECT, PARAMS and DESTINATION say."""
    from typer import echo

    from runner.commands.assembly import run_job, state_folder
    from runner.commands.handover import Handover
    from runner.commands.output import Output
    from runner.commands.summary import print_result
    from runner.contract import asked_range, settle_task
    from runner.secrets import environment
    from runner.settling import Options

    here = Path.cwd()
    environ = environment(job.resolve().parent if job else here)
    output = Output(json, quiet, debug)
    wanted = table or environ.get("OBJECT", "")
    with Handover("task", wanted, environ) as handover:
        settled, tables = settle_task(job, table, env, environ, here)
        if not tables:
            echo(f"{wanted} has no cursor: the range leaves it alone.")
            handover.skipped(settled, wanted)
            return 0
        set_since, set_until, set_refresh = asked_range(environ)
        asked = Options(
            only=tables,
            since=since or set_since,
            until=until or set_until,
            full_refresh=full_refresh or set_refresh,
            verify=verify,
            yes=yes,
            profile=profile,
            run_key=run_key,
        )
        result = run_job(
            settled,
            asked,
            output,
            state_folder(settled.path if job else here, state_dir),
            command=f"task {wanted}",
            owned=f"{settled.job.name}.{wanted}",
            readers=[handover.notice],
            timeout=opt.duration("--timeout", timeout or environ.get("TIMEOUT", "").strip() or None),
        )
    handover.ended(settled, result)
    print_result(result, output)
    return result.exit_code
