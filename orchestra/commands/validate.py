"""``runner orchestra validate``."""

from __future__ import annotations

from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Pipelines; folders, looked through; - reads one.", show_default=False),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as mistakes.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Ask the schema endpoint of Orchestra too.")] = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Check pipelines: each mistake with its file, line and column. Exit code 1 when there are some."""
    import json as jsonlib
    import sys

    from orchestra.validation.files import validate_files

    verdict = validate_files(files, online=online)
    ok = not verdict.errors and not (strict and verdict.warnings)
    if json:
        print(jsonlib.dumps(verdict.record(ok=ok), indent=2))
        return 0 if ok else 1
    for problem in verdict.problems:
        if strict or not quiet or problem.severity == "error":
            print(problem)
    if not quiet:
        sys.stderr.write(f"{verdict.summary()}\n")
    return 0 if ok else 1
