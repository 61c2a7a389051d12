"""Options that several commands share."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

JobPath = Annotated[Path, typer.Argument(metavar="JOB", help="The job file.", show_default=False)]
Env = Annotated[str | None, typer.Option("--env", metavar="NAME", help="Environment of the job file.")]
StateDir = Annotated[Path | None, typer.Option("--state-dir", metavar="DIR", help="Where runs are kept.")]
Json = Annotated[bool, typer.Option("--json", help="JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Only warnings, errors and the result.")]
Debug = Annotated[bool, typer.Option("--debug", help="Every event, and tracebacks.")]
Tables = Annotated[
    list[str] | None, typer.Option("--tables", metavar="GLOB", help="Only these tables; may be given again.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="T", help="Replace the cursor's range from here on (UTC).")
]
Until = Annotated[str | None, typer.Option("--until", metavar="T", help="… up to here, exclusive.")]
FullRefresh = Annotated[bool, typer.Option("--full-refresh", help="Start the selected tables over.")]
Verify = Annotated[str, typer.Option("--verify", metavar="HOW", help="none, counts, hash or source.")]
Profile = Annotated[bool, typer.Option("--profile", help="Measure where the time goes.")]
RunKey = Annotated[
    str | None, typer.Option("--run-key", metavar="KEY", help="What the run is the answer to: done once for each key.")
]
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="T", help="End in order after so long: 55m. The same command goes on (exit 3)."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do what asks for a confirmation.")]


def duration(option: str, text: str | None) -> timedelta | None:
    """Return what a duration on the command line means.

    Raises:
        UsageError: It is none.
    """
    from runner.errors import UsageError
    from runner.units import parse_duration

    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}.", guidance="Write for example 30s, 5m or 1h30m.") from None
