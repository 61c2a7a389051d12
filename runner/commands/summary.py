"""What a command prints when a run ended."""

from __future__ import annotations

import os
import sys

from typer import echo, style

from runner.backfill import Result
from runner.commands.output import Output
from runner.errors import RunnerError
from runner.profile import STAGES
from runner.secrets import redact
from runner.units import format_seconds, format_size

_SHOWN = 10
_WORDS = {
    0: "complete",
    1: "ended with failures",
    3: "not finished",
}

_EQUAL = {
    "counts": "have as many rows as the source sent",
    "hash": "equal what the source sent, value by value",
    "source": "equal what the source has, value by value, by a second look at it",
}


def print_result(result: Result, output: Output) -> None:
    """Print the summary; with --json the stream of events has said it all."""
    if output.json:
        return
    published = [item for item in result.items if item.state == "published"]
    rows = sum(item.rows for item in published)
    size = sum(item.bytes for item in published)
    chunks = sum(len(item.chunks) for item in published)
    color = {0: "green", 1: "red"}.get(result.exit_code, "yellow")
    whole = sum(item.replace for item in published)
    speed = rows / max(result.seconds, 0.001)
    after = f"after {format_seconds(result.seconds)}"
    head = style(f"Run {result.run} {_WORDS[result.exit_code]}", fg=color, bold=True)
    _say(f"\n{head} {after}")
    how = f"{whole} as a whole, {len(published) - whole} by what changed"
    _say(
        f"  {len(published)} tables published ({how}) · {rows:,} rows · {format_size(size)} as Parquet · "
        f"{chunks} chunks · {speed:,.0f} rows/s"
    )
    if result.skipped:
        _say(f"  {len(result.skipped)} tables skipped: published by this run already, or held by another")
    if published and all(state.state == "verified" for item in published for state in item.chunks):
        _say(
            f"  {style(f'verified by {result.verified}', fg='green')}: {chunks} of {chunks} chunks "
            f"{_EQUAL[result.verified]}"
        )
    if result.stages:
        whole_time = sum(result.stages.values()) or 1.0
        for name, spent in sorted(result.stages.items(), key=lambda part: -part[1]):
            _say(f"  {name:9} {spent:8.2f} s {spent / whole_time:5.0%}  {style(STAGES[name], dim=True)}")
    problems: list[tuple[str, RunnerError]] = [(one.name, one.error) for one in result.rejected]
    problems += [(item.name, item.error) for item in result.items if item.error and item.state != "published"]
    for name, error in problems[:_SHOWN]:
        _say(f"  {style(f'✗ {name}', fg='red')}: {redact(error.message)}")
        if error.advice:
            _say(f"      {redact(error.advice)}")
    if len(problems) > _SHOWN:
        _say(f"  … and {len(problems) - _SHOWN} more: runner show {result.run}")
    waiting = [item for item in result.items if item.state in ("planned", "running")]
    if waiting:
        kept = [state for item in waiting for state in item.chunks if state.state != "planned"]
        total = sum(len(item.chunks) for item in waiting)
        _say(f"  {len(waiting)} tables are unfinished; {len(kept)} of their {total} chunks so far are kept")
        _say("  run the same command again: it goes on where it stopped")
    if result.folder.proof.exists():
        _say(f"  proof: {result.folder.proof}")
    _say(f"  report: {result.folder.report}")
    sys.stdout.flush()


def _say(line: str) -> None:
    """Print a line, in colours where there is a terminal that takes them. rich would take longer to import."""
    echo(line, color=False if os.environ.get("NO_COLOR") else None)
