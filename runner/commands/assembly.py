"""From a settled job to the objects that do it, and from a coroutine to an exit code."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
from pydantic import ValidationError

from runner.backfill import Backfill, Result
from runner.clock import Clock, SystemClock
from runner.commands.output import Output, run_async
from runner.document import nearest
from runner.errors import JobFileError, RunnerError, UsageError
from runner.events import Reader, Stream
from runner.jobfile import SettledJob, load_job
from runner.limits import SourceLimits
from runner.load import Destination
from runner.lockfile import LockFile
from runner.log import EventFile, JsonLines, Lines
from runner.naming import fingerprint
from runner.plugins import load_plugin
from runner.progress import Progress, Tally
from runner.report import write_report
from runner.requests import Governed, govern
from runner.runs import StateFolder, project_root, state_dir
from runner.secrets import environment
from runner.settling import Options
from runner.source import Source
from runner.tasks import task_group
from runner.verify import WAYS
from runner.writers.folder import Documents

# What libpq takes: a URI, or keyword=value pairs.
_DSN = re.compile(r"postgres(ql)?://|\s*\w+\s*=")
# The schema of a PostgreSQL that holds state.
_STATE_SCHEMA = "orchestra_runner"
_TERM_GRACE = 15.0


def make_source(settled: SettledJob) -> Source:
    """Make the job's source.

    Raises:
        JobFileError: A wrong key or value among the connector's own.
    """
    found: Source = _plug_in("runner.sources", settled.source.type, settled.source.options, settled, "source")
    if isinstance(found, Governed):
        # Whoever works with it for longer governs it anew.
        clock = SystemClock()
        govern(found, settled, SourceLimits.of(settled.limits, clock), clock)
    elif settled.limits.quota is not None:
        raise UsageError(
            f"limits.quota: a source of type {settled.source.type} has no quota of requests that it tells.",
            guidance="Leave it out; limits.rate and limits.connections bound what we ask.",
        )
    return found


def make_destination(settled: SettledJob) -> Destination:
    """Make the job's destination; a relative path starts at the project's root."""
    found: Destination = _plug_in(
        "runner.destinations",
        settled.destination.type,
        settled.destination.options,
        settled,
        "destination",
        **_room(settled),
    )
    if settled.state == "destination":
        return found
    from runner.writers.apart import DestinationApart

    return DestinationApart(found, _documents(settled, found))


def _documents(settled: SettledJob, destination: Destination) -> Callable[[str], Documents]:
    """Return what returns the documents of a dataset: each destination has its own."""
    options = {"url": settled.state} if isinstance(settled.state, str) else settled.state
    words = re.sub(r"[^a-z0-9]+", "-", destination.describe().lower())[:40].strip("-")
    place = f"{words}-{fingerprint(destination.describe())}"
    url = str(options.get("url", ""))
    if nearest(url, ["destination"]) and "/" not in url:
        raise JobFileError(f"{settled.path}: state: {url!r} is no place; did you mean destination?")
    if _DSN.match(url):
        given = {"dsn": url, **{key: value for key, value in options.items() if key != "url"}}
        sql: Any = _plug_in("runner.destinations", "postgres", given, settled, "state", **_room(settled))

        def in_database(dataset: str) -> Documents:
            from runner.writers.sqldocuments import SqlDocuments

            return SqlDocuments(sql.writer(_STATE_SCHEMA), f"{place}/{dataset}/")

        return in_database
    files: Any = _plug_in("runner.destinations", "filesystem", options, settled, "state", **_room(settled))
    return lambda dataset: files.store(f"{place}/{dataset}")


def _room(settled: SettledJob) -> dict[str, Any]:
    return {"folder": project_root(settled.path), "memory": settled.limits.memory // 2}


def _plug_in(group: Any, kind: str, options: dict[str, Any], settled: SettledJob, key: str, **more: Any) -> Any:
    try:
        return load_plugin(group, kind)(options, **more)
    except ImportError as error:
        raise UsageError(
            f"The {key} type {kind!r} needs the package {error.name!r}.",
            guidance=f"Install it: pip install 'orchestra-blueprints[{kind}]'.",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        problem = "unknown key" if first["type"] == "extra_forbidden" else str(first["msg"]).lower()
        raise JobFileError(f"{settled.path}: {key}.{name}: {problem}.") from None


def assemble(job: Path, env: str | None) -> tuple[SettledJob, Source, Destination]:
    """Return a job with its source and its destination."""
    settled = load_job(job, env=env)
    return settled, make_source(settled), make_destination(settled)


def state_folder(start: Path, asked: Path | None) -> StateFolder:
    """Return the state folder for a job file or a working directory."""
    folder = start if start.is_dir() else start.resolve().parent
    return StateFolder(state_dir(start, asked, environment(folder)))


def run_job(
    settled: SettledJob,
    options: Options,
    output: Output,
    state: StateFolder,
    *,
    command: str = "backfill",
    owned: str | None = None,
    readers: Sequence[Reader] = (),
    timeout: timedelta | None = None,
) -> Result:
    """Run a job with progress, signals and report.

    Args:
        readers: Who else reads the run's events.
        timeout: After so long it drains, as for a signal.

    Raises:
        UsageError: A way of verifying that does not exist.
        RunnerError: Nothing could start.
    """
    check_verify(options.verify)
    clock = SystemClock()
    stream = Stream(clock)
    tally = Tally(clock, settled.limits.connections)
    stream.subscribe(tally)
    events = EventFile()
    stream.subscribe(events)
    for reader in readers:
        stream.subscribe(reader)
    live = sys.stderr.isatty() and not (output.json or output.quiet or output.debug or os.environ.get("CI"))
    if output.json:
        stream.subscribe(JsonLines())
    elif not live:
        stream.subscribe(Lines(debug=output.debug, quiet=output.quiet))
    backfill = Backfill(
        settled,
        make_source(settled),
        make_destination(settled),
        options,
        clock=clock,
        stream=stream,
        state=state,
        environ=environment(settled.path.resolve().parent),
        lock=LockFile.read(LockFile.path(settled.path)),
        command=command,
        owned=owned,
        opened=lambda folder: events.open(folder.events),
    )
    tally.disk = backfill.disk
    try:
        with Progress(tally, enabled=live):
            result = run_async(lambda: _with_signals(backfill, clock, timeout))
    finally:
        events.close()
    try:
        write_report(result.folder)
    except RunnerError as error:
        # The rows are safe; a report can be written again: runner report RUN.
        sys.stderr.write(f"warning: no report: {error.message}\n")
    return result


def check_verify(how: str) -> None:
    """Refuse a way of verifying that does not exist."""
    if how not in WAYS:
        near = nearest(how, WAYS)
        hint = f" Did you mean {near!r}?" if near else ""
        raise UsageError(f"--verify {how!r} is unknown.{hint}", guidance=f"Use {', '.join(WAYS)}.")


async def _with_signals(backfill: Backfill, clock: Clock, timeout: timedelta | None) -> Result:
    """Run; the first signal drains, the second aborts."""

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            count = 0
            async for number in signals:
                count += 1
                if count == 1:
                    # Who ends a container sends SIGTERM, and kills it half a minute later.
                    backfill.drain(_TERM_GRACE if number == signal.SIGTERM else None)
                else:
                    backfill.abort()

    async def end() -> None:
        if timeout is not None:
            await clock.sleep(timeout.total_seconds())
            backfill.drain()

    async with task_group() as group:
        group.start_soon(listen)
        group.start_soon(end)
        try:
            result = await backfill.run()
        finally:
            group.cancel_scope.cancel()
    return result
