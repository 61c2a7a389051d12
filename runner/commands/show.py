"""``runner show``: one run, from its ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from runner.commands import options as opt

_STYLES = {"published": "green", "failed": "red", "parked": "yellow"}


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, the beginning of it, or latest.")] = "latest",
    table: Annotated[str | None, typer.Option("--table", help="Show the chunks of one table.")] = None,
    state_dir: opt.StateDir = None,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> int:
    """Show one run: its tables, or the chunks of one of them."""
    import json as jsonlib

    from runner.commands.assembly import state_folder
    from runner.errors import UsageError
    from runner.ledger import LedgerReader

    runs = state_folder(Path.cwd(), state_dir)
    folder = runs.find(run)
    with LedgerReader(folder.ledger) as ledger:
        record, tables, chunks = ledger.run() or {}, ledger.tables(), ledger.chunks()
        attempts = ledger.attempts()
    if record:
        record["state"] = runs.state(record)
    if table and not any(row["name"] == table for row in tables):
        bare = [row["name"] for row in tables if row["name"].partition(".")[2] == table]
        table = bare[0] if len(bare) == 1 else table
    if table and not any(row["name"] == table for row in tables):
        raise UsageError(f"Run {folder.run} has no table {table!r}.", guidance="`runner show` lists them.")
    chunks = [chunk for chunk in chunks if table is None or chunk["table_name"] == table]
    for row in tables:
        row["error"] = jsonlib.loads(row["error"]) if row["error"] else None
        row["plan"] = jsonlib.loads(row["plan"])
    if json:
        print(jsonlib.dumps({"run": record, "tables": tables, "chunks": chunks, "attempts": attempts}, indent=2))
    elif table:
        _print_chunks(chunks)
    else:
        _print_run(record, tables, chunks, quiet=quiet)
    return 0


def _print_run(
    record: dict[str, Any], tables: list[dict[str, Any]], chunks: list[dict[str, Any]], *, quiet: bool
) -> None:
    from rich.markup import escape
    from rich.table import Table

    from runner.commands.screen import screen

    console = screen()
    console.print(
        f"run {record['run']} · job {record['job']} · {record['state']} · {record['source']} → "
        f"{record['destination']}, dataset {record['dataset']}",
        markup=False,
    )
    counts: dict[str, list[int]] = {}
    for chunk in chunks:
        total = counts.setdefault(chunk["table_name"], [0, 0])
        total[0] += chunk["state"] in ("loaded", "verified")
        total[1] += 1
    grid = Table("table", "destination", "mode", "state", "chunks", "rows", "mark", box=None, pad_edge=False)
    for row in tables:
        if quiet and row["state"] == "published":
            continue
        done, total_ = counts.get(row["name"], [0, 0])
        style = _STYLES.get(row["state"], "default")
        grid.add_row(
            escape(row["name"]), row["destination"], row["mode"], f"[{style}]{row['state']}[/]", f"{done}/{total_}",
            "" if row["rows"] is None else f"{row['rows']:,}", row["mark"] or "",
        )  # fmt: skip
    console.print(grid)
    for row in tables:
        if row["error"]:
            console.print(f"✗ {row['name']}: {row['error']['message']} {row['error']['guidance']}", markup=False)


def _print_chunks(chunks: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from runner.commands.screen import screen

    grid = Table("chunk", "bounds", "state", "epoch", "rows", "seconds", "hash", box=None, pad_edge=False)
    for chunk in chunks:
        bounds = " ".join(f"{key} {value}" for key, value in chunk["bounds"].items()) or "the whole table"
        rows = "" if chunk["rows"] is None else f"{chunk['rows']:,}"
        seconds = "" if chunk["seconds"] is None else f"{chunk['seconds']:.2f}"
        digest = str(chunk.get("hash") or "").partition(":")[2][:12]
        grid.add_row(chunk["id"], bounds, chunk["state"], str(chunk["epoch"] or ""), rows, seconds, digest)
    screen().print(grid)
