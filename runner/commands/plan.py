"""``runner plan``: tables, chunks, estimates, and what will be written."""

from __future__ import annotations

import json as jsonlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from runner.commands import options as opt

if TYPE_CHECKING:
    from runner.jobfile import SettledJob
    from runner.survey import Survey


def command(
    job: opt.JobPath,
    tables: opt.Tables = None,
    lock: Annotated[bool, typer.Option("--lock", help="Write the lock file beside the job file.")] = False,
    explain: Annotated[
        str | None, typer.Option("--explain", metavar="TABLE", help="Where each value of a table comes from.")
    ] = None,
    env: opt.Env = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show tables, chunks, estimates and what will be created or replaced; changes nothing."""
    from runner.columns import HASH_KEY
    from runner.commands.assembly import assemble, state_folder
    from runner.commands.output import run_async
    from runner.errors import UsageError
    from runner.lockfile import LockFile
    from runner.secrets import environment
    from runner.survey import survey

    if lock and tables:
        raise UsageError("A lock holds all tables of a job.", guidance="Leave --tables out.")
    settled, source, destination = assemble(job, env)
    state = state_folder(job, state_dir)
    only = [explain] if explain else tables or ()
    found = run_async(lambda: survey(settled, source, destination, state, only=only))
    path = LockFile.path(job)
    if lock:
        LockFile.of(found.plan).write(path)
    known = LockFile.read(path)
    drift = known.compare(found.plan) if known and not only else {}
    if json:
        print(jsonlib.dumps(_as_json(found, drift, destination.describe()), indent=2))
    elif explain:
        _explain(settled, found)
    else:
        _print(found, destination.describe(), drift, quiet=quiet)
        if destination.unproved:
            print(f"! unproved: {destination.unproved}")
        if lock:
            print(f"wrote {path}")
    unkeyed = bool(found.plan.hashed) and not environment(job.resolve().parent).get(HASH_KEY)
    if unkeyed and not json:
        print(f"✗ columns are hashed and {HASH_KEY} is not set")
    return 1 if found.plan.rejected or unkeyed else 0


def _print(found: Survey, destination: str, drift: dict[str, str], *, quiet: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from runner.commands.screen import screen
    from runner.units import format_seconds, format_size

    console = screen()
    grid = Table("source", "destination", "mode", "effect", "rows", "size", "chunks", "why", box=None, pad_edge=False)
    for column in (4, 5, 6):
        grid.columns[column].justify = "right"
    for one in found.plan.tables:
        table = one.scan.table
        chunks = str(found.estimate.chunks[one.name])
        size = format_size(table.bytes)
        grid.add_row(
            escape(one.name), one.target.name, one.mode, found.effect(one), f"{table.rows:,}", size, chunks, one.why
        )
    if not quiet:
        console.print(grid)
    for rejected in found.plan.rejected:
        console.print(f"✗ {rejected.name}: {rejected.error.message} {rejected.error.advice}", markup=False)
    for name, change in drift.items():
        console.print(f"! {name} differs from the lock file: {change}", markup=False)
    for name, note in _notes(found).items():
        console.print(f"  {name}: {note}", markup=False)
    total = found.estimate
    basis = "by the speed of the last run" if total.measured else "by a usual speed"
    console.print(
        f"\n{len(found.plan.tables)} tables → {destination}, dataset {found.plan.dataset}\n"
        f"about {total.rows:,} rows, {format_size(total.bytes)}, {sum(total.chunks.values())} chunks, "
        f"{total.requests} statements, {format_seconds(total.seconds)} {basis}",
        markup=False,
    )
    if not found.position.consistent:
        console.print(f"! not one snapshot: {found.position.note}", markup=False)


def _notes(found: Survey) -> dict[str, str]:
    """Return the conversions on the way, which a job says before it starts."""
    notes = {}
    for one in found.plan.tables:
        changed = [f"{column.name} {column.note}" for column in one.scan.columns if column.note]
        if changed:
            notes[one.name] = ", ".join(changed)
    return notes


def _explain(settled: SettledJob, found: Survey) -> None:
    from runner.job import TableEntry, matches

    for one in found.plan.tables:
        print(f"{one.name} → {one.target.name}")
        print(f"  effect: {found.effect(one)}")
        origin: dict[str, tuple[Any, str]] = {}
        layers = [("defaults", settled.job.defaults)]
        layers += [
            (f"tables: {pattern}", entry or TableEntry())
            for pattern, entry in settled.job.tables.items()
            if matches(pattern, one.name)
        ]
        for place, entry in layers:
            for key in entry.model_fields_set:
                origin[key.rstrip("_")] = (getattr(entry, key), place)
        for key, (value, place) in origin.items():
            print(f"  {key}: {value}  ({place})")
        print(f"  mode in force: {one.mode}  ({one.why})")
        print(f"  cursor in force: {one.cursor}")
        key = f"{', '.join(one.target.key)}  ({one.key_from})" if one.target.key else "none needed"
        print(f"  key in force: {key}")
        print(f"  chunks: {found.estimate.chunks[one.name]}  (limits: chunk_rows, chunk_bytes)")
        for column in one.scan.columns:
            note = f"  ({column.note})" if column.note else ""
            print(f"  column {column.name}: {column.native} → {column.type}{note}")
    for rejected in found.plan.rejected:
        print(f"✗ {rejected.name}: {rejected.error.message} {rejected.error.advice}")


def _as_json(found: Survey, drift: dict[str, str], destination: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "dataset": found.plan.dataset,
        "consistent": found.position.consistent,
        "rows": found.estimate.rows,
        "bytes": found.estimate.bytes,
        "chunks": sum(found.estimate.chunks.values()),
        "requests": found.estimate.requests,
        "seconds": round(found.estimate.seconds, 1),
        "drift": drift,
        "rejected": {one.name: one.error.record() for one in found.plan.rejected},
        "tables": [
            {
                "source": one.name,
                "destination": one.target.name,
                "mode": one.mode,
                "why": one.why,
                "effect": found.effect(one),
                "cursor": one.cursor,
                "key": list(one.target.key),
                "rows": one.scan.table.rows,
                "bytes": one.scan.table.bytes,
                "chunks": found.estimate.chunks[one.name],
            }
            for one in found.plan.tables
        ],
    }
