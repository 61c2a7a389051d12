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
    from orchestra.validation import Asked, validate_files
    from runner.commands.output import Output

    return validate_files(files, Asked(strict=strict, online=online), Output(json, quiet, debug))
