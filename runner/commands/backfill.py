"""``runner backfill``: bring every selected table up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    job: opt.JobPath,
    tables: opt.Tables = None,
    since: opt.Since = None,
    until: opt.Until = None,
    full_refresh: opt.FullRefresh = False,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed in the last run.")] = False,
    verify: opt.Verify = "counts",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
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
    """Bring every selected table up to date: an unfinished run resumes, a finished one starts a new run."""
    from runner.commands.assembly import run_job, state_folder
    from runner.commands.handover import Handover
    from runner.commands.output import Output
    from runner.commands.summary import print_result
    from runner.jobfile import load_job
    from runner.secrets import environment
    from runner.settling import Options

    asked = Options(
        only=tuple(tables or ()),
        since=since,
        until=until,
        full_refresh=full_refresh,
        failed=failed,
        verify=verify,
        fail_fast=fail_fast,
        yes=yes,
        profile=profile,
        run_key=run_key,
    )
    output = Output(json, quiet, debug)
    with Handover("backfill", job.stem, environment(job.resolve().parent)) as handover:
        settled = load_job(job, env=env)
        state = state_folder(job, state_dir)
        longest = opt.duration("--timeout", timeout)
        result = run_job(settled, asked, output, state, readers=[handover.notice], timeout=longest)
    handover.ended(settled, result)
    print_result(result, output)
    return result.exit_code
