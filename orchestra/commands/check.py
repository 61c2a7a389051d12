"""``runner orchestra check``."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt

_WORDS = {
    "same": "✓ {pipeline}",
    "differs": "✗ {pipeline} is not what {job} generates; run: runner orchestra generate {command}",
    "missing": "✗ {pipeline} is missing; run: runner orchestra generate {job}",
    "orphan": "✗ {pipeline} was generated from {job}, which is gone; delete it",
    "foreign": "✗ {pipeline} was not generated, or its first line was changed; move it away and run: "
    "runner orchestra generate {job}",
    "twice": "✗ {pipeline} has the name of another pipeline; give {job} a name of its own",
}


def command(
    jobs: Annotated[
        list[Path] | None, typer.Argument(metavar="[JOB]...", help="Only the pipelines of these job files.")
    ] = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Fail where a committed pipeline is not what its job file generates now; shows the difference."""
    from orchestra.production.committed import check_pipelines
    from runner.errors import UsageError
    from runner.runs import project_root

    root = project_root(jobs[0] if jobs else Path.cwd())
    found = check_pipelines(root, jobs or [])
    if json:
        rows = [
            {"pipeline": str(one.pipeline.relative_to(root)), "job": one.job, "state": one.state, "diff": one.diff}
            for one in found
        ]
        print(jsonlib.dumps(rows, indent=2))
    else:
        for one in found:
            if one.state != "same" or not quiet:
                place = one.pipeline.relative_to(root)
                print(_WORDS[one.state].format(pipeline=place, job=one.job, command=one.command))
            if one.diff:
                print(one.diff)
    if not found:
        raise UsageError(
            f"No pipeline was generated from a job file in {root}, and no job file has production:.",
            guidance="Run it in the project, or name job files.",
        )
    return 1 if any(one.state != "same" for one in found) else 0
