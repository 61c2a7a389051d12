"""``runner report``: the report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or latest.")] = "latest",
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Write the report of a run, one self-contained HTML page, and print where it is."""
    import json as jsonlib

    from runner.commands.assembly import state_folder
    from runner.report import write_report

    folder = state_folder(Path.cwd(), state_dir).find(run)
    write_report(folder)
    print(jsonlib.dumps({"report": str(folder.report)}) if json else folder.report)
    return 0
