"""``runner orchestra generate``."""

from __future__ import annotations

import json as jsonlib
import sys
from pathlib import Path
from typing import Annotated

import typer

from runner.commands import options as opt


def command(
    job: opt.JobPath,
    style: Annotated[
        str | None, typer.Option("--style", metavar="HOW", help="matrix or tasks; the job file's by default.")
    ] = None,
    batch_small: Annotated[
        int | None, typer.Option("--batch-small", metavar="N", min=2, help="N small tables share one task.")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--output", metavar="FILE", help="Write elsewhere; - prints the pipeline.")
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> int:
    """Write the production pipeline of a job: a task for each table of its lock file, tests, dbt; asks nobody."""
    from orchestra.production.committed import render, write_pipeline
    from orchestra.production.generator import notes, quality_tasks
    from orchestra.production.recipe import read_recipe
    from runner.document import nearest
    from runner.errors import UsageError

    if style not in (None, "matrix", "tasks"):
        near = nearest(style, ["matrix", "tasks"])
        hint = f" Did you mean {near!r}?" if near else ""
        raise UsageError(f"--style {style!r} is unknown.{hint}", guidance="Use matrix or tasks.")
    recipe = read_recipe(job, style=style, batch_small=batch_small)
    if out == "-":
        print(render(recipe), end="")
        return 0
    path = Path(out) if out else recipe.pipeline
    changed = write_pipeline(recipe, path)
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    tests = list(quality_tasks(recipe))
    if json:
        found = {
            "pipeline": str(path), "job": recipe.job, "changed": changed, "style": recipe.style,
            "tables": len(recipe.lock.tables), "tasks": len(recipe.elements), "tests": tests, "digest": recipe.digest,
        }  # fmt: skip
        print(jsonlib.dumps(found, indent=2))
        return 0
    print(f"{'wrote' if changed else 'unchanged:'} {path}")
    shared = f" in {len(recipe.elements)} tasks" if len(recipe.elements) < len(recipe.lock.tables) else ""
    print(f"{len(recipe.lock.tables)} tables{shared}, {recipe.at_once} at once")
    print(f"tests: {', '.join(tests) or 'none'}")
    for words in notes(recipe):
        sys.stderr.write(f"! {words}\n")
    return 0
